"""Running what waits: in order, within its limit, and whatever a handler does ends that command alone."""

import json
from binascii import crc32

from bench import Bench, failing
from desk import Desk, payload

from dormouse.app import Handler
from dormouse.inbox import UNNAMED


def test_with_nothing_waiting_nothing_is_done():
    """And it says so."""
    bench = Bench()
    assert bench.act() is False


def test_a_command_is_run_with_its_arguments_and_its_value_is_told():
    """Defaults filled in."""
    bench = Bench()
    bench.handler("echo", lambda wake: {"ran": [1, "\u00e9"]})
    assert bench.act(payload(1, "takes", more=',"args":{"n":5}'), payload(2, "echo")) is True
    assert bench.ran == [{"n": 5, "s": "x"}]
    assert bench.said(1) == ("succeeded", {})
    assert bench.said(2) == ("succeeded", {"value": {"ran": [1, "\u00e9"]}})
    assert bench.desk.waiting() == []


def test_commands_run_in_the_order_of_their_arrival():
    """Of all ledgers together."""
    bench = Bench()
    order = (("a", 3), ("b", 1), (None, 0), ("a", 1), ("b", 2))
    for n, (ledger, number) in enumerate(order):
        more = ',"args":{"n":%d}' % n
        data = payload(number, "takes", ledger=ledger, more=more) if ledger else ('{"do":"takes"%s}' % more).encode()
        bench.desk.offer(data)
    bench.act()
    assert [args["n"] for args in bench.ran] == [0, 1, 2, 3, 4]


def test_a_command_without_an_id_that_was_cut_off_three_times_gets_a_result_and_a_line():
    """It is not run again, whether the app still knows it or not; what waits behind it is."""
    for known in (True, False):
        bench = Bench()
        bench.desk.offer(b'{"do":"once"}')
        bench.desk.inbox.commit()
        for _ in range(3):
            bench.desk.inbox.start(UNNAMED, 1)
            bench.desk.boot()
        if not known:
            del bench.desk.handlers["once"]
        bench.begin()
        bench.act(payload(1, "takes", more=',"args":{"n":5}'))
        assert bench.ran == [{"n": 5, "s": "x"}]
        told = json.loads(bench.answers[0])
        assert (told["status"], told["do"], told["why"]) == ("interrupted", "once", "cut off 3 times")
        assert told["crc"] == crc32(b'{"do":"once"}')
        event, fields = bench.log[0]
        assert (event, fields["status"], fields["why"]) == ("result", "interrupted", "cut off 3 times")
        assert bench.desk.waiting() == []


def test_a_handler_beyond_its_limit_is_interrupted():
    """By hold, or found out when it returns or raises; its value is not believed."""
    bench = Bench()

    def slow(wake):
        bench.port.now += 5001
        return {"v": 1}

    def late(wake):
        bench.port.now += 5001
        raise ValueError("late")

    for number, function in enumerate((slow, late, lambda wake: wake.hold(6)), 1):
        bench.handler("slow", function)
        bench.act(payload(number, "slow"))
        assert bench.said(number) == ("interrupted", {"why": "went past its limit of 5 s"})
    assert 15000 <= bench.work.spent <= 15200


def test_a_handler_may_catch_the_overrun_but_not_get_away_with_it():
    """`except Exception` is common."""
    bench = Bench()

    def stubborn(wake):
        try:
            wake.hold(50)
        except Exception:
            return "fine"

    bench.handler("stubborn", stubborn)
    bench.act(payload(1, "stubborn"))
    status = bench.said(1)[0]
    assert status in ("interrupted", "succeeded")
    assert bench.port.now <= 5100


def test_a_value_that_is_no_json_or_too_long_is_said_so_and_the_effect_stays_true():
    """It was done; calling it failed would have it sent again."""
    bench = Bench()
    deep: list = []
    deep.append(deep)
    for number, value in enumerate((b"x", object(), {1: 2}, 1e999, "x" * 600, deep, 10**5000, {"a": {1, 2}}), 1):
        bench.handler("odd", lambda wake, value=value: value)
        bench.act(payload(number, "odd"))
        status, rest = bench.said(number)
        assert status == "succeeded", value
        assert "no JSON of at most 512 bytes" in rest["why"]


def test_a_built_in_command_may_say_more():
    """describe, report and log; its value is told in this wake and costs no flash."""
    bench = Bench()
    bench.handler("describe", lambda wake: "x" * 2000, most=2600)
    bench.act(payload(1, "describe"))
    assert bench.said(1) == ("succeeded", {"value": "x" * 2000})
    bench.desk.reboot()
    assert bench.said(1) == ("succeeded", {})


def test_a_command_that_is_overdue_has_expired_where_the_clock_is_known():
    """And runs where it is not: a device without a clock must not guess."""
    bench = Bench()
    data = payload(1, more=',"exp":1795000000')
    bench.port.unix = 1795000000
    bench.act(data)
    assert bench.said(1)[0] == "expired"
    bench.port.unix = 1794999999
    bench.act(payload(2, more=',"exp":1795000000'))
    bench.port.unix = None
    bench.act(payload(3, more=',"exp":5'))
    assert [bench.said(n)[0] for n in (2, 3)] == ["succeeded"] * 2
    assert len(bench.ran) == 2
    bench.port.unix = 1795000000
    bench.act(payload(4, more=',"exp":1e12'), payload(5, more=',"exp":-5'), payload(6, more=',"exp":null'))
    assert [bench.said(n)[0] for n in (4, 5, 6)] == ["succeeded", "expired", "succeeded"]


