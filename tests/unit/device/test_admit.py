"""What becomes of each payload: taken, settled, answered or refused, by its window before anything else."""

import json
from binascii import crc32

from desk import STATE, Desk, only, payload, tombstone

from dormouse.app import Handler

# ---- a place in the inbox


def test_a_new_command_is_taken_and_not_answered():
    """Its answer is the result."""
    desk = Desk()
    assert desk.offer(payload(1)) == []
    assert (desk.waiting(), desk.status(1), desk.window().crc(1)) == ([("l", 1)], "open", crc32(payload(1)))
    desk.reboot()
    assert (desk.waiting(), desk.status(1), desk.window().crc(1)) == ([("l", 1)], "open", crc32(payload(1)))


def test_commands_wait_in_the_order_of_their_arrival():
    """Order is the order of sending, and numbers may have gaps."""
    desk = Desk()
    for number in (5, 2, 9, 7):
        desk.offer(payload(number))
    desk.offer(payload(1, ledger="m"))
    desk.reboot()
    assert desk.waiting() == [("l", 5), ("l", 2), ("l", 9), ("l", 7), ("m", 1)]


def test_a_command_that_was_not_committed_was_never_there():
    """It was not acknowledged either: the broker sends it again."""
    desk = Desk()
    desk.offer(payload(1))
    desk.boot()
    assert (desk.waiting(), desk.window()) == ([], None)
    assert desk.offer(payload(1)) == []
    desk.reboot()
    assert desk.waiting() == [("l", 1)]


def test_a_second_delivery_of_an_open_command_is_silent():
    """Not run twice, and its answer is still to come; other bytes under its number change nothing."""
    desk = Desk()
    first = payload(1)
    desk.offer(first)
    for data in (
        first,
        payload(1, "again"),
        payload(1, "nope"),
        payload(1, more=',"u":"other"'),
        b'{"id":"000102-l.1",',
    ):
        for retain in (False, True):
            assert desk.offer(data, retain) == []
    desk.reboot()
    assert (desk.waiting(), desk.window().crc(1)) == ([("l", 1)], crc32(first))
    assert list(desk.inbox._accepted()) == [(0, 1, first)]


def test_a_duplicate_of_a_done_command_gets_its_status_its_value_and_the_first_crc():
    """The host settles nothing by an answer to other bytes than its own."""
    desk = Desk()
    desk.offer(payload(1))
    desk.run("succeeded", b',"value":{"v":3}')
    for _ in range(2):
        answer = only(desk.offer(payload(1)), id=STATE + "-l.1", status="succeeded", value={"v": 3})
        assert answer["crc"] == crc32(payload(1))
        assert answer.get("final", True) is True
        only(desk.offer(payload(1, "again")), status="succeeded", crc=crc32(payload(1)))
        only(desk.offer(payload(1, "nope")), status="succeeded", crc=crc32(payload(1)))
        assert desk.waiting() == []
        desk.reboot()


def test_every_final_status_is_what_its_duplicate_is_told():
    """And stays so over reboots."""
    desk = Desk()
    for number, status in enumerate(("succeeded", "failed", "interrupted", "expired", "rejected", "cancelled"), 1):
        desk.offer(payload(number))
        desk.run(status)
        only(desk.offer(payload(number)), status=status)
        desk.reboot()
        only(desk.offer(payload(number)), status=status)
        only(desk.offer(tombstone(number)), status=status)


def test_a_command_without_an_id_is_run_each_time_it_comes():
    """`mosquitto_pub` promises nothing, and gets what it asked for."""
    desk = Desk()
    for _ in range(3):
        assert desk.offer(b'{"do":"once"}') == []
    desk.reboot()
    assert desk.waiting() == [(None, 1), (None, 2), (None, 3)]
    assert desk.inbox.windows == []
    desk.run()
    desk.offer(b'{"do":"once"}')
    desk.reboot()
    assert desk.waiting() == [(None, 2), (None, 3), (None, 4)]


