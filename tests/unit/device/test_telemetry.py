"""Telemetry on its way up: in batches, once over a connection, again over the next unless confirmed."""

from desk import STATE, Desk, Dice, reason
from outbox import Outbox, Session, filled, sent

from dormouse.errors import ProtocolError


def test_with_nothing_owed_nothing_is_sent():
    """A quiet wake costs no publish."""
    desk, outbox = filled(0)
    assert sent(outbox, desk).sent == []
    assert not outbox.pending()


def test_all_records_go_once_in_order_in_batches():
    """Each publish at most 1 KiB, and of the state that numbered it."""
    desk, outbox = filled(60)
    session = sent(outbox, desk)
    assert session.numbers() == list(range(1, 61))
    assert 5 <= len(session.sent) <= 8
    assert all(message["state"] == STATE for _, message, _ in session.sent)
    assert session.sent[0][1]["records"][0] == [1, 1001, {"n": 1, "x": "x" * 60}]
    outbox.send(session)
    assert len(session.numbers()) == 60
    assert not outbox.pending()


def test_records_of_any_size_fill_batches_of_at_most_1_kib():
    """Session.publish above checks the size; none may be left out at a batch's edge."""
    desk = Desk()
    outbox = Outbox(desk, 0)
    dice = Dice(4)
    for n in range(60):
        outbox.record(None, n, {"x": "y" * dice.below(500)})
    outbox.telemetry.now = 100
    assert sent(outbox, desk).numbers() == list(range(1, 61))


def test_a_small_flight_is_continued_by_the_next():
    """The first flight takes what fits, the rest follows after CONNACK, and nothing goes twice."""
    _, outbox = filled(60)
    session = Session(0)
    for room in (0, 1, 1, 3, 4, 20):
        session.room = room
        outbox.send(session)
        assert len(session.sent) <= room
        assert session.numbers() == list(range(1, len(session.numbers()) + 1))
        assert outbox.pending() == (len(session.numbers()) < 60)
    assert session.numbers() == list(range(1, 61))


def test_what_was_confirmed_in_an_earlier_wake_is_not_sent_again():
    """The state keeps the highest number."""
    desk, outbox = filled(40, acked=25)
    assert sent(outbox, desk).numbers() == list(range(26, 41))
    assert sent(Outbox(desk, 40), desk).numbers() == []
    assert sent(Outbox(desk, 4000), desk).numbers() == []


def test_acked_advances_over_what_is_contiguous_only():
    """A PUBACK that overtakes another proves nothing of the one before."""
    desk, outbox = filled(60)
    session = sent(outbox, desk)
    last = [message["records"][-1][0] for _, message, _ in session.sent]
    session.ack(1)
    session.ack(3)
    assert outbox.acked == 0
    session.ack(0)
    assert outbox.acked == last[1]
    session.ack(2)
    assert outbox.acked == last[3]
    for at in range(4, len(last)):
        session.ack(at)
    assert outbox.acked == 60


def test_a_broken_connection_sends_again_what_follows_the_confirmed():
    """And what was confirmed never again in this wake."""
    desk, outbox = filled(60)
    session = sent(outbox, desk, 4)
    session.ack(0)
    confirmed = session.sent[0][1]["records"][-1][0]
    outbox.rewind()
    assert outbox.pending()
    again = sent(outbox, desk)
    assert again.numbers() == list(range(confirmed + 1, 61))
    again.ack_all()
    assert outbox.acked == 60
    outbox.rewind()
    assert sent(outbox, desk).sent == []


def test_acked_never_goes_back():
    """Whatever order connections break and PUBACKs come in."""
    desk, outbox = filled(40)
    dice = Dice(9)
    best = 0
    while best < 40:
        session = sent(outbox, desk, 1 + dice.below(5))
        order = list(range(len(session.sent)))
        while order and dice.below(5):
            session.ack(order.pop(dice.below(len(order))))
            assert outbox.acked >= best
            best = outbox.acked
        if dice.below(2):
            outbox.send(Session(2))
        outbox.rewind()
    assert not outbox.pending()


