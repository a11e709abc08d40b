"""Commands from acceptance to their end: what a power cut between any two steps leaves, and the bounds."""

from binascii import crc32

from desk import STATE, Desk, confirm, offered, payload

from dormouse.app import Handler
from dormouse.errors import ProtocolError
from dormouse.inbox import ATTEMPTS, UNNAMED
from dormouse.journal import Mark
from dormouse.protocol import INTERRUPTED

HEAP = "192k"  # as on a board


# ---- the state


def test_a_new_device_gives_itself_a_state_and_keeps_it():
    """Made together with the journal, from random bytes."""
    desk = Desk()
    assert desk.inbox.state == STATE
    desk.reboot()
    assert desk.inbox.state == STATE
    assert desk.image()[1:4] == ([], [], [])


def test_a_wiped_device_has_nothing_of_the_old_one():
    """Not even a mark: command 1 of the new state is not the one that was started in the old."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)
    for name in desk.storage.names():
        if name != "work":
            desk.storage.remove(name)
    desk.boot()
    assert desk.inbox.windows == []
    offered(desk, payload(1, "again"))
    desk.boot()
    assert desk.inbox.started is None


# ---- cuts around one handler


def test_cut_before_started_runs_it_at_the_next_wake():
    """It never began."""
    for do in ("once", "again"):
        desk = offered(Desk(), payload(1, do))
        desk.boot()
        assert (desk.waiting(), desk.inbox.started, desk.status(1)) == ([("l", 1)], None, "open")


def test_cut_after_started_interrupts_what_may_not_be_repeated():
    """Its effect may be none, part or whole: only its sender can decide."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.inbox.start(0, 1)
    for _ in range(2):
        desk.boot()
        assert (desk.status(1), desk.owed(), desk.waiting()) == (INTERRUPTED, [1], [("l", 2)])
        assert desk.window().crc(1) == crc32(payload(1))


def test_a_repeatable_command_is_run_three_times_at_most():
    """One that kills the device each time must not do so for ever."""
    desk = offered(Desk(), payload(1, "again"))
    for attempt in (1, 2, 3):
        assert desk.waiting() == [("l", 1)]
        desk.inbox.start(0, 1)
        assert desk.inbox.started == (0, 1, attempt)
        desk.boot()
    assert (desk.status(1), desk.waiting(), desk.inbox.started) == (INTERRUPTED, [], None)


def test_reboots_between_the_attempts_are_no_attempts():
    """Only a handler that began counts."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)
    for _ in range(5):
        desk.boot()
        assert desk.inbox.started == (0, 1, 1)


def test_a_command_that_is_no_longer_repeatable_is_interrupted():
    """The app has changed between two wakes; or does not know it any more."""
    for handler in (Handler(None, 5, False, {}), None):
        desk = offered(Desk(), payload(1, "again"))
        desk.inbox.start(0, 1)
        desk.handlers["again"] = handler
        desk.boot()
        assert desk.status(1) == INTERRUPTED


def test_a_command_whose_handler_finds_no_memory_is_interrupted_and_not_tried_at_every_boot():
    """A built-in command's handlers are loaded when they are asked for."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)

    class Full(dict):
        def get(self, name, default=None):
            raise ProtocolError("too big for the memory there is")

    desk.handlers = Full()
    desk.boot()
    assert desk.status(1) == INTERRUPTED


def test_a_command_without_an_id_is_run_at_least_once_and_three_times_at_most():
    """Then it waits for the runner, which alone can tell somebody: no window owes its result."""
    desk = offered(Desk(), b'{"do":"once"}')
    for attempt in (1, 2, 3):
        assert desk.waiting() == [(None, 1)]
        desk.inbox.start(UNNAMED, 1)
        assert desk.inbox.started == (UNNAMED, 1, attempt)
        desk.boot()
    assert desk.waiting() == [(None, 1)]
    assert desk.inbox.started == (UNNAMED, 1, ATTEMPTS)


