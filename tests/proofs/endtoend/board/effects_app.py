# mypy: ignore-errors
"""The app of a device in the end-to-end proof: each of its effects is a line in a file that the agent never touches.

Must stay true: `begin K` is written before anything else in a handler, `effect K` is the effect of the command with
argument k=K, `end K` comes right before the handler returns; the n-th reading ever taken here has the value n. A
line is one write, so that no cut leaves half of one.
"""

import os

from dormouse import command, telemetry

_FOLDER = __file__.rpartition("/")[0] + "/"
_LINE = 9  # bytes of one line of `readings`


def _tell(file, line):
    with open(_FOLDER + file, "a") as f:
        f.write(line + "\n")


def _act(wake, k):
    _tell("effects", "begin %d" % k)
    wake.hold(0.002 * (k % 4))
    _tell("effects", "effect %d" % k)
    wake.hold(0.002 * (k % 3))
    _tell("effects", "end %d" % k)
    return {"k": k}


@command("once", k=int)
def once(wake, k):
    return _act(wake, k)


@command("again", repeatable=True, k=int)
def again(wake, k):
    return _act(wake, k)


@command("fail", k=int)
def fail(wake, k):
    _act(wake, k)
    raise ValueError("fail %d" % k)


def _size(file):
    try:
        return os.stat(_FOLDER + file)[6]
    except OSError:
        return 0


@telemetry()
def reading(wake):
    """Its number, and as many more characters as the file `pad` has."""
    n = _size("readings") // _LINE + 1
    _tell("readings", "%08d" % n)
    return {"n": n, "pad": "x" * _size("pad")}
