"""Results and telemetry on their way up: once over a connection, again over the next unless confirmed, in batches."""

import json

from desk import STATE, Desk, Dice, payload, reason

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse.records import LOCAL, UNIX, Telemetry
from dormouse.results import Results


class Session:
    """Takes what is published, `room` publishes at most, and keeps what confirms each."""

    def __init__(self, room=1000):
        self.room = room
        self.sent: list = []  # (leaf, message, confirmed)

    def fits(self, size):
        assert size == protocol.BATCH
        return len(self.sent) < self.room

    def publish(self, leaf, pieces, confirmed=None):
        data = b"".join(pieces)
        assert len(data) <= protocol.BATCH
        self.sent.append((leaf, json.loads(data), confirmed))

    def ack(self, at):
        """The PUBACK of publish number `at`."""
        confirmed = self.sent[at][2]
        if confirmed:
            confirmed[0](*confirmed[1:])

    def ack_all(self):
        for at in range(len(self.sent)):
            self.ack(at)

    def numbers(self):
        """Of all telemetry records, in the order they went."""
        return [
            entry[0] for leaf, message, _ in self.sent if leaf == protocol.TELEMETRY for entry in message["records"]
        ]

    def results(self):
        """Of all results: ids, or what else they name."""
        found = []
        for leaf, message, _ in self.sent:
            if leaf == protocol.RESULT:
                found += [entry.get("id") or entry.get("do") for entry in message]
        return found


class Outbox:
    """Results and telemetry, sent as a connection sends them."""

    def __init__(self, desk, acked):
        self.desk = desk
        self.results = Results(desk.inbox)
        self.telemetry = Telemetry(desk.storage, acked)
        self.answer = self.results.refuse
        self.resend = self.telemetry.resend

    @property
    def acked(self):
        return self.telemetry.acked

    @property
    def full(self):
        return self.results.full

    def record(self, unix, now, values):
        data = codec.encode(values)
        return self.telemetry.add(LOCAL, now, data) if unix is None else self.telemetry.add(UNIX, unix, data)

    def send(self, session):
        while session.fits(protocol.BATCH):
            if not self.results.send(session) and not self.telemetry.send(session, self.desk.inbox.state):
                return

    def pending(self):
        return self.results.pending() or self.telemetry.pending()

    def rewind(self):
        self.results.rewind()
        self.telemetry.rewind()


def filled(count, size=60, acked=0):
    """A desk, and an outbox with so many records; the first `acked` are confirmed."""
    desk = Desk()
    outbox = Outbox(desk, 0)
    for n in range(1, count + 1):
        outbox.record(1000 + n, n, {"n": n, "x": "x" * size})
    return desk, Outbox(desk, acked)


def sent(outbox, desk, room=1000):
    session = Session(room)
    outbox.send(session)
    return session


def done(desk, count, detail=b""):
    """Settle commands 1 to `count`."""
    for n in range(1, count + 1):
        desk.offer(payload(n))
        desk.run("succeeded", detail)
    desk.inbox.commit()


# ---- telemetry


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


# ---- results


def test_settled_commands_are_answered_in_order_in_one_publish():
    """Each with its status, its value and the CRC of the bytes first accepted."""
    desk, outbox = filled(0)
    done(desk, 3, b',"value":{"v":1}')
    session = sent(outbox, desk)
    assert len(session.sent) == 1
    assert session.sent[0][0] == protocol.RESULT
    first = session.sent[0][1][0]
    assert first == {
        "id": STATE + "-l.1",
        "status": "succeeded",
        "crc": desk.window().crc(1),
        "value": {"v": 1},
    }
    assert session.results() == [STATE + "-l.%d" % n for n in (1, 2, 3)]


def test_results_are_owed_until_confirmed_and_told_once_a_connection():
    """PUBACK ends it; a broken connection begins it again."""
    desk, outbox = filled(0)
    done(desk, 3)
    session = sent(outbox, desk)
    assert not outbox.pending()
    outbox.send(session)
    assert len(session.results()) == 3
    outbox.rewind()
    assert outbox.pending()
    session = sent(outbox, desk)
    assert len(session.results()) == 3
    session.ack(0)
    outbox.rewind()
    assert sent(outbox, desk).sent == []
    assert desk.owed() == []


def test_results_of_all_ledgers_go_and_only_the_confirmed_are_forgotten():
    """Batches cross ledgers; the size of each is checked by Session.publish."""
    desk, outbox = filled(0)
    for ledger in ("a", "bb", "ccc"):
        for n in range(1, 21):
            desk.offer(payload(n, ledger=ledger))
            desk.run("failed", b',"why":"%s"' % (b"w" * (n * 7 % 90)))
    session = sent(outbox, desk)
    names = session.results()
    assert sorted(names) == sorted("%s-%s.%d" % (STATE, x, n) for x in ("a", "bb", "ccc") for n in range(1, 21))
    assert len(session.sent) > 4
    session.ack(2)
    outbox.rewind()
    kept = len(session.sent[2][1])
    assert len(sent(outbox, desk).results()) == 60 - kept