def test_cut_after_done_before_the_commit_costs_the_value_and_never_the_truth():
    """`done` is on flash with the next `started`."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run("failed", b',"why":"dry"')
    desk.inbox.start(0, 2)
    desk.boot()
    assert (desk.status(1), desk.status(2), desk.waiting()) == ("failed", INTERRUPTED, [])
    assert desk.inbox.details.get(0, 1) == b""
    assert desk.owed() == [1, 2]


def test_cut_after_the_last_done_before_anything_else_is_an_interruption():
    """The handler has returned and nothing is written yet: never `succeeded` by a guess, never run twice."""
    desk = offered(Desk(), payload(1))
    desk.run()
    desk.boot()
    assert (desk.status(1), desk.waiting()) == (INTERRUPTED, [])


def test_cut_after_the_commit_keeps_status_and_value():
    """What a result is sent from."""
    desk = offered(Desk(), payload(1))
    desk.run("succeeded", b',"value":1')
    desk.inbox.commit()
    desk.boot()
    assert (desk.status(1), desk.inbox.details.get(0, 1), desk.owed()) == ("succeeded", b',"value":1', [1])


def test_more_commands_in_a_row_than_the_mark_holds():
    """It is one small file: before it overflows, the journal takes over."""
    desk = offered(Desk(), *[payload(n) for n in range(1, 41)])
    for n in range(1, 41):
        desk.inbox.start(0, n)
        if n < 40:
            desk.inbox.finish(0, n, "succeeded" if n % 3 else "failed")
        assert desk.storage.size("work") <= desk.storage.inline
    desk.boot()
    assert [desk.status(n) for n in range(1, 40)] == ["succeeded" if n % 3 else "failed" for n in range(1, 40)]
    assert (desk.status(40), desk.waiting()) == (INTERRUPTED, [])


def test_numbers_in_any_order_are_done_each_for_itself():
    """The mark holds runs of numbers; commands come in the order of their sending, which need not be theirs."""
    order = (9, 3, 4, 10, 8, 7, 20, 5, 6, 11)
    desk = offered(Desk(), *[payload(n) for n in order], payload(12))
    for n in order:
        desk.run("failed" if n in (4, 20) else "succeeded")
    desk.inbox.start(0, 12)
    desk.boot()
    assert [desk.status(n) for n in order] == ["failed" if n in (4, 20) else "succeeded" for n in order]
    assert (desk.status(12), desk.waiting()) == (INTERRUPTED, [])


def test_marks_of_all_kinds_are_told_apart_by_ledger_and_number():
    """Number 1 of two ledgers and of none."""
    desk = offered(Desk(), payload(1, ledger="a"), payload(1, ledger="b"), b'{"do":"once"}', payload(1, ledger="c"))
    desk.run("failed")
    desk.run("succeeded")
    desk.run()
    desk.inbox.start(2, 1)
    desk.boot()
    assert [desk.status(1, ledger) for ledger in "abc"] == ["failed", "succeeded", INTERRUPTED]
    assert desk.waiting() == []


def test_a_damaged_mark_is_no_mark():
    """Better to run a repeatable command once more than to believe noise; others are as if never started."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run()
    desk.inbox.start(0, 2)
    mark = bytearray(desk.storage.read("work"))
    for at in range(0, len(mark), 3):
        mark[at] ^= 8
        desk.storage.replace("work", mark)
        mark[at] ^= 8
        desk.boot()
        assert (desk.waiting(), desk.inbox.started) == ([("l", 1), ("l", 2)], None)


def test_a_mark_whose_command_is_gone_says_nothing():
    """It is not rewritten when the journal has taken over."""
    desk = offered(Desk(), payload(1), payload(2, "again"))
    desk.run()
    desk.run("failed")
    desk.inbox.commit()
    assert Mark(desk.storage, "work").load()
    for _ in range(2):
        desk.boot()
        assert [desk.status(n) for n in (1, 2)] == ["succeeded", "failed"]
        assert desk.inbox.started is None


# ---- what is owed


def test_results_are_owed_again_after_a_cut_until_a_wake_ends_with_all_confirmed():
    """PUBACKs are known in RAM only, which costs a repetition at worst; `end` writes it down."""
    desk = offered(Desk(), payload(1), payload(2, "nope"), payload(3))
    desk.run()
    desk.inbox.commit()
    confirm(desk)
    assert desk.owed() == []
    desk.boot()
    assert desk.owed() == [1, 2]
    desk.inbox.end()
    desk.boot()
    assert desk.owed() == [1, 2]
    confirm(desk)
    desk.inbox.end()
    for _ in range(2):
        desk.boot()
        assert (desk.owed(), desk.status(1), desk.status(2), desk.status(3)) == ([], "succeeded", "rejected", "open")


