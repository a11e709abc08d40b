"""What an app declares: checked at once, sendable, and its hash changes exactly when a declaration does."""

from desk import Port

from dormouse import app, codec, protocol
from dormouse.app import Context, Overrun, command, telemetry
from dormouse.builtins import Builtins
from dormouse.log import Log


def declare(*args, **more):
    """Declare one command and forget all others. Returns its handler."""
    app.clear()
    command(*args, **more)(len)
    return app.commands[args[0]]


def refused(*args, **more):
    """Why the command is refused, or None."""
    app.clear()
    command(*args, **more)(len)
    assert bool(app.refused) != bool(app.commands)
    return app.refused and app.refused[0]


def digest(*args, **more):
    declare(*args, **more)
    return app.catalogue_hash()


def test_a_declaration_leaves_the_function_as_it_is():
    """An app may call its own commands."""
    app.clear()

    def water(wake, s):
        return s

    assert command("water", limit=60, s=int)(water) is water
    assert telemetry(every=300)(water) is water
    handler = app.commands["water"]
    assert (handler.function, handler.limit, handler.repeatable, handler.spec) == (water, 60, False, {"s": "int"})
    assert app.readings == {"water": (water, 300)}
    app.clear()
    assert (app.commands, app.readings) == ({}, {})


def test_types_and_defaults_become_a_plain_spec():
    """`describe` sends it, and check_args reads it."""
    handler = declare("x", a=int, b=float, c=str, d=bool, e=list, f=dict, g=(int, 5), h=(str, None))
    assert handler.spec == {
        "a": "int",
        "b": "float",
        "c": "str",
        "d": "bool",
        "e": "list",
        "f": "dict",
        "g": ["int", 5],
        "h": ["str", None],
    }


def test_a_type_that_json_has_not_is_refused():
    """With words that the wake report can carry."""
    for kind in (bytes, tuple, object, None, "int", 5):
        assert refused("x", a=kind) or kind is None
        assert refused("x", a=(kind, 1)), kind


def test_a_default_is_of_its_type_and_can_be_sent():
    """A report hashes the catalogue: an object in it would end every wake of that app."""
    assert declare("x", a=(float, 1), b=(list, [1]), c=(str, "")).spec["a"] == ["float", 1]
    wrong: list = [(int, "5"), (int, True), (int, 1.5), (str, 5), (bool, 1), (list, (1, 2)), (dict, [])]
    for default in wrong:
        assert refused("x", a=default), default
    wrong = [(list, [b"x"]), (list, [object()]), (dict, {1: 2}), (float, 1e999), (str, "x" * 600)]
    for default in wrong:
        assert refused("x", a=default), default


def test_a_name_is_1_to_32_characters_declared_once():
    """Two handlers of one name would be a guess."""
    assert declare("x" * 32)
    for name in ("", "x" * 33, None, 5, b"x", ["x"]):
        assert refused(name)
    declare("x")
    command("x")(min)
    assert len(app.refused) == 1
    assert app.commands["x"].function is len


def test_a_limit_is_a_number_of_seconds_that_a_wake_can_have():
    """With NaN or infinity no deadline holds."""
    assert declare("x", limit=0.5).limit == 0.5
    assert declare("x", limit=3600)
    inf = 1e999
    for limit in (0, -1, True, "5", None, 3601, inf, inf - inf, 10**30):
        assert refused("x", limit=limit), limit


def test_the_catalogue_is_plain_and_sorted():
    """The order of declaration, and of a dict, is nobody's business."""
    app.clear()
    command("b", limit=60, s=int)(len)
    command("a", repeatable=True, z=(int, 1), y=str)(len)
    assert app.catalogue() == [
        ["a", [["y", "str"], ["z", ["int", 1]]], 5, True],
        ["b", [["s", "int"]], 60, False],
    ]
    assert codec.encode(app.catalogue())
    both = app.catalogue_hash()
    app.clear()
    command("a", y=str, z=(int, 1), repeatable=1)(len)
    command("b", s=int, limit=60)(len)
    assert app.catalogue_hash() == both