def test_a_value_too_long_for_a_batch_goes_by_itself():
    """describe and log are longer than 1 KiB."""
    desk, outbox = filled(0)
    done(desk, 1)
    desk.offer(payload(2))
    desk.run("succeeded", b',"value":"%s"' % (b"v" * 2000))
    desk.offer(payload(3))
    desk.run()
    sizes = []

    class Long(Session):
        def publish(self, leaf, pieces, confirmed=None):
            data = b"".join(pieces)
            sizes.append(len(data))
            self.sent.append((leaf, json.loads(data), confirmed))

    session = Long()
    outbox.send(session)
    assert session.results() == [STATE + "-l.%d" % n for n in (1, 2, 3)]
    assert [size > protocol.BATCH for size in sizes] == [False, True, False]


def test_answers_that_no_window_owes_go_once_and_again_after_a_break_in_their_order():
    """Refusals, duplicates' statuses, and what came without an id."""
    desk, outbox = filled(0)
    for n in range(16):
        outbox.answer(codec.result("rejected", None, n, True, codec.why_detail("w" * 45), "c%d" % n))
    names = ["c%d" % n for n in range(16)]
    for acked in (1, 0, None):
        session = sent(outbox, desk)
        assert session.results() == names
        assert len(session.sent) == 2
        assert not outbox.pending()
        outbox.send(session)
        assert len(session.sent) == 2
        if acked is None:
            break
        session.ack(acked)
        gone = [entry["do"] for entry in session.sent[acked][1]]
        outbox.rewind()
        assert outbox.pending()
        names = [name for name in names if name not in gone]
        for n in range(len(gone)):
            name = "n%d-%d" % (acked, n)
            outbox.answer(codec.result("rejected", None, n, True, codec.why_detail("w" * 45), name))
            names.append(name)
    session.ack_all()
    outbox.rewind()
    assert sent(outbox, desk).sent == []


def test_two_equal_answers_are_two():
    """One PUBACK must not take both away."""
    desk, outbox = filled(0)
    entry = codec.result("rejected", None, 5, True, codec.why_detail("w" * 100), "x" * 40)
    for _ in range(10):
        outbox.answer(entry)
    session = sent(outbox, desk)
    assert len(session.sent) == 2
    session.ack(0)
    outbox.rewind()
    assert len(sent(outbox, desk).results()) == 10 - len(session.sent[0][1])


def test_with_16_answers_waiting_no_further_command_is_taken():
    """A stranger's rubbish must not fill the memory; first it is answered."""
    desk, outbox = filled(0)
    for _ in range(15):
        outbox.answer(b"{}")
    assert not outbox.full
    outbox.answer(b"{}")
    assert outbox.full
    sent(outbox, desk)
    assert not outbox.full


def test_of_many_answers_that_cannot_be_sent_the_newest_are_kept():
    """Their senders ask again; memory is bounded, whether they wait, fly or come back from a broken connection."""
    desk, outbox = filled(0)
    for n in range(500):
        outbox.answer(codec.result("rejected", None, n))
        assert len(outbox.results.refusals) <= 32
    crcs = []
    for _ in range(3):
        session = sent(outbox, desk)
        crcs = [entry["crc"] for _, message, _ in session.sent for entry in message]
        assert crcs == list(range(500 - len(crcs), 500))
        outbox.rewind()
        assert len(outbox.results.refusals) <= 32
    assert len(crcs) > 20
    session = sent(outbox, desk)
    for n in range(100):
        outbox.answer(codec.result("rejected", None, n, True, codec.why_detail("w" * 60)))
        outbox.send(session)
    assert sum(len(entry) for _, entry in outbox.results.refusals) <= 2 * protocol.BATCH
    session.ack_all()
    outbox.rewind()
    assert sent(outbox, desk).sent == []


def test_results_come_before_answers_and_those_before_telemetry():
    """When a flight is full, what the sender of a command waits for has gone."""
    desk, outbox = filled(30)
    outbox.answer(codec.result("unknown", None, 1, True, b"", "x"))
    done(desk, 2)
    session = sent(outbox, desk)
    assert session.results() == [STATE + "-l.1", STATE + "-l.2", "x"]
    assert [leaf for leaf, _, _ in session.sent][:3] == [protocol.RESULT, protocol.RESULT, protocol.TELEMETRY]
