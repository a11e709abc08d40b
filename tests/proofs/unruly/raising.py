"""Programs that raise what nobody expects, return what nobody can store, and declare what nobody can keep."""

from proofs.unruly.program import HEAD, Program

_EVIL = """
class Evil(Exception):
    def __str__(self):
        raise SystemExit("in str")
    __repr__ = __str__
raise Evil()
"""
_FALSE = """
class False_(Exception):
    @property
    def __class__(self):
        raise ValueError("no class")
raise False_()
"""
_DEEP = "def down(n):\n    return down(n + 1) + 1\ndown(0)"
_CORO = "async def later():\n    pass\nraise later()"
_CYCLE = "value = []\nvalue.append(value)\nreturn %s"
_WIDE = "value = [None] * 30\nvalue[:] = [value] * 30\nreturn %s"
_EVIL_DICT = """
class Evil(dict):
    def values(self):
        raise SystemExit
    items = keys = values
value = Evil()
value["a"] = 1
return %s
"""


def _raises(name: str, place: str, body: str, *words: str, **more) -> Program:
    return Program(name, place, body, words, **more)


PROGRAMS = [
    _raises("import exits", "import", "import sys\nsys.exit()", "SystemExit"),
    _raises(
        "import is interrupted",
        "import",
        "raise KeyboardInterrupt",
        "KeyboardInterrupt",
        "import left out",
        window=600,
        why="on a board it is what a person's Ctrl-C is: ten minutes for that person come first",
    ),
    _raises("import raises MemoryError", "import", "raise MemoryError", "MemoryError"),
    _raises("import recurses", "import", _DEEP, "recursion"),
    _raises("import raises a coroutine", "import", _CORO, "TypeError", "exceptions must"),
    _raises("import raises what can't be told", "import", _EVIL, "Evil"),
    _raises("import raises what has no class", "import", _FALSE, "False_"),
    _raises("import of nothing", "import", "import no_such_module", "ImportError", "ModuleNotFoundError"),
    _raises("import of itself", "import", "import app\napp.unruly", "app"),
    _raises("safe_state exits", "safe_state", "import sys\nsys.exit(3)", "SystemExit"),
    _raises("safe_state recurses", "safe_state", _DEEP, "recursion"),
    _raises("safe_state raises what can't be told", "safe_state", _EVIL, "Evil"),
    _raises("reading exits", "reading", "import sys\nsys.exit()", "SystemExit"),
    _raises("reading recurses", "reading", _DEEP, "recursion"),
    _raises("reading raises what can't be told", "reading", _EVIL, "Evil"),
    _raises("reading raises what has no class", "reading", _FALSE, "False_"),
    _raises("reading returns itself", "reading", _CYCLE % '{"x": value}', "no JSON"),
    _raises("reading returns a thousand million", "reading", _WIDE % '{"x": value}', "no JSON"),
    _raises("reading returns what raises", "reading", _EVIL_DICT % '{"x": value}', "SystemExit", "no JSON"),
    _raises(
        "reading returns 3000 values", "reading", 'return {"key%d" % n: n for n in range(3000)}', "MemoryError", ""
    ),
    _raises("reading returns other keys", "reading", "return {(1, 2): 3, None: 4, b'': 5}", "no JSON"),
    _raises("handler exits", "handler", "import sys\nsys.exit()", "SystemExit"),
    _raises("handler recurses", "handler", _DEEP, "recursion"),
    _raises("handler raises a coroutine", "handler", _CORO, "TypeError", "exceptions must"),
    _raises("handler raises what can't be told", "handler", _EVIL, "Evil"),
    _raises("handler raises what has no class", "handler", _FALSE, "False_"),
    _raises("handler returns itself", "handler", _CYCLE % "value", "no JSON"),
    _raises("handler returns a thousand million", "handler", _WIDE % "value", "no JSON"),
    _raises("handler returns what raises", "handler", _EVIL_DICT % "value", "SystemExit", "no JSON"),
    _raises(
        "log of what can't be told",
        "reading",
        """
class Evil:
    def __str__(self):
        raise SystemExit
    __repr__ = __str__
wake.log("a\\nb", **{"x": {1, 2}, "y": Evil(), "z": b"\\xff"})
wake.log("error", kind="telemetry", stage=[1], why=5)
wake.log("error", kind="telemetry", stage="mine", why=5)
wake.log("error", kind="telemetry")
return {"x": 1}
""",
        "mine",
    ),
    Program(
        "log as if the agent spoke",
        "handler",
        """
for n in range(300):
    wake.log("error", kind="telemetry", stage={}, why={"a": n})
    wake.log("asleep", next=0, ms=-1)
""",
        ("succeeded",),
    ),
    Program(
        "10000 commands",
        "",
        HEAD
        + """    pass


for n in range(10000):
    command("c%d" % n)(unruly)
""",
        ("MemoryError", "import left out", ""),
    ),
    Program(
        "300 commands with long arguments",
        "",
        HEAD
        + """    pass


for n in range(300):
    command("command number %d" % n, first=int, second=(str, "a default"), third=list)(unruly)
""",
        ("MemoryError", "import left out", ""),
    ),
    Program(
        "names that are not ASCII",
        "",
        HEAD
        + """    pass


command("gießen 🌙", s=(str, "漢字"))(unruly)
class Reading:
    __name__ = "температура" * 9
    def __call__(self, wake):
        1 // 0
telemetry()(Reading())
""",
        ("ZeroDivisionError",),
    ),
    Program(
        "a name that is no text",
        "",
        HEAD
        + """    pass


class Reading:
    __name__ = 5
    def __call__(self, wake):
        1 // 0
telemetry()(Reading())
""",
        ("ZeroDivisionError",),
    ),
    Program(
        "a built-in command's name",
        "",
        HEAD
        + """    pass


for name in ("ping", "config", "reset", "log"):
    command(name)(unruly)
""",
        ("a built-in command has this name",),
    ),
    Program(
        "nonsense in the agent's tables",
        "import",
        """
from dormouse import app
app.commands["x"] = 5
app.readings[7] = None
app.refused.append(None)
app.commands["ping"] = unruly
""",
        ("import left out", "ImportError"),
    ),
    Program("it empties the settings", "reading", "wake.config.clear()", ("import left out",)),
    Program(
        "it empties the settings in a handler", "handler", "wake.config.clear()", ("interrupted", "failed", "succeeded")
    ),
]
