"""The app of every device here: one command, whose effects are counted (scale/effects.py).

Must stay true: imported anew at each wake, as on a board.
"""

from dormouse import command
from proofs.scale import effects


@command("say", n=int)
def say(wake, n):
    """The command of this measurement."""
    effects.done[wake.config["id"], n] += 1
    return {"n": n}