# ---- refusals


def test_a_command_for_another_state_is_unknown():
    """The flash was wiped: nobody knows whether it ran. It must not be called rejected."""
    desk = Desk()
    for data in (payload(1, state="ffffff"), tombstone(1, state="ffffff"), payload(1, "nope", state="ffffff")):
        only(desk.offer(data), status="unknown", crc=crc32(data), id="ffffff-l.1")
    assert desk.inbox.windows == []


def test_a_number_below_the_window_is_unknown():
    """It may have run long ago."""
    desk = Desk()
    desk.offer(payload(300))
    for data in (payload(44), tombstone(44), payload(1), payload(44, "nope")):
        only(desk.offer(data), status="unknown", why="stale", crc=crc32(data))
    assert desk.offer(payload(45)) == []
    desk.reboot()
    only(desk.offer(payload(44)), status="unknown", why="stale")
    assert desk.waiting() == [("l", 300), ("l", 45)]


def test_an_unknown_command_is_rejected_and_marked_seen():
    """The window owes the result, with its reason."""
    desk = Desk()
    assert desk.offer(payload(1, "nope")) == []
    desk.reboot()
    assert (desk.status(1), desk.owed(), desk.waiting()) == ("rejected", [1], [])
    assert desk.inbox.details.get(0, 1) == b',"why":"unknown command nope"'
    assert desk.window().crc(1) == crc32(payload(1, "nope"))


def test_a_rejected_command_does_not_run_when_the_app_has_learned_it():
    """Redelivered after an update, it would come as a surprise."""
    desk = Desk()
    desk.offer(payload(1, "nope"))
    desk.handlers["nope"] = Handler(None, 5, False, {})
    for _ in range(2):
        only(desk.offer(payload(1, "nope")), status="rejected", why="unknown command nope")
        assert desk.waiting() == []
        desk.reboot()
    assert desk.offer(payload(2, "nope")) == []
    assert desk.waiting() == [("l", 2)]


def test_a_command_of_a_program_that_is_left_out_is_refused_only_for_now():
    """Nothing of it is kept: it comes again, and runs once the program is there. A tombstone ends it all the same."""
    desk = Desk()
    desk.admission.left_out = True
    for _ in range(2):
        only(desk.offer(payload(1, "nope")), status="rejected", why="unknown command nope", final=False)
        desk.reboot()
        desk.admission.left_out = True
    assert (desk.status(1), desk.owed(), desk.waiting()) == (None, [], [])
    desk.offer(tombstone(2))
    assert desk.status(2) == "cancelled"
    desk.offer(payload(3, "describe", more=',"args":{"no":1}'))
    assert desk.status(3) == "rejected"
    desk.handlers["nope"] = Handler(None, 5, False, {})
    assert desk.offer(payload(1, "nope")) == []
    assert desk.waiting() == [("l", 1)]


def test_wrong_arguments_are_rejected_with_their_names():
    """Before anything runs, and for good."""
    desk = Desk()
    cases = [
        ("", "argument n is missing"),
        (',"args":{"n":"5"}', "argument n is not of type int"),
        (',"args":{"n":true}', "argument n is not of type int"),
        (',"args":{"n":5,"m":1}', "unknown argument m"),
        (',"args":{"n":5,"s":null}', "argument s is not of type str"),
        (',"args":[5]', "args is not an object"),
        (',"exp":"soon"', "exp is not a number"),
    ]
    for number, (more, why) in enumerate(cases, 1):
        assert desk.offer(payload(number, "takes", more=more)) == []
        assert desk.status(number) == "rejected"
        assert json.loads(b"{" + desk.inbox.details.get(0, number)[1:] + b"}") == {"why": why}
    assert desk.offer(payload(50, "takes", more=',"args":{"n":5}')) == []
    assert desk.waiting() == [("l", 50)]


