"""A broker, or whoever plays one, that sends without end.

Must stay true: what is measured is what the kernel says the process had resident at most, while it was flooded.
"""

import os
import sys
from collections.abc import Sequence

from dormouse_host import Fleet
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.flooding import CEILING, KINDS, Flood, highest

_GROUP = "floods"
_SECONDS = 6.0
_DORMOUSE = [sys.executable, "-m", "dormouse_host.cli"]


def judged(testbed: Testbed, kinds: Sequence[str], *words: str, argv: Sequence[str] = _DORMOUSE) -> Outcome:
    """Run a command against each kind of flood. URL stands for the broker's."""
    db = str(testbed.folder / "flooded.db")
    with Fleet(db, make=True) as fleet:
        fleet.add("dev")
    most, broken = 0, ""
    for kind in kinds:
        with Flood(kind) as flood:
            around = {**os.environ, "DORMOUSE_DB": db, "DORMOUSE_BROKER": flood.url}
            said = [flood.url if word == "URL" else word for word in words]
            peak, output = highest([*argv, *said], _SECONDS, env=around)
        most = max(most, peak)
        broken = broken or ("a traceback" if "Traceback" in output else "")
    seen = f"{len(kinds)} kinds of flood, at most {most >> 20} of {CEILING >> 20} MB {broken}".rstrip()
    return Outcome(most >= CEILING or not most or bool(broken), seen)


@attack(_GROUP, "a broker that floods a relay")
def try_flood_relay(testbed: Testbed) -> Outcome:
    return judged(testbed, list(KINDS), "relay", "--name", "flooded")


@attack(_GROUP, "a broker that floods who checks it")
def try_flood_check(testbed: Testbed) -> Outcome:
    return judged(testbed, ("small", "large", "huge", "qos 2"), "broker", "check", "URL")


@attack(_GROUP, "a broker that floods a command of the line")
def try_flood_command(testbed: Testbed) -> Outcome:
    return judged(testbed, ("huge", "suback", "qos 2"), "devices", "remove", "dev")
