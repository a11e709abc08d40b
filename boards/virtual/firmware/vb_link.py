"""The line to the simulation that stands around the board: the supply, the radio, the pins, the watchdog.

Must stay true: an answer belongs to its question, also after Ctrl-C broke a question off; what the simulation says
unasked reaches `on_notice`; when the simulation is gone, so is the board, which ends with its parent.

Ctrl-C comes as a notice, and KeyboardInterrupt is raised where the program waits or asks, between two of its own
steps, as a board's firmware does: this machine's SIGINT raises it anywhere, also while the heap is locked or a file
system is being written. Only a program that computes without a wait gets the signal (virtual_board_process.py).
"""

import json
import select
import time

RESET, SOFT, SOFT_RAW, DEEPSLEEP, CUT = 64, 65, 66, 67, 75

_file = None
_asked = 0
fileno = -1  # the descriptor on which notices come
on_notice = None
before = []  # what is called before anything is told or asked: it may write a line of its own
_notices = select.poll()
_pressed = False


def connect(descriptor):
    """Speak over this open descriptor from now on. Returns the first line, what this boot is about."""
    global _file, fileno
    _file = open(descriptor, "r+b")  # noqa: SIM115  (for the life of the process)
    fileno = descriptor
    _notices.register(fileno, select.POLLIN)
    return json.loads(_file.readline())


def tell(*message):
    """Say something that needs no answer."""
    for report in before:
        report()
    write(*message)


def write(*message):
    _file.write(json.dumps((0,) + message) + "\n")


def exit(status):
    """End at once, as in a reset: the simulation kills this process, so that no `finally` of the program runs."""
    told = False
    while True:
        try:
            if not told:
                told = True
                tell("exit", status)
            time.sleep(60)
        except BaseException:  # Ctrl-C, or nobody listens any more
            pass


def ask(*message):
    """Ask, and wait for the answer as long as it takes. OSError where the answer is one."""
    answer = ask_whole(*message)
    interrupt()
    return answer


def ask_whole(*message):
    """As `ask`, for an answer that must not be lost to a Ctrl-C: `interrupt` follows when it has been used."""
    global _asked
    for report in before:
        report()
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
    interrupt()


def hear(ms=0):
    """Take what the simulation has said or says within `ms`, -1 for ever; returns after the first."""
    while _notices.poll(ms):
        take_notice()
        ms = 0


def forget():
    """A Ctrl-C that nothing has taken was meant for the code that has ended."""
    while _notices.poll(0):
        _take()
    if _taken():
        tell("interrupted")


def _taken():
    global _pressed
    pressed, _pressed = _pressed, False
    return pressed


def interrupt():
    """Raise KeyboardInterrupt where Ctrl-C was pressed."""
    if _taken():
        tell("interrupted")
        raise KeyboardInterrupt


def _take():
    global _pressed
    line = _file.readline()
    if not line:
        exit(0)
    try:
        answer = json.loads(line)
    except ValueError:
        return (-1,)  # the rest of a line whose reading Ctrl-C broke off
    if answer == [0, "ctrl-c"]:
        _pressed = True
    elif answer[0] == 0 and on_notice:
        on_notice(answer[1])
    return answer
