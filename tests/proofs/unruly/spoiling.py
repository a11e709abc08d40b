"""Programs that take or damage what the agent needs: memory, flash, its files, the clock, sockets, other modules.

They close their files: one that is left open is closed by a collection, in which the virtual board's flash can't work.
"""

from proofs.unruly.program import BOARDS, Program, hangs

_HOG = """
size = 1 << 20
while size > 8:
    try:
        KEEP.append(bytearray(size))
    except MemoryError:
        size >>= 1
"""
_HOG_RAISES = "while True:\n    KEEP.append(bytearray(512))"
_HOG_HERE = "while True:\n    KEEP.append(bytearray(1 << 22))"
_FILL = """
import os
n = 0
size = 4096
while size:
    try:
        with open("junk%d" % n, "wb") as file:
            file.write(bytes(size))
    except OSError:
        size //= 8
    n += 1
"""
_FILL_HERE = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
_EACH = """
import os, sys
top = sys.argv[1] + "/" if len(sys.argv) > 1 else "/"
def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
for name in os.listdir(top + "state"):
    with open(top + "state/" + name, "rb") as file:
        data = file.read()
    if %s:
        %s
"""
_DELETE = 'os.remove(top + "state/" + name)'
_RANDOM = 'write(top + "state/" + name, os.urandom(60))'
_CUT = 'write(top + "state/" + name, data[: len(data) // 2])'
_EMPTY = 'write(top + "state/" + name, b"")'
_FLIP = 'write(top + "state/" + name, data[:-1] + bytes((data[-1] ^ 255,)) if data else b"x")'
_HANG = "\nwhile True:\n    pass"
_WRITE = """
import sys
top = sys.argv[1] + "/" if len(sys.argv) > 1 else "/"
with open(top + %r, "wb") as file:
    file.write(%r)
"""
_REMOVE = """
import os, sys
top = sys.argv[1] + "/" if len(sys.argv) > 1 else "/"
os.remove(top + %r)
"""
_CLOCK = "import machine\nmachine.RTC().datetime((%d, 2, 3, 0, 4, 5, 6, 0))"
_CLOCK_HERE = "import time\ntime.time = lambda: %d"
_SOCKETS = """
import socket
try:
    while True:
        KEEP.append(socket.socket())
except OSError:
    pass
"""
_SOCKETS_HERE = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n" + _SOCKETS


def _state(which: str, what: str, after: str = "") -> str:
    return _EACH % (which, what) + after


