"""The line to the simulation that stands around the board: the supply, the radio, the pins, the watchdog.

Must stay true: an answer belongs to its question, also after Ctrl-C broke a question off; what the simulation says
unasked reaches `on_notice`; when the simulation is gone, so is the board.
"""

import ffi
import json

CRASH = 70  # exit status: the firmware itself failed
RESET, SOFT, SOFT_RAW, DEEPSLEEP, CUT = 64, 65, 66, 67, 75

libc = ffi.open(None)
exit = libc.func("v", "_exit", "i")  # at once: no `finally` runs, as in a reset
_file = None
_asked = 0
fileno = -1  # the descriptor on which notices come
on_notice = None


def connect(descriptor):
    """Speak over this open descriptor from now on. Returns the first line, what this boot is about."""
    global _file, fileno
    _file = open(descriptor, "r+b")  # noqa: SIM115  (for the life of the process)
    fileno = descriptor
    return json.loads(_file.readline())


def tell(*message):
    """Say something that needs no answer."""
    _file.write(json.dumps((0,) + message) + "\n")


def ask(*message):
    """Ask, and wait for the answer as long as it takes. OSError where the answer is one."""
    global _asked
    _asked += 1
    number = _asked
    _file.write(json.dumps((number,) + message) + "\n")
    while True:
        answer = _take()
        if answer[0] == number:
            if len(answer) > 2:
                raise OSError(answer[2])
            return answer[1]


def take_notice():
    """Read one line that is waiting."""
    _take()


def _take():
    line = _file.readline()
    if not line:
        exit(0)
    try:
        answer = json.loads(line)
    except ValueError:
        return (-1,)  # the rest of a line whose reading Ctrl-C broke off
    if answer[0] == 0 and on_notice:
        on_notice(answer[1])
    return answer
