"""A program that is left out for a while: what waits for it, and what is held against it."""

from bench import Bench
from desk import Desk, payload


def test_what_a_left_out_program_would_run_waits_for_it():
    """Built-in commands pass it, in their order; with the program back everything runs in its own."""
    bench = Bench()
    ping = bench.desk.handlers["once"]
    for number in (1, 3):
        bench.desk.offer(payload(number))
    handlers = bench.desk.handlers
    gone = handlers.pop("once")
    handlers["ping"] = ping
    bench.desk.reboot()
    bench.begin()
    bench.work.left_out = True
    assert bench.act(payload(4, "ping"), payload(5, "ping"))
    assert [bench.desk.status(n) for n in (1, 3, 4, 5)] == ["open", "open", "succeeded", "succeeded"]
    assert not bench.act()
    handlers["once"] = gone
    bench.desk.reboot()
    bench.begin()
    assert bench.act()
    assert [bench.desk.status(n) for n in (1, 3)] == ["succeeded", "succeeded"]


def test_a_left_out_program_never_fills_the_inbox_for_good():
    """The first that wait for it are refused as far as their place is needed, so that the device goes on reading."""
    bench = Bench()
    limit = bench.desk.limit = 4
    bench.desk.reboot()
    bench.begin()
    for number in range(1, limit + 1):
        bench.desk.offer(payload(number))
    bench.desk.handlers.pop("once")
    bench.desk.reboot()
    bench.begin()
    bench.work.left_out = True
    assert bench.desk.inbox.full
    assert bench.act()
    assert [bench.desk.status(n) for n in (1, 2, limit)] == ["rejected", "open", "open"]


def test_a_boot_knows_whether_a_handler_broke_the_wake_before():
    """Repeatable or not; at the boot after that it is history, unless it began again."""
    for do in ("once", "again"):
        desk = _offered(payload(1, do))
        desk.boot()
        assert not desk.inbox.broke
        desk.inbox.start(0, 1)
        desk.boot()
        assert desk.inbox.broke
    desk = _offered(payload(1))
    desk.inbox.start(0, 1)
    desk.boot()
    desk.boot()
    assert not desk.inbox.broke


def _offered(data):
    desk = Desk()
    desk.offer(data)
    desk.inbox.commit()
    return desk
