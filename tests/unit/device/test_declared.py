"""What a declaration can show to be wrong is refused with its name; everything else that the app declares holds."""

import sys

from dormouse import app
from dormouse.app import command, telemetry


def plain(wake):
    return {"v": 1}


def generator(wake):
    yield {"v": 1}


async def coroutine(wake):
    return {"v": 1}


def refusals(declare):
    """What the app is told of the declarations that `declare` makes."""
    app.clear()
    declare()
    return list(app.refused)


def only(declare, *words):
    """One declaration is refused, and these are in the reason."""
    found = refusals(declare)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0], found
    return True


def test_a_decorator_without_its_parentheses_is_refused_by_name_and_leaves_the_function():
    """`@telemetry` alone used to register nothing and say nothing."""
    app.clear()
    assert telemetry(plain) is plain
    assert command(plain) is plain
    assert (app.readings, app.commands) == ({}, {})
    assert app.refused == ["telemetry plain: write @telemetry()", 'command plain: write @command("name")']


def test_an_interval_that_is_no_number_is_refused_when_it_is_declared():
    """At a later wake it would raise where nothing expects it."""
    inf = 1e999
    for every in ("5m", None, True, [300], -1, inf, inf - inf, 10**30):
        assert only(lambda every=every: telemetry(every=every)(plain), "telemetry plain: ", "every is a number")
        assert app.readings == {}
    assert refusals(lambda: telemetry(every=0.5)(plain)) == []


def test_what_a_call_would_not_run_is_refused():
    """Else it would be reported as succeeded, and nothing had run."""
    for function in (generator, coroutine):
        assert only(lambda function=function: command("as_")(function), "command as_: ", "async def and yield")
        assert only(lambda function=function: telemetry()(function), "telemetry %s: " % function.__name__)
        assert (app.commands, app.readings) == ({}, {})
    for nothing in (None, 5, "plain"):
        assert only(lambda nothing=nothing: command("x")(nothing), "no function")
        assert only(lambda nothing=nothing: telemetry()(nothing), "no function")


def test_of_two_with_one_name_the_first_holds_and_the_second_is_refused():
    """In silence the second would replace the first."""

    def other(wake):
        return {"v": 2}

    def declare():
        telemetry()(plain)
        telemetry()(plain)
        command("x")(plain)
        command("x")(other)

    found = refusals(declare)
    assert len(found) == 2
    assert found[0].startswith("telemetry plain: ")
    assert found[1].startswith("command x: ")
    assert app.commands["x"].function is plain


def test_one_bad_declaration_leaves_all_the_others():
    """Also those that come after it."""

    def declare():
        command("a")(plain)
        command("b", limit="5")(plain)
        command("c", s=object)(plain)
        command("d", s=(int, 1, 2))(plain)
        command("e", s=())(plain)
        command(5)(plain)
        telemetry(every="x")(plain)
        command("f")(plain)

    found = refusals(declare)
    assert sorted(app.commands) == ["a", "f"]
    assert [line.partition(":")[0] for line in found] == [
        "command b",
        "command c",
        "command d",
        "command e",
        "command 5",
        "telemetry plain",
    ]
    assert "argument s" in found[1]


def test_any_callable_can_be_declared():
    """A method or a lambda runs like a function."""

    class Sensor:
        def read(self, wake):
            return {"v": 3}

    def declare():
        command("x")(lambda wake: 1)
        telemetry()(Sensor().read)

    assert refusals(declare) == []
    if sys.implementation.name == "cpython":
        import functools

        assert refusals(lambda: telemetry()(functools.partial(plain))) == []
