"""What an app declares: checked at once, sendable, and its hash changes exactly when a declaration does."""

from desk import reason

from dormouse import catalogue, payloads, protocol
from dormouse.catalogue import command, telemetry
from dormouse.errors import ConfigError
from dormouse.standard import Standard


def declare(*args, **more):
    """Declare one command and forget all others. Returns its handler."""
    catalogue.clear()
    command(*args, **more)(None)
    return catalogue.commands[args[0]]


def refused(*args, **more):
    return reason(ConfigError, declare, *args, **more)


def digest(*args, **more):
    declare(*args, **more)
    return catalogue.catalogue_hash()


def test_a_declaration_leaves_the_function_as_it_is():
    """An app may call its own commands."""
    catalogue.clear()

    def water(wake, s):
        return s

    assert command("water", limit=60, s=int)(water) is water
    assert telemetry(every=300)(water) is water
    handler = catalogue.commands["water"]
    assert (handler.function, handler.limit, handler.repeatable, handler.spec) == (water, 60, False, {"s": "int"})
    assert catalogue.readings == {"water": (water, 300)}
    catalogue.clear()
    assert (catalogue.commands, catalogue.readings) == ({}, {})


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
    """With a ConfigError that the wake report can carry."""
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
    assert reason(ConfigError, command, "x")
    assert list(catalogue.commands) == ["x"]


def test_a_limit_is_a_number_of_seconds_that_a_wake_can_have():
    """With NaN or infinity no deadline holds."""
    assert declare("x", limit=0.5).limit == 0.5
    assert declare("x", limit=3600)
    inf = 1e999
    for limit in (0, -1, True, "5", None, 3601, inf, inf - inf, 10**30):
        assert refused("x", limit=limit), limit


def test_the_catalogue_is_plain_and_sorted():
    """The order of declaration, and of a dict, is nobody's business."""
    catalogue.clear()
    command("b", limit=60, s=int)(None)
    command("a", repeatable=True, z=(int, 1), y=str)(None)
    assert catalogue.catalogue() == [
        ["a", [["y", "str"], ["z", ["int", 1]]], 5, True],
        ["b", [["s", "int"]], 60, False],
    ]
    assert payloads.encode(catalogue.catalogue())
    both = catalogue.catalogue_hash()
    catalogue.clear()
    command("a", y=str, z=(int, 1), repeatable=1)(None)
    command("b", s=int, limit=60)(len)
    assert catalogue.catalogue_hash() == both


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
    catalogue.clear()
    assert catalogue.catalogue_hash() not in hashes


def test_a_built_in_name_is_refused_and_each_has_its_handler():
    """Else the app's command would be shadowed in silence."""
    for name in protocol.STANDARD:
        assert name in reason(ConfigError, command, name)
    assert sorted(Standard(None, None).handlers) == sorted(protocol.STANDARD)
