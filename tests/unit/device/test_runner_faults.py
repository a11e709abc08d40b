"""A handler that fails or has not run: its status tells the truth, and its reason says where it went wrong."""

from bench import Bench, failing
from desk import payload

from dormouse.errors import LinkError, StorageError


def test_a_handler_that_raises_has_failed_with_its_text_and_the_next_one_runs():
    """Of any kind of error, our own too."""
    bench = Bench()
    errors = [
        ValueError("no water"),
        KeyError("k"),
        MemoryError(),
        OSError(5),
        LinkError("x", "y"),
        StorageError("full"),
    ]
    for number, error in enumerate(errors, 1):
        bench.handler("bad", failing(error))
        bench.act(payload(number, "bad"))
        status, rest = bench.said(number)
        assert status == "failed"
        assert rest["why"].startswith(type(error).__name__)
    assert bench.said(1)[1]["why"].startswith("ValueError: no water at bench.py:")
    bench.act(payload(50))
    assert bench.ran == [{}]


def test_a_long_text_of_an_error_is_cut():
    """A result is small."""
    bench = Bench()
    bench.handler("bad", failing(ValueError("x" * 5000)))
    bench.act(payload(1, "bad"))
    why = bench.said(1)[1]["why"]
    assert len(why) == 240
    assert " at bench.py:" in why


def test_what_raises_nothing_that_is_an_exception_has_failed_too():
    """A program may raise anything; on a board a Ctrl-C is a person's."""
    bench = Bench()

    class Own(BaseException):
        pass

    class Mute(Exception):
        def __str__(self):
            raise ValueError

    errors = [KeyboardInterrupt(), SystemExit(0), GeneratorExit(), Own("mine"), Mute()]
    for number, error in enumerate(errors, 1):
        bench.handler("bad", failing(error))
        bench.act(payload(number, "bad"))
        assert bench.said(number)[0] == "failed"
        assert bench.said(number)[1]["why"].startswith(type(error).__name__ + ": ")


def test_a_failure_names_the_innermost_frames_the_innermost_first():
    """In the same words on both interpreters."""
    bench = Bench()

    def d():
        return [][1]

    def c():
        return d()

    def b():
        return c()

    def handler(wake):
        return b()

    bench.handler("bad", handler)
    bench.act(payload(1, "bad"))
    why = bench.said(1)[1]["why"]
    places = why.partition(" at ")[2].split(", ")
    assert [place.split(" in ")[1].split(".")[-1] for place in places] == ["d", "c", "b"], why
    lines = [int(place[len("test_runner_faults.py:") :].split(" ")[0]) for place in places]
    assert lines == sorted(lines)
    assert lines[2] - lines[0] == 6


def test_a_failure_of_the_call_itself_has_no_place():
    """No line of the program has run."""
    bench = Bench()
    bench.handler("bad", lambda: 1)
    bench.act(payload(1, "bad"))
    assert bench.said(1)[0] == "failed"
    assert " at " not in bench.said(1)[1]["why"].replace("takes 0 positional", "")


def test_a_recursion_without_end_is_told_in_one_line():
    """However deep its traceback is."""
    bench = Bench()

    def again(wake):
        return again(wake)

    bench.handler("bad", again)
    bench.act(payload(1, "bad"))
    status, rest = bench.said(1)
    assert status == "failed"
    assert rest["why"].count("again") == 3
    assert len(rest["why"]) <= 240


def test_a_handler_that_has_not_run_has_not_succeeded():
    """A call of a generator or of a coroutine returns before its first line."""
    bench = Bench()

    def generator():
        yield 1

    async def coroutine():
        return 1

    for number, function in enumerate((generator, coroutine), 1):
        bench.handler("late", lambda wake, function=function: function())
        bench.act(payload(number, "late"))
        status, rest = bench.said(number)
        assert status == "failed"
        assert "which is not run" in rest["why"]
        assert "value" not in rest


def test_a_value_or_an_exception_that_raises_when_it_is_looked_at_costs_its_command_alone():
    """Both are the program's own."""

    class Rude(dict):
        def values(self):
            raise SystemExit

        items = keys = values

    class Untold(Exception):
        def __str__(self):
            raise SystemExit

        __repr__ = __str__

    def raises(wake):
        raise Untold

    bench = Bench()
    bench.handler("value", lambda wake: Rude(a=1))
    bench.handler("raises", raises)
    bench.handler("good", lambda wake: None)
    bench.act(payload(1, "value"), payload(2, "raises"), payload(3, "good"))
    assert [bench.said(n)[0] for n in (1, 2, 3)] == ["failed", "failed", "succeeded"]
    assert "Untold" in bench.said(2)[1]["why"]