def test_a_quiet_wake_writes_nothing():
    """Flash erases cost 50 ms each."""
    desk = offered(Desk(), payload(1))
    desk.run()
    desk.inbox.commit()
    confirm(desk)
    desk.inbox.end()
    before = [(name, desk.storage.read(name)) for name in sorted(desk.storage.names()) if name != "cmd.r"]
    for _ in range(3):
        desk.boot()
        desk.inbox.end()
    assert [(name, desk.storage.read(name)) for name in sorted(desk.storage.names()) if name != "cmd.r"] == before


def test_with_one_result_unconfirmed_all_are_owed_at_the_next_wake():
    """Which are which is not worth a write; the host takes each once."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run()
    desk.run()
    desk.inbox.commit()
    desk.window().confirmed(1, 1)
    desk.inbox.end()
    desk.boot()
    assert desk.owed() == [1, 2]


# ---- bounds


def test_the_inbox_is_full_by_number_of_commands():
    """TCP holds the rest back."""
    desk = Desk(limit=4)
    for n in range(1, 5):
        assert not desk.inbox.full
        desk.offer(payload(n))
    assert desk.inbox.full
    desk.reboot()
    assert desk.inbox.full
    desk.run()
    assert not desk.inbox.full


def test_the_inbox_is_full_by_their_size():
    """8 KiB, whatever their number."""
    desk = Desk(limit=512, most=4000)
    n = 0
    while not desk.inbox.full:
        n += 1
        desk.offer(payload(n, more=',"u":"%s"' % ("x" * 900)))
        assert desk.inbox.waiting.space <= 8192 + 1000
    assert n in (8, 9)
    desk.reboot()
    assert desk.inbox.full
    while desk.waiting():
        desk.run()
    assert desk.inbox.waiting.space == 0


def test_values_and_reasons_are_bounded_and_the_newest_owed_stay():
    """The oldest go, those first that the host has."""
    desk = Desk()
    for n in range(1, 200):
        desk.offer(payload(n, "nope"))
        assert sum(len(detail) for _, _, detail in desk.inbox.details) <= 1536
    assert desk.inbox.details.get(0, 199)
    assert not desk.inbox.details.get(0, 1)
    desk.reboot()
    assert desk.inbox.details.get(0, 199)
    assert desk.status(1) == "rejected"


def test_details_that_the_host_has_go_before_those_it_has_not():
    """A value that was never sent is worth more than one that was."""
    desk = Desk()
    desk.offer(payload(1))
    desk.run("succeeded", b',"value":"%s"' % (b"v" * 400))
    w = desk.window()
    for n in range(2, 60):
        desk.offer(payload(n))
        desk.run("succeeded", b',"value":"%s"' % (b"v" * 200))
        w.told(n)
        w.confirmed(n, n)
    assert desk.inbox.details.get(0, 1)
    assert desk.inbox.details.room()
    desk.inbox.forget("l")
    assert list(desk.inbox.details) == []


def test_a_value_too_long_for_flash_is_told_in_this_wake_only():
    """describe and log can be asked again."""
    desk = offered(Desk(), payload(1))
    desk.run("succeeded", b',"value":"%s"' % (b"v" * 2000))
    assert len(desk.inbox.details.get(0, 1)) > 2000
    desk.reboot()
    assert (desk.status(1), desk.inbox.details.get(0, 1)) == ("succeeded", b"")


def test_forgetting_is_refused_for_a_name_that_is_not_there():
    """And for one that is forgotten already."""
    desk = offered(Desk(), payload(1))
    for name in ("x", "", None, 5):
        try:
            desk.inbox.forget(name)
        except ProtocolError:
            continue
        raise AssertionError(name)
    desk.inbox.forget("l")
    try:
        desk.inbox.forget("l")
    except ProtocolError:
        return
    raise AssertionError
