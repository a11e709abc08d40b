"""The rules of a command's life, one by one, with neither database nor broker. Each is a sentence of docs/design.md."""

from binascii import crc32
from dataclasses import replace
from pathlib import Path

import pytest

from dormouse import admit, codec, protocol
from dormouse_host.ledger import rules
from dormouse_host.ledger.rules import End, Heard, Row, Window

ROW = Row(1, "q4mz7c", "dev", "k9fe", 17, "water", '{"s":30}', 1795000000, None)
SENT = replace(ROW, state="s1", status="sent", claimed=5, puback=6, session="c1", published=1)
END = End(3, "s1", present=True, drained=True, fence_dead=False, acked=0)
SLEPT = Heard((20, 10), 20)  # two reports since it was published, the newer one of the wake that is judged


def judged(row: Row, end: End = END, heard: Heard = SLEPT, session: str | None = "c9") -> Row:
    row = replace(row)
    rules.judge(row, end, heard, session, 30)
    return row


def shows(status: str | None) -> End:
    """An end record whose window has this status for the row's number."""
    return replace(END, windows={"k9fe": Window(18, ("succeeded", status))})


def test_the_bytes_are_those_of_the_design_and_the_device_reads_them():
    data = rules.payload(ROW, "7f3a", None)
    assert data == b'{"id":"7f3a-k9fe.17","u":"q4mz7c","do":"water","args":{"s":30},"exp":1795000000}'
    command = codec.Command(0)
    command.parse(data)
    assert (command.id, command.do, command.args, command.exp) == ("7f3a-k9fe.17", "water", {"s": 30}, 1795000000)
    assert rules.payload(ROW, "7f3a", "cancelled") == b'{"id":"7f3a-k9fe.17","u":"q4mz7c","void":"cancelled"}'


def test_only_answers_to_its_own_bytes_or_tombstones_are_its_own():
    for void in (None, "cancelled", "expired"):
        assert rules.ours(ROW, "s1", crc32(rules.payload(ROW, "s1", void)))
    other = replace(ROW, name="other")  # which a ledger that was put back later has published under the same number
    for void in (None, "cancelled", "expired"):
        assert not rules.ours(ROW, "s1", crc32(rules.payload(other, "s1", void)))


def test_missing_when_the_broker_had_it_before_a_wake_that_drained_and_lacks_it():
    assert judged(SENT).republish
    assert judged(SENT, shows(None)).republish
    assert judged(SENT, replace(END, drained=False, fence_dead=True)).republish


@pytest.mark.parametrize(
    "row, end, heard",
    [
        (SENT, replace(END, drained=False), SLEPT),
        (SENT, END, Heard((4,), None)),
        (replace(SENT, puback=25), END, SLEPT),
        (replace(SENT, wake=3), END, SLEPT),
        (replace(SENT, status="succeeded"), END, SLEPT),
        (ROW, END, SLEPT),
    ],
    ids=[
        "not drained",
        "no report since",
        "sent while it was awake",
        "asked in this wake",
        "settled",
        "never published",
    ],
)
def test_not_missing(row, end, heard):
    assert judged(row, end, heard) == row


def test_without_a_puback_it_is_missing_after_two_reports_once_its_connection_is_gone():
    row = replace(SENT, status="publishing", puback=0)
    assert judged(row).republish
    assert not judged(row, session="c1").republish, "its PUBACK may still come"
    assert not judged(row, heard=Heard((20, 4), 20)).republish


def again(void: str | None = "expired", seq: int = 25) -> Row:
    """SENT, published again over the same connection after the report of the wake that is judged."""
    row = replace(SENT, void=void, republish=True)
    rules.claim(row, seq, "r", "c1", "s1")
    return row


@pytest.mark.parametrize("void", [None, "cancelled", "expired"])
@pytest.mark.parametrize("session", ["c1", "c9"], ids=["to its relay", "to another relay"])
def test_what_is_in_flight_is_not_missing_by_an_earlier_publish(void, session):
    """Its bytes may reach the broker after the fence of this wake; the earlier ones' PUBACK came before its report."""
    row = again(void)
    assert judged(row, session=session) == row
    assert judged(row, replace(END, present=False), session=session) == row, "its session was made before"


