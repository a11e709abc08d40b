# mypy: ignore-errors
"""The app of the device in the power-cut proof: commands whose effect is one line that cannot be taken back.

Must stay true: `begin K` is told before anything else in a handler, and `effect K` is the effect of command K.
"""

import lives

from dormouse import command, telemetry


def _act(k):
    lives.tell("begin", k)
    lives.point()
    lives.tell("effect", k)
    lives.point()
    lives.tell("end", k)
    lives.point()
    return {"k": k}


@command("once", k=int)
def once(wake, k):
    return _act(k)


@command("again", repeatable=True, k=int)
def again(wake, k):
    return _act(k)


@command("boom", k=int)
def boom(wake, k):
    _act(k)
    raise ValueError("boom %d" % k)


@command("late", k=int)
def late(wake, k):
    """While it runs the host sends more."""
    lives.tell("late", k)
    lives.ask()
    return _act(k)


@telemetry()
def reading(wake):
    return {"boot": lives.Life.boot}
