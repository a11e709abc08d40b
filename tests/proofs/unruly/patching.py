"""Programs that put something else in the place of what the agent uses: modules, functions, the agent's own classes."""

from proofs.unruly.program import BOARDS, Program

_ANY = ("import left out", "Error", "cut off", "")  # of some there is nothing to tell: they hit nobody


def _patch(
    name: str, body: str, tells: tuple[str, ...] = _ANY, posix: str = "", place: str = "import", **more
) -> Program:
    return Program(name, place, body, tells, posix, **more)


PROGRAMS = [
    _patch(
        "time stands",
        "import time\ntime.ticks_ms = lambda: 0",
        _ANY,
        "import time\ntime.monotonic_ns = lambda: 0",
        wakes=4,
        why="the log of such a wake can't be read, so that its backoff counts as a wake",
    ),
    _patch(
        "time jumps",
        "import time\nreal = time.ticks_ms\ntime.ticks_ms = lambda: real() * 1000 & 0x3fffffff",
        _ANY,
        "import time\nreal = time.monotonic_ns\ntime.monotonic_ns = lambda: real() * 1000",
        wakes=9,
        why="in a process it looks like a network that is silent: the eighth or ninth wake goes without the program",
    ),
    _patch("sleep returns at once", "import time\ntime.sleep_ms = time.sleep = lambda ms: None", ()),
    _patch("sleep raises", "import time\ntime.sleep_ms = time.sleep = None"),
    _patch("no socket module", "import sys\nsys.modules['socket'] = None"),
    _patch("socket() raises", "import socket\nsocket.socket = None"),
    _patch("no addresses", "import socket\nsocket.getaddrinfo = lambda *a: []"),
    _patch("json is another", "import sys\nclass Fake:\n    loads = dumps = None\nsys.modules['json'] = Fake"),
    _patch(
        "json.dumps raises",
        "import sys\nsys.modules.pop('json', 0)\nimport json\njson.dumps = 1 // 0 if 0 else None",
        _ANY,
    ),
    _patch("os.stat raises", "import os\nos.stat = os.statvfs = None"),
    _patch("os.urandom is empty", "import os\nos.urandom = lambda n: b''"),
    _patch("no garbage collector", "import gc\ngc.collect = None"),
    _patch("print raises", "import builtins\nbuiltins.print = None", ()),
    _patch("print exits", "import builtins\ndef leave(*a, **k):\n    raise SystemExit\nbuiltins.print = leave", ()),
    _patch("open raises", "import builtins\nbuiltins.open = None"),
    _patch(
        "open raises in a handler",
        "import builtins\nbuiltins.open = None",
        ("succeeded", "interrupted", "failed"),
        place="handler",
    ),
    _patch("len raises", "import builtins\nbuiltins.len = None"),
    _patch("len raises in a reading", "import builtins\nbuiltins.len = None", place="reading"),
    _patch("int raises", "import builtins\nbuiltins.int = None"),
    _patch("import raises", "import builtins\nbuiltins.__import__ = None"),
    _patch(
        "import raises in a handler",
        "import builtins\nbuiltins.__import__ = None",
        ("succeeded", "interrupted", "failed"),
        place="handler",
    ),
    _patch(
        "no output",
        "import sys\nsys.stdout = None",
        (),
        ports=("posix",),
        why="MicroPython's sys.stdout can't be replaced",
    ),
    _patch("the output closed", "import sys\nsys.stdout.close()", (), ports=("posix",), why="the same"),
    _patch("no import path", "import sys\nsys.path.clear()"),
    _patch(
        "modules forgotten",
        "import sys\nfor name in list(sys.modules):\n    if name != 'sys':\n        del sys.modules[name]",
    ),
    _patch("codec in the agent", "from dormouse import codec\ncodec.encode = None"),
    _patch("the wake's Context", "from dormouse import app\napp.Context.hold = app.Context.start = None"),
    _patch(
        "Storage writes nothing",
        """
import sys
for name in list(sys.modules):
    module = sys.modules[name]
    storage = getattr(module, 'Storage', None)
    if storage:
        storage.replace = storage.append = None
""",
    ),
    _patch(
        "the agent's modules are others",
        """
import sys
class Fake:
    pass
for name in ('dormouse.link', 'dormouse.session', 'dormouse.connection', 'dormouse.inbox', 'dormouse.runner'):
    sys.modules[name] = Fake
import dormouse
dormouse.connection = Fake
""",
    ),
    _patch(
        "machine.reset does nothing",
        "import machine\nmachine.reset = lambda *a: None",
        _ANY,
        ports=BOARDS,
        why="a process has none",
    ),
    _patch("no watchdog class", "import machine\nmachine.WDT = None", _ANY, ports=BOARDS, why="a process has none"),
    _patch(
        "network is another",
        "import sys\nsys.modules['network'] = None\nimport network",
        _ANY,
        ports=BOARDS,
        why="a process has none",
    ),
    _patch(
        "the recursion limit",
        "import sys\nsys.setrecursionlimit(40)",
        ports=("posix",),
        why="MicroPython has none to set",
    ),
]