def test_an_earlier_publishs_puback_does_not_stand_for_the_one_in_flight():
    row = replace(SENT, status="publishing", puback=0, void="cancelled", republish=True)
    rules.claim(row, 7, "r", "c1", "s1")
    rules.acknowledged(row, 1, 8)
    assert row.status == "sent", "the broker has the command, if not yet its tombstone"
    assert not judged(row, session="c1").republish
    rules.refused(row, 1)
    assert not judged(row, session="c1").republish
    rules.acknowledged(row, 2, 9)
    assert judged(row, session="c1").republish


def test_what_was_published_again_and_lost_again_is_missing_again():
    """By its own PUBACK; without one, by its own two reports, once the connection is gone or the broker refused it."""
    row = again(seq=7)
    assert not judged(row, heard=Heard((20, 6), 20)).republish
    assert judged(row).republish
    refused = replace(row)
    rules.refused(refused, 2)
    assert judged(refused, session="c1").republish
    rules.acknowledged(row, 2, 8)
    assert judged(row, heard=Heard((20, 6), 20), session="c1").republish
    assert judged(again(seq=7), replace(END, present=False), session="c1").republish


def test_a_lost_session_has_everything_unanswered_published_again():
    lost = replace(END, present=False, drained=False)
    assert judged(SENT, lost).republish
    assert judged(replace(SENT, puback=0), lost, session="c1").republish
    assert not judged(SENT, replace(lost, windows=shows("open").windows)).republish, "the device has it"


def test_a_session_that_was_made_before_it_was_sent_is_not_the_one_that_was_lost():
    """The report of that wake had come, so its SUBSCRIBE had been served."""
    assert not judged(replace(SENT, claimed=21, puback=22), replace(END, present=False)).republish


@pytest.mark.parametrize("status", protocol.FINAL)
def test_a_window_settles_nothing_but_makes_the_host_ask(status):
    row = judged(SENT, shows(status))
    assert (row.status, row.republish, row.wake) == ("sent", True, 3)


def test_an_open_number_is_delivered():
    row = judged(SENT, shows("open"))
    assert (row.status, row.republish) == ("delivered", False)


def test_what_the_ledger_alone_cancelled_and_the_device_has_seen_is_opened_again():
    row = replace(ROW)
    rules.withdraw(row, "cancelled")
    assert (row.status, row.never_published, row.provisional) == ("cancelled", True, True)
    again = judged(row, shows("succeeded"))
    assert (again.status, again.republish, again.state, again.claimed) == ("sent", True, "s1", 30)


def test_what_was_ever_published_is_cancelled_by_its_device_only():
    row = replace(SENT)
    rules.withdraw(row, "cancelled")
    assert (row.status, row.void, row.republish) == ("sent", "cancelled", True)
    rules.withdraw(row, "expired")
    assert row.void == "cancelled"


def test_a_late_answer_wins_over_a_guess_and_never_over_an_answer():
    row = replace(SENT)
    rules.other_state(row, "s2")
    assert (row.status, row.provisional) == ("unknown", True)
    assert rules.settle(row, "succeeded")
    assert not rules.settle(row, "failed")
    assert row.status == "succeeded"


def test_a_refused_publish_counts_as_not_sent():
    row = replace(SENT, status="publishing", puback=0)
    rules.refused(row, 1)
    assert judged(row, session="c1").republish


def test_forgetting_a_ledger_waits_for_no_unsettled_number():
    """Else a device that is full of names could never be helped."""
    old = replace(SENT, number=1)
    forget = replace(ROW, number=300, do=rules.FORGET)
    other = replace(ROW, number=300)
    assert list(rules.publishable([old, forget, other], set(), 256)) == [forget]


def test_the_words_by_which_a_device_refuses_a_forgotten_name():
    assert f'"{rules.FORGOTTEN}"' in Path(admit.__file__).read_text()