def test_what_only_micropython_calls_json_is_rejected_or_run_but_ends_no_wake():
    """A payload that raised would never be acknowledged, and come again at every wake."""
    desk = Desk()
    for number, more in enumerate(
        (',"args":{1:2}', ',"args":{null:1}', ',"args":{"n":1,true:2}', ',"args" {"n":1}'), 1
    ):
        desk.offer(payload(number, "takes", more=more))
        assert desk.status(number) in ("rejected", "open")
        assert desk.status(number) == "rejected" or number == 4


def test_what_cannot_be_parsed_is_settled_by_its_legible_id():
    """Its sender learns of it; without one, there is nobody to tell but by CRC."""
    desk = Desk()
    assert desk.offer(b'{"id":"000102-l.1","do":"once"') == []
    assert desk.offer(b'{"id":"000102-l.2","do":"once","args":' + b"[" * 20 + b"]" * 20 + b"}") == []
    assert desk.offer(b'{"id":"000102-l.3","do":"\xff"}') == []
    assert [desk.status(n) for n in (1, 2, 3)] == ["rejected"] * 3
    data = b'{"do":"once","id":"000102-l.4"'
    only(desk.offer(data), id=None, status="rejected", crc=crc32(data), why="not JSON: cut off")
    only(desk.offer(b""), status="rejected", why="not JSON: cut off", crc=0)
    assert desk.status(4) is None


def test_an_oversized_payload_is_rejected_by_the_id_at_its_beginning():
    """Only its first bytes were kept; the CRC is of all of it."""
    desk = Desk(most=2048)
    long = payload(1, more=',"u":"%s"' % ("x" * 3000))
    assert desk.offer(long) == []
    assert (desk.status(1), desk.window().crc(1)) == ("rejected", crc32(long))
    only(desk.offer(long), status="rejected", crc=crc32(long))
    assert "above the limit of 2048" in only(desk.offer(b'{"do":"' + b"x" * 3000), id=None, status="rejected")["why"]
    exact = payload(2, more=',"u":"%s"' % ("x" * (2048 - len(payload(2, more=',"u":""')))))
    assert len(exact) == 2048
    assert desk.offer(exact) == []
    assert desk.offer(exact + b" ") == []
    assert desk.waiting() == [("l", 2)]


def test_an_oversized_payload_does_not_unsettle_its_number():
    """Somebody else's bytes under an open or a done number."""
    desk = Desk()
    desk.offer(payload(1))
    desk.offer(payload(2))
    desk.run()
    big = b" " * 3000
    only(desk.offer(payload(1)[:-1] + big), status="succeeded", crc=crc32(payload(1)))
    assert desk.offer(payload(2)[:-1] + big) == []
    assert (desk.status(1), desk.status(2)) == ("succeeded", "open")


def test_a_retained_command_without_an_id_is_rejected_each_time():
    """It comes at every wake and would run at every wake."""
    desk = Desk()
    for _ in range(3):
        assert "retained" in only(desk.offer(b'{"do":"once"}', True), status="rejected", do="once")["why"]
        desk.reboot()
    assert desk.waiting() == []


def test_a_retained_command_with_an_id_runs_once():
    """Its window knows it when it comes again."""
    desk = Desk()
    assert desk.offer(payload(1), True) == []
    desk.run()
    desk.reboot()
    only(desk.offer(payload(1), True), status="succeeded")
    assert desk.waiting() == []


def test_nothing_listens_to_another_topic():
    """Even when what comes there looks like a command, an id in it is not believed."""
    desk = Desk()
    data = payload(1)
    only(desk.offer(data, is_command=False), id=None, status="rejected", crc=crc32(data))
    assert desk.inbox.windows == []


# ---- tombstones


