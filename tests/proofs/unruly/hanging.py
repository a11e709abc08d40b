"""Programs that hang, reset the board, or leave something behind that does."""

from proofs.unruly.program import BOARDS, Program, hangs

_WAIT = "import time\nwhile True:\n    time.sleep(0.02)"
_SPIN = "while True:\n    pass"
_OFF = "import machine\nmachine.disable_irq()\nwhile True:\n    pass"
_RESET = "import machine\nmachine.reset()"
_EXIT = "import os\nos._exit(1)"
_KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
_STOP = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"
_DEEP = "import machine\nmachine.deepsleep(1000)"
_PRINT = "import time\nwhile True:\n    print('and on ' * 9)\n    time.sleep(0.002)"
_SOCKET = """
import socket
server = socket.socket()
server.bind(("127.0.0.1", 0)) if 0 else None
server.listen(1) if 0 else None
import time
while True:
    time.sleep(0.05)
"""
_FED = """
import machine, time
dog = machine.WDT(timeout=8000)
KEEP.append(machine.Timer(-1, mode=machine.Timer.PERIODIC, period=500, callback=lambda t: dog.feed()))
while True:
    time.sleep(0.05)
"""
_SHORT_DOG = "import machine\nmachine.WDT(timeout=1000)"
_LATER = """
import machine
KEEP.append(machine.Timer(-1, mode=machine.Timer.ONE_SHOT, period=%d, callback=lambda t: %s))
"""
_HANG = """
global hang
def hang():
    while True:
        pass
"""
_LATER_HERE = """
import threading, time, os
def later():
    time.sleep(0.2)
    %s
threading.Thread(target=later, daemon=True).start()
"""
_AT_ONCE = _LATER_HERE.replace("0.2", "0.01")
_FOR_EVER = "while True:\n    wake.hold(1)"

PROGRAMS = [
    hangs("import waits", "import", _WAIT),
    hangs("import computes", "import", _SPIN),
    hangs("import, interrupts off", "import", _OFF, _STOP),
    hangs("import resets", "import", _RESET, _EXIT),
    hangs("import crashes", "import", _DEEP, _KILL),
    hangs("import prints", "import", _PRINT),
    hangs("safe_state waits", "safe_state", _WAIT),
    hangs("safe_state computes", "safe_state", _SPIN),
    hangs("safe_state, interrupts off", "safe_state", _OFF, _STOP),
    hangs("safe_state resets", "safe_state", _RESET, _EXIT),
    hangs("safe_state sleeps", "safe_state", _DEEP, _KILL),
    hangs("reading waits", "reading", _WAIT),
    hangs("reading computes", "reading", _SPIN),
    hangs("reading, interrupts off", "reading", _OFF, _STOP),
    hangs("reading resets", "reading", _RESET, _EXIT),
    hangs("reading sleeps", "reading", _DEEP, _KILL),
    hangs("reading prints", "reading", _PRINT),
    Program("reading holds for ever", "reading", _FOR_EVER, ("Overrun",)),
    Program("reading holds once, for ever", "reading", "wake.hold(1e8)", ("Overrun",)),
    hangs("handler waits", "handler", _WAIT),
    hangs("handler computes", "handler", _SPIN),
    hangs("handler, interrupts off", "handler", _OFF, _STOP),
    hangs("handler resets", "handler", _RESET, _EXIT),
    hangs("handler sleeps", "handler", _DEEP, _KILL),
    hangs("handler holds for ever", "handler", _FOR_EVER),
    hangs(
        "handler holds on after its limit",
        "handler",
        "while True:\n    try:\n        wake.hold(1)\n    except Exception:\n        pass",
    ),
    hangs("repeatable handler hangs", "repeatable", _WAIT, wakes=4, why="it is tried three times"),
    Program(
        "loop in the schedule",
        "",
        """
from dormouse import command, telemetry

class Every(int):
    def __rfloordiv__(self, other):
        while True:
            pass
    __bool__ = __len__ = lambda self: True

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)

def reading(wake):
    return {"x": 1}

telemetry(every=300)(reading)
from dormouse import app
app.readings["reading"] = (reading, Every(300))
""",
        ("ImportError", ""),
        why="on a board the agent is one file, and has no module of that name",
    ),
    Program(
        "timer feeds the watchdog",
        "import",
        _FED,
        ("import left out",),
        ports=("RPI_PICO_W",),
        why="on an ESP32 nothing else resets a board whose watchdog is fed",
    ),
    Program("short watchdog", "import", _SHORT_DOG, ports=BOARDS, why="a process has none"),
    Program(
        "short watchdog in a handler", "handler", _SHORT_DOG, ("succeeded",), ports=BOARDS, why="a process has none"
    ),
    Program(
        "timer resets later", "import", _LATER % (1, "machine.reset()"), ("import left out",), _AT_ONCE % "os._exit(1)"
    ),
    Program(
        "timer hangs later",
        "import",
        _LATER % (1, "hang()") + _HANG,
        ("import left out",),
        _AT_ONCE % "os.kill(os.getpid(), 19)",
    ),
    Program(
        "timer of a handler resets later",
        "handler",
        _LATER % (1, "machine.reset()"),
        ("succeeded", "cut off"),
        _LATER_HERE % "os._exit(1)",
    ),
    Program(
        "timer raises later",
        "import",
        _LATER % (50, "1 // 0"),
        (),
        "import threading\nthreading.Thread(target=lambda: 1 // 0).start()",
    ),
    Program(
        "many timers",
        "import",
        """
import machine
for n in range(20):
    KEEP.append(machine.Timer(-1, mode=machine.Timer.PERIODIC, period=20, callback=lambda t: None))
""",
        ("",),  # twenty threads are more than a process may be given
        """
import threading, time
def beat():
    while True:
        time.sleep(0.02)
for n in range(20):
    threading.Thread(target=beat, daemon=True).start()
""",
    ),
    Program(
        "a thread that never ends",
        "import",
        """
import threading, time
def beat():
    while True:
        time.sleep(0.1)
threading.Thread(target=beat).start()
""",
        (),
        ports=("posix",),
        why="virtual boards have no threads",
    ),
    Program(
        "at exit it waits",
        "import",
        "import atexit, time\natexit.register(time.sleep, 600)",
        (),
        ports=("posix",),
        why="a process's",
    ),
    Program(
        "an alarm",
        "import",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)",
        ("import left out",),
        ports=("posix",),
        why="a process's",
    ),
    Program(
        "it runs the agent itself",
        "import",
        "import dormouse\ndormouse.run('app')",
        ("import",),
        """
import sys
from dormouse.ports import posix
posix.main(sys.argv[1])
""",
    ),
]