def test_the_hash_changes_with_each_part_of_a_declaration():
    """The host refuses a wrong argument by it before sending."""
    hashes = [
        digest("x"),
        digest("y"),
        digest("x", limit=6),
        digest("x", repeatable=True),
        digest("x", a=int),
        digest("x", b=int),
        digest("x", a=float),
        digest("x", a=(int, 1)),
        digest("x", a=(int, 2)),
        digest("x", a=(int, None)),
        digest("x", a=int, b=int),
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(len(h) == 8 for h in hashes)
    assert digest("x", a=int, b=int) == hashes[-1]
    app.clear()
    assert app.catalogue_hash() not in hashes


def test_a_built_in_name_is_refused_and_each_has_its_handler():
    """Else the app's command would be shadowed in silence."""
    for name in protocol.STANDARD:
        assert name in refused(name)
        if name == "update":
            continue  # in a module of its own: tests/device/test_update.py
        found = Builtins(None, {"total": 600, "budget": 30}, None, Log(None), None, None, None).find(name)
        assert found.function.__name__ == name
    assert set(protocol.standard_specs()) < set(protocol.STANDARD)


def begin(limit=None):
    port = Port()
    port.now = 12345
    wake = Context(port, {"id": "dev1", "watchdog": 30, "total": 600}, None)
    if limit is not None:
        wake.start(limit)
    return port, wake


def overruns(wake, seconds):
    try:
        wake.hold(seconds)
    except Overrun:
        return True
    return False


def test_hold_waits_as_long_as_it_is_told_and_feeds_the_watchdog():
    """A watchdog of a Pico bites after 8 s; a valve may be open for a minute."""
    port, wake = begin(60)
    wake.hold(30)
    assert port.now == 12345 + 30000
    assert port.fed >= 300
    wake.hold(0.25)
    assert port.now == 12345 + 30250
    assert wake.stop() is False


def test_hold_ends_at_the_handlers_limit():
    """And not at the end of what was asked for."""
    port, wake = begin(5)
    assert overruns(wake, 6)
    assert 5000 <= port.now - 12345 <= 5100


def test_hold_may_use_all_of_the_limit():
    """A handler of `limit=60` holds for 60 s."""
    _, wake = begin(60)
    assert not overruns(wake, 60)
    assert wake.stop() is False


def test_many_short_holds_count_together():
    """The limit is the handler's and not the call's."""
    port, wake = begin(5)
    held = 0
    while not overruns(wake, 1):
        held += 1
    assert held == 5
    assert port.now - 12345 == 5000


def test_a_handler_that_waits_by_itself_is_found_out_when_it_returns():
    """It can't be stopped, but its result tells."""
    port, wake = begin(5)
    port.now += 5001
    assert wake.stop() is True
    port, wake = begin(5)
    port.now += 5000
    assert wake.stop() is False


def test_outside_a_handler_the_limit_is_the_wakes_own():
    """A reading may wait for its sensor, and not for ever; the limit of a handler that ended must not hold on."""
    port, wake = begin(1)
    wake.stop()
    wake.hold(3)
    assert port.now == 12345 + 3000
    assert overruns(wake, 1e8)
    assert 600000 <= port.now <= 600100
    assert overruns(wake, 0.1)


def test_holding_for_nothing_or_less_returns_at_once():
    """An argument from outside may be anything."""
    for seconds in (0, -1, -1e9, 0.0001):
        port, wake = begin(5)
        assert not overruns(wake, seconds)
        assert port.now == 12345
        assert port.fed == 1


def test_a_fraction_of_a_second_is_a_limit_too():
    """`limit=0.5`."""
    port, wake = begin(0.5)
    assert overruns(wake, 1)
    assert 500 <= port.now - 12345 <= 600


def test_battery_time_and_configuration_are_the_devices_own():
    """None is an honest answer."""
    port, wake = begin()
    assert (wake.battery(), wake.time(), wake.config) == (3.7, None, {"id": "dev1", "watchdog": 30, "total": 600})
    port.unix = 1795000000
    assert wake.time() == 1795000000