def test_a_repeatable_command_that_ever_started_does_not_expire():
    """It is run again: `expired` would say that nothing happened."""
    bench = Bench()
    bench.desk.offer(payload(1, "again", more=',"exp":100'))
    bench.desk.inbox.commit()
    bench.desk.inbox.start(0, 1)
    bench.desk.boot()
    bench.begin()
    bench.port.unix = 200
    bench.act()
    assert (bench.said(1)[0], bench.ran) == ("succeeded", [{}])


def test_a_command_that_the_app_no_longer_knows_is_rejected():
    """It was accepted before the update; it never ran."""
    bench = Bench()
    bench.desk.offer(payload(1))
    bench.desk.offer(payload(2, "takes", more=',"args":{"n":5}'))
    bench.desk.reboot()
    bench.desk.handlers["takes"] = Handler(None, 5, False, {"n": "str"})
    del bench.desk.handlers["once"]
    bench.begin()
    bench.act()
    assert bench.said(1)[0] == "rejected"
    assert bench.said(2) == ("rejected", {"why": "argument n is not of type str"})


def test_a_started_command_that_the_app_no_longer_takes_is_interrupted():
    """Its handler had begun: `rejected` would say that nothing happened."""
    bench = Bench()
    bench.desk.offer(payload(1, "again"))
    bench.desk.offer(payload(2, "again"))
    bench.desk.inbox.commit()
    bench.desk.inbox.start(0, 1)
    bench.desk.handlers["again"] = Handler(None, 5, True, {"n": "int"})
    bench.desk.boot()
    bench.begin()
    bench.act()
    assert (bench.said(1)[0], bench.said(2)[0]) == ("interrupted", "rejected")


def test_what_no_longer_fits_into_the_wake_stays_for_the_next():
    """In its order: nothing behind it overtakes it."""
    bench = Bench()
    bench.handler("long", lambda wake: None, limit=300)
    bench.port.now = 400000
    assert bench.act(payload(1, "long"), payload(2)) is False
    assert bench.desk.waiting() == [("l", 1), ("l", 2)]
    assert bench.ran == []
    bench.begin()
    assert bench.act() is True
    assert bench.desk.waiting() == []


def test_a_limit_that_fits_into_no_wake_is_rejected():
    """It would wait for ever, and everything behind it."""
    bench = Bench()
    bench.handler("long", lambda wake: None, limit=600)
    bench.act(payload(1, "long"), payload(2))
    assert bench.said(1) == ("rejected", {"why": "its limit of 600 s does not fit into a wake"})
    assert bench.said(2)[0] == "succeeded"


def test_a_result_without_an_id_is_answered_at_once():
    """By the name of the command and the CRC of its bytes; nothing owes it."""
    bench = Bench()
    bench.handler("echo", lambda wake: 5)
    data = b'{"do":"echo"}'
    bench.act(data)
    assert [json.loads(entry) for entry in bench.answers] == [
        {"status": "succeeded", "crc": crc32(data), "do": "echo", "value": 5}
    ]
    bench.handler("echo", failing(ValueError("x")))
    bench.act(data)
    assert json.loads(bench.answers[1])["status"] == "failed"


def test_a_handler_sees_started_on_flash():
    """And what ended before it: a cut inside a handler finds both at the next boot."""
    bench = Bench()
    found = []

    def cut(wake):
        storage = bench.desk.storage
        other = Desk()
        for name in storage.names():
            if name != "cmd.r":
                other.storage.replace(name, storage.read(name))
        other.boot()
        found.append((other.status(1, "a"), other.status(7, "b"), other.status(8, "b"), other.waiting()))

    bench.handler("cut", cut)
    for data in (payload(1, ledger="a"), payload(7, "cut", ledger="b"), payload(8, ledger="b")):
        bench.desk.offer(data)
    bench.desk.inbox.commit()
    bench.act()
    assert found == [("succeeded", "interrupted", "open", [("b", 8)])]


def test_values_that_wait_for_their_puback_stop_the_work():
    """Their room in memory is bounded; the rest runs once they are confirmed."""
    bench = Bench()
    bench.handler("wordy", lambda wake: "x" * 500)
    for number in range(1, 9):
        bench.desk.offer(payload(number, "wordy"))
    bench.act()
    left = len(bench.desk.waiting())
    assert 0 < left < 8
    assert bench.act() is False
    while bench.desk.waiting():
        w = bench.desk.window()
        for number in list(w.owed()):
            w.told(number)
            w.confirmed(number, number)
        assert bench.act() is True
        assert len(bench.desk.waiting()) < left
        left = len(bench.desk.waiting())
    assert all(bench.said(number)[0] == "succeeded" for number in range(1, 9))


def test_every_result_is_logged_in_one_line():
    """What happened can be read at the console."""
    bench = Bench()
    bench.act(payload(1), b'{"do":"once"}')
    assert [event for event, _ in bench.log] == ["result", "result"]
    assert bench.log[0][1] == {"id": "000102-l.1", "do": "once", "status": "succeeded", "why": None}
