"""Log lines, what of them is kept, and the end record: none can fail, and none can grow."""

import json

from desk import Desk, Dice, Port, payload
from runner import folder

from dormouse import codec, protocol
from dormouse.log import Log, describe
from dormouse.ports.storage import Storage
from dormouse.report import end_record, last_wake
from dormouse.state import FENCE_DEAD, State


def log_over(storage, wake=1):
    log = Log(Port(storage))
    log.wake = wake
    return log


def test_a_line_is_one_event_with_its_fields():
    """None is left out; a machine reads the rest as JSON."""
    log = log_over(Storage(folder()))
    log.port.now = 250
    log("asleep", ms=5, why=None)
    log("boot")
    log("command", do='a"\n\x01\xe9')
    assert log.port.lines[0] == 'dormouse 250 asleep {"ms":5}'
    assert log.port.lines[1] == "dormouse 250 boot"
    assert json.loads(log.port.lines[2][21:]) == {"do": 'a"\n\x01\xe9'}
    assert "\n" not in log.port.lines[2]


def test_a_field_that_is_no_json_is_a_line_all_the_same():
    """Logging never ends what it tells of."""
    log = log_over(Storage(folder()))
    for value in (b"x", object(), 1e999, {1: 2}, 10**5000):
        log("error", why=value)
    assert all(line.startswith("dormouse 0 error {") for line in log.port.lines)
    log.keep()
    assert log.kept()


def test_memory_that_is_full_costs_the_line_and_not_the_wake():
    """Whatever ends a wake is logged before sleep is planned."""

    class Full(Storage):
        def read(self, name):
            raise MemoryError

    log = log_over(Full(folder()))
    log("error", why="first")
    said = log.port.emit

    def emit(line):
        raise MemoryError

    def broken(line):
        raise SystemExit  # the program has put something else in the place of `print`

    for each in (emit, broken):
        log.port.emit = each
        log("error", why="no room for this one")
    log.port.emit = said
    log.keep()
    log.port.storage = Storage(folder())
    log.keep()
    assert log.kept() == '1 0 error {"why":"first"}\n'


def test_what_went_wrong_is_kept_and_everything_else_costs_no_flash():
    """`error`, `rejected` and `rejoin`."""
    storage = Storage(folder())
    log = log_over(storage, 7)
    log("boot", wake=7)
    log("connected", rtt=4)
    log.keep()
    assert storage.read("log") is None
    log("error", why="full")
    log("rejected", why="no")
    log("rejoin", why="again")
    assert storage.read("log") is None
    log.keep()
    assert (
        log_over(storage).kept() == '7 0 error {"why":"full"}\n7 0 rejected {"why":"no"}\n7 0 rejoin {"why":"again"}\n'
    )


def test_keeping_twice_keeps_each_line_once():
    """The wake's end may come twice."""
    storage = Storage(folder())
    log = log_over(storage)
    log("error", why="a")
    log.keep()
    log("error", why="b")
    log.keep()
    log.keep()
    assert log.kept() == '1 0 error {"why":"a"}\n1 0 error {"why":"b"}\n'


def test_the_newest_lines_are_kept_whole_within_2_kib():
    """Whoever sends rejected commands all day must not fill the flash."""
    storage = Storage(folder())
    dice = Dice(3)
    wanted: list = []
    for wake in range(60):
        log = log_over(storage, wake)
        for _ in range(dice.below(4)):
            why = "x" * dice.below(130)
            log("rejected", why=why)
            wanted.append('%d 0 rejected {"why":"%s"}' % (wake, why))
        del wanted[:-40]  # more are never kept, and the heap is the agent's
        log.keep()
        lines = log.kept().split("\n")
        assert len(log.kept()) <= 2048
        assert lines.pop() == ""
        assert lines == wanted[len(wanted) - len(lines) :]
        assert len(wanted) < 12 or len(lines) > 10


def test_a_storm_of_errors_in_one_wake_stays_small():
    """RAM and flash are bounded; the first ones are kept, which tell the cause."""
    storage = Storage(folder())
    log = log_over(storage)
    for i in range(500):
        log("error", why="%d %s" % (i, "y" * 200))
    log.keep()
    assert 500 < len(log.kept()) <= 2048
    assert "0 yyy" in log.kept()