def test_a_record_stored_while_others_are_under_way_goes_too():
    """`pending` must not say that all is said."""
    desk, outbox = filled(5)
    session = sent(outbox, desk)
    outbox.record(None, 1, {"late": 1})
    assert outbox.pending()
    outbox.send(session)
    assert session.numbers() == [1, 2, 3, 4, 5, 6]
    session.ack_all()
    assert outbox.acked == 6


def test_without_a_clock_the_age_is_sent():
    """Minus the seconds since, by the device's own count, which goes on over sleep; never in the future."""
    desk = Desk()
    outbox = Outbox(desk, 0)
    outbox.record(None, 100, {"a": 1})
    outbox.record(1795000000, 150, {"b": 1})
    outbox.record(None, 400, {"c": 1})
    outbox = Outbox(desk, 0)
    outbox.telemetry.now = 350
    session = sent(outbox, desk)
    assert session.sent[0][1]["records"] == [[1, -250, {"a": 1}], [2, 1795000000, {"b": 1}], [3, 0, {"c": 1}]]


# ---- records that the host asks for again


def wanted(outbox, desk, *ranges):
    """Answers to `resend` of each range, and the numbers that go."""
    gone = [outbox.resend(first, last) for first, last in ranges]
    return gone, sent(outbox, desk).numbers()


def test_records_that_are_still_there_go_again():
    """No PUBACK was proof that the host has them."""
    desk, outbox = filled(40, acked=40)
    assert wanted(outbox, desk, (5, 8)) == ([0], [5, 6, 7, 8])
    assert not outbox.pending()
    assert wanted(outbox, desk, (1, 1), (39, 40)) == ([0, 0], [1, 39, 40])


def test_a_range_of_many_batches_goes_whole():
    """And may be interrupted by a full flight."""
    _, outbox = filled(60, acked=60)
    outbox.resend(3, 58)
    session = Session(0)
    while outbox.pending():
        session.room += 1
        outbox.send(session)
    assert session.numbers() == list(range(3, 59))


def test_a_range_that_is_inverted_or_in_the_future_is_nothing():
    """The host may have forgotten more than we know."""
    desk, outbox = filled(40, acked=40)
    ranges = ((8, 5), (41, 50), (1000, 2000), (40, 1), (1 << 30, 1 << 30))
    assert wanted(outbox, desk, *ranges) == ([0] * 5, [])


def test_what_is_gone_is_counted():
    """And the rest of the range goes."""
    desk, outbox = filled(110, 400)
    outbox = Outbox(desk, 110)
    oldest = outbox.telemetry.oldest()
    assert oldest > 5
    assert wanted(outbox, desk, (1, oldest + 1)) == ([oldest - 1], [oldest, oldest + 1])
    assert wanted(outbox, desk, (3, oldest - 1)) == ([oldest - 3], [])
    assert wanted(outbox, desk, (2, 2)) == ([1], [])
    assert wanted(outbox, desk, (oldest - 2, 1 << 30))[0] == [2]


def test_what_goes_in_this_wake_anyway_does_not_go_twice():
    """A range that reaches into what was never confirmed."""
    desk, outbox = filled(40, acked=30)
    assert wanted(outbox, desk, (28, 35)) == ([0], list(range(31, 41)) + list(range(28, 31)))
    desk, outbox = filled(40, acked=30)
    assert wanted(outbox, desk, (31, 40)) == ([0], list(range(31, 41)))


def test_records_asked_for_again_survive_a_broken_connection():
    """Until their PUBACK has come."""
    desk, outbox = filled(60, acked=60)
    outbox.resend(10, 50)
    session = sent(outbox, desk, 3)
    first = session.sent[1][1]["records"][0][0]
    last = session.sent[1][1]["records"][-1][0]
    session.ack(1)
    outbox.rewind()
    again = sent(outbox, desk)
    assert sorted(again.numbers()) == [n for n in range(10, 51) if not first <= n <= last]
    again.ack_all()
    outbox.rewind()
    assert not outbox.pending()


def test_many_requests_stay_bounded():
    """What a command adds must not grow without end; and one that is refused says so."""
    desk, outbox = filled(20, acked=20)
    for _ in range(4):
        outbox.resend(1, 2)
    assert "waiting" in reason(ProtocolError, outbox.resend, 1, 2)
    assert len(sent(outbox, desk).numbers()) <= 8