PROGRAMS = [
    Program("heap exhausted and kept", "import", _HOG, ("import left out",), _HOG_HERE),
    Program("heap exhausted, MemoryError", "import", _HOG_RAISES, ("MemoryError", "import left out"), _HOG_HERE),
    Program("heap exhausted in safe_state", "safe_state", _HOG, ("import left out", "MemoryError"), _HOG_HERE),
    Program("heap exhausted in a reading", "reading", _HOG, ("import left out", "MemoryError"), _HOG_HERE),
    Program("heap exhausted in a handler", "handler", _HOG, ("MemoryError", "succeeded", "interrupted"), _HOG_HERE),
    Program("flash filled", "import", _FILL, ("",), _FILL_HERE),
    Program("flash filled in a reading", "reading", _FILL, ("",), _FILL_HERE),
    Program("flash filled in a handler", "handler", _FILL, ("succeeded",), _FILL_HERE),
    Program("deletes all state", "import", _state("True", _DELETE), ("import left out",)),
    Program("deletes all state in a reading", "reading", _state("True", _DELETE), ("import left out",)),
    Program("deletes all state in a handler", "handler", _state("True", _DELETE), ("succeeded", "unknown")),
    Program("random bytes in all state", "import", _state("True", _RANDOM), ("import left out",)),
    Program("random bytes in a reading", "reading", _state("True", _RANDOM), ("import left out",)),
    Program("random bytes in a handler", "handler", _state("True", _RANDOM), ("succeeded", "unknown")),
    Program("cuts all state in half", "import", _state("True", _CUT), ("import left out",)),
    Program("empties all state", "import", _state("True", _EMPTY), ("import left out",)),
    Program("flips a byte in all state", "import", _state("True", _FLIP), ("import left out", "")),
    Program("deletes the wake's number", "import", _state('name == "wake"', _DELETE)),
    Program("deletes the journal", "reading", _state('name[:3] == "cmd"', _DELETE), ("import left out",)),
    Program("deletes the telemetry", "reading", _state('name[:3] == "tel"', _DELETE)),
    hangs("deletes its own mark and hangs", "import", _state('name in ("piece", "skips")', _DELETE, _HANG)),
    Program(
        "writes into all settings' files",
        "import",
        _WRITE % ("state/kept", b"\xff{")
        + _WRITE % ("state/trial", b"1nonsense")
        + _WRITE % ("state/skips", b"[]")
        + _WRITE % ("state/credentials", b"\0"),
        ("kept", "settings"),
        later=True,
    ),
    Program(
        "settings of another kind",
        "import",
        _WRITE % ("state/kept", b'{"nokey":[1,null],"budget":["x",null]}'),
        ("settings", "kept", "nokey"),
        later=True,
    ),
    Program("deletes config.json", "import", _REMOVE % "config.json", ("its copy is used",), later=True),
    Program(
        "deletes config.json in a reading and hangs",
        "reading",
        _REMOVE % "config.json" + _HANG,
        ("its copy is used",),
        later=True,
    ),
    Program("empties config.json", "import", _WRITE % ("config.json", b""), ("its copy is used",), later=True),
    Program(
        "config.json is no JSON", "handler", _WRITE % ("config.json", b"\0\xff" * 40), ("its copy is used",), later=True
    ),
    Program("config.json of nothing", "import", _WRITE % ("config.json", b"{}"), ("its copy is used",), later=True),
    Program("deletes secrets.json", "import", _REMOVE % "secrets.json", ("its copy is used",), later=True),
    Program("secrets.json is no JSON", "import", _WRITE % ("secrets.json", b"{,}"), ("its copy is used",), later=True),
    Program("deletes app.py", "import", _REMOVE % "app.py", ("ImportError", "ModuleNotFoundError"), later=True),
    Program("app.py is cut", "reading", _WRITE % ("app.py", b"def f("), ("SyntaxError",), later=True),
    Program("the clock at 1970", "import", _CLOCK % 1970, (), _CLOCK_HERE % 0),
    Program("the clock at 2036", "import", _CLOCK % 2036, (), _CLOCK_HERE % 2085978500),
    Program("the clock at 2038", "reading", _CLOCK % 2038, ("OverflowError", ""), _CLOCK_HERE % 2147483700),
    Program("the clock at 2107", "import", _CLOCK % 2107, ("OverflowError", ""), _CLOCK_HERE % 4325000000),
    Program("the clock at 2107 in a handler", "handler", _CLOCK % 2107, ("succeeded",), _CLOCK_HERE % 4325000000),
    Program("all sockets", "import", _SOCKETS, ("import left out",), _SOCKETS_HERE),
    Program("all sockets in a handler", "handler", _SOCKETS, ("succeeded", "interrupted", "failed"), _SOCKETS_HERE),
    Program(
        "another folder",
        "import",
        'import os\nos.mkdir("/away") if "away" not in os.listdir("/") else 0\nos.chdir("/away")',
        (),
        'import os\nos.chdir("/")',
    ),
    Program(
        "another folder in a handler",
        "handler",
        'import os\nos.chdir("/lib")',
        ("succeeded",),
        'import os\nos.chdir("/")',
    ),
    Program(
        "the flash unmounted",
        "import",
        'import os\nos.umount("/")',
        ("import left out",),
        ports=BOARDS,
        window=60,
        why="a process can't; a Pico that can plan no sleep is awake for a minute",
    ),
    Program(
        "the flash unmounted in a handler",
        "handler",
        'import os\nos.umount("/")',
        ("interrupted", "succeeded", "failed"),
        ports=BOARDS,
        window=60,
        why="the same",
    ),
    Program(
        "the processor at 20 MHz", "import", "import machine\nmachine.freq(20000000)", (), "import os\nos.nice(19)"
    ),
    Program(
        "no collection",
        "import",
        "import gc\ngc.disable()\nfor n in range(4000):\n    bytearray(200)",
        ("",),
    ),
    Program(
        "the radio off",
        "reading",
        "import network\nw = network.WLAN(network.STA_IF)\nw.active(True)\nw.active(False)",
        (),
        ports=BOARDS,
        why="a process has none",
    ),
    Program(
        "another network",
        "import",
        """
import network, time
w = network.WLAN(network.STA_IF)
w.active(True)
w.connect("no such network", "password")
time.sleep(0.3)
""",
        (),
        ports=BOARDS,
        why="a process has none",
    ),
    Program(
        "the agent's socket closed",
        "handler",
        """
import gc
""",
        ("succeeded",),
        """
import gc, socket
for thing in gc.get_objects():
    if isinstance(thing, socket.socket):
        thing.close()
""",
    ),
    Program(
        "all descriptors closed",
        "handler",
        "pass",
        ("succeeded", "interrupted", "failed"),
        "import os\nos.closerange(0, 200)",
        ports=("posix",),
        why="a process's",
    ),
    Program("a module called struct.py", "import", "import struct", (), files={"errno.py": "EAGAIN = 1\n"}, wakes=3),
]