def test_a_tombstone_for_what_was_never_seen_keeps_it_from_ever_running():
    """It has overtaken its command."""
    desk = Desk()
    for number, status in ((1, "cancelled"), (2, "expired")):
        assert desk.offer(tombstone(number, status)) == []
        desk.reboot()
        assert (desk.status(number), number in desk.owed()) == (status, True)
        assert desk.window().crc(number) == crc32(tombstone(number, status))
        only(desk.offer(payload(number)), status=status, crc=crc32(tombstone(number, status)))
    assert desk.waiting() == []


def test_a_tombstone_drops_a_command_that_waits():
    """Answered so, and by the CRC of the command's own bytes."""
    desk = Desk()
    for number in (1, 2, 3):
        desk.offer(payload(number))
    assert desk.offer(tombstone(2, "expired")) == []
    for _ in range(2):
        assert (desk.status(2), desk.owed(), desk.waiting()) == ("expired", [2], [("l", 1), ("l", 3)])
        assert desk.window().crc(2) == crc32(payload(2))
        desk.reboot()
    only(desk.offer(tombstone(2, "cancelled")), status="expired")


def test_a_tombstone_for_a_command_that_ever_started_is_too_late():
    """`running`, not final, then its true status."""
    desk = Desk()
    desk.offer(payload(1, "again"))
    desk.inbox.commit()
    desk.inbox.start(0, 1)
    desk.boot()
    answer = only(desk.offer(tombstone(1)), status="running", final=False, crc=crc32(payload(1, "again")))
    assert answer["id"] == STATE + "-l.1"
    assert desk.waiting() == [("l", 1)]
    desk.run("failed")
    only(desk.offer(tombstone(1)), status="failed")


def test_a_tombstone_for_another_command_leaves_started_alone():
    """A started, then power went; B is cancelled: A must still count as started, with its attempts."""
    desk = Desk()
    desk.offer(payload(1, "again"))
    desk.offer(payload(2, "again"))
    desk.inbox.commit()
    desk.inbox.start(0, 1)
    desk.boot()
    desk.offer(tombstone(2))
    desk.inbox.commit()
    only(desk.offer(tombstone(1)), status="running", final=False)
    desk.inbox.start(0, 1)
    assert desk.inbox.started == (0, 1, 2)


def test_a_tombstone_for_a_done_command_gets_its_status():
    """The cancel came too late, and its sender learns what was done."""
    desk = Desk()
    desk.offer(payload(1))
    desk.run("succeeded", b',"value":7')
    only(desk.offer(tombstone(1)), status="succeeded", value=7, crc=crc32(payload(1)))


def test_started_of_another_ledger_with_the_same_number_is_another_command():
    """Every ledger counts from 1."""
    desk = Desk()
    for ledger in "ab":
        desk.offer(payload(1, "again", ledger=ledger))
    desk.offer(b'{"do":"again"}')
    desk.inbox.commit()
    desk.inbox.start(0, 1)
    desk.boot()
    assert desk.offer(tombstone(1, ledger="b")) == []
    assert desk.status(1, "b") == "cancelled"
    only(desk.offer(tombstone(1, ledger="a")), status="running")
    assert desk.waiting() == [("a", 1), (None, 1)]
    assert not desk.inbox.ever_started(255, 1)


# ---- noise


def test_nothing_that_comes_in_raises():
    """Whatever it is, it is answered, settled or kept, and the journal survives it."""
    desk = Desk()
    pieces = (
        b"",
        b"{",
        b"}",
        b'{"id":',
        b'"000102-l.%d"',
        b',"do":"once"',
        b',"void":"cancelled"',
        b',"args":{',
        b"null",
        b"\xff\xfe",
    )
    at = 0
    for a in pieces:
        for b in pieces:
            for c in pieces:
                at += 1
                data = a + b + c
                if b"%d" in data:
                    data = data.replace(b"%d", b"%d" % at)
                desk.offer(data, at % 3 == 0, at % 5 != 0)
                while desk.answers:
                    json.loads(desk.answers.pop())
    before = desk.image()
    desk.reboot()
    assert desk.image() == before
