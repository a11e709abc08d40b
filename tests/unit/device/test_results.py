"""Results and answers on their way up: once over a connection, again over the next unless confirmed, in batches."""

import json

from desk import STATE, payload
from outbox import Session, filled, sent

from dormouse import codec, protocol


def done(desk, count, detail=b""):
    """Settle commands 1 to `count`."""
    for n in range(1, count + 1):
        desk.offer(payload(n))
        desk.run("succeeded", detail)
    desk.inbox.commit()


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