def test_no_cut_goes_through_a_character():
    """On MicroPython lines are UTF-8: half a character can't be decoded, and a wake would end in an error."""
    storage = Storage(folder())
    for wake in range(40):
        log = log_over(storage, wake)
        log("rejected", why="x" * (wake % 5) + "\u20ac" * 110)
        log("rejected", why="\U0001f600" * 60)
        log.keep()
        assert len(log.kept().encode()) <= 2048
        assert wake < 9 or len(log.kept()) > 300


def test_a_damaged_log_is_dropped_and_not_an_error_at_every_wake():
    """It is the only file that is read without a checksum."""
    storage = Storage(folder())
    storage.replace("log", b"\xff\xfe\x80 damaged\n")
    log = log_over(storage)
    log("error", why="a")
    assert log.kept() == '1 0 error {"why":"a"}\n'
    log.keep()
    assert log_over(storage).kept() == '1 0 error {"why":"a"}\n'


def test_an_exception_is_described_in_one_short_line():
    """Its kind and its text; a result carries at most so much."""
    assert describe(ValueError("no water")) == "ValueError: no water"
    assert len(describe(RuntimeError("x" * 5000))) == protocol.TEXT_LIMIT
    assert describe(KeyError()).startswith("KeyError")


def test_the_end_record_says_what_is_missing():
    """The windows as they are, and nothing of a ledger that was forgotten."""
    desk = Desk()
    state = State(desk.storage)
    state.ended, state.present, state.drained, state.acked, state.fence = 8, True, False, 17, FENCE_DEAD
    for number in (1, 2, 4):
        desk.offer(payload(number))
    desk.offer(payload(1, ledger="m"))
    desk.run()
    end = end_record(state, desk.inbox.state, desk.inbox.windows)
    assert end == {
        "wake": 8,
        "state": "000102",
        "present": True,
        "drained": False,
        "fence_dead": True,
        "acked": 17,
        "windows": {"l": [4, "o.os"], "m": [1, "o"]},
    }
    assert json.loads(codec.encode(end)) == end
    desk.inbox.forget("l")
    assert list(end_record(state, desk.inbox.state, desk.inbox.windows)["windows"]) == ["m"]


def test_the_largest_end_record_fits_into_the_first_flight():
    """Four windows, no two neighbours alike."""
    desk = Desk()
    state = State(desk.storage)
    for ledger in ("a" * 12, "b" * 12, "c" * 12, "d" * 12):
        for number in range((1 << 30) - 256, 1 << 30):
            w = desk.window(ledger) or desk.inbox.new_ledger(ledger)
            w = desk.window(ledger)
            w.mark(number, 2 + number % 2, 0)
    assert len(codec.encode(end_record(state, desk.inbox.state, desk.inbox.windows))) < 1400


def test_the_figures_of_the_last_wake_are_plain():
    """In milliseconds; a device that never woke has none."""
    state = State(Storage(folder()))
    log = log_over(Storage(folder()))
    assert last_wake(state, log) is None
    state.begin("dev1", False)
    state.phases[0] = 25
    figures = last_wake(state, log)
    assert figures["ended"] == "finished"
    assert figures["phases"]["boot"] == 250
    assert "why" not in figures
    assert codec.encode(figures)


def test_what_ended_the_last_wake_is_its_last_line():
    """The host learns it with the next report; of an earlier wake it tells nothing."""
    storage = Storage(folder())
    log = log_over(storage, 1)
    log("rejected", why="no")
    log("error", kind="LinkError", why="silent for 5 ms")
    log.keep()
    log = log_over(storage, 0)
    assert log.last(1).startswith("error {")
    assert "silent for 5 ms" in log.last(1)
    assert log.last(2) is None
    state = State(storage)
    state.begin("dev1", False)
    assert last_wake(state, log)["why"] == log.last(1)
    state.begin("dev1", False)
    assert "why" not in last_wake(state, log)


def test_an_error_is_kept_however_much_was_rejected_before_it():
    """A flood must not hide what ended the wake."""
    log = log_over(Storage(folder()), 3)
    for _ in range(200):
        log("rejected", why="no JSON")
    log("error", why="the end")
    log.keep()
    assert "the end" in log.last(3)
