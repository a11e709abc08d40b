"""What should have been told of the trial, and whether it was: nothing but what happened, each once, in time."""

from collections.abc import Sequence
from dataclasses import dataclass

from dormouse_host.ledger.alerts import BATTERY, CLOSED, OPENED, OVERDUE, PROGRAM
from proofs.trial.boards import EVERY
from proofs.trial.clock import HOUR

CALM = HOUR
_THIRD = 105 * 60.0  # from the last wake to the third that is missed, of a device that wakes every 15 minutes
_SLACK = 1500.0  # seconds of the trial, 15 of this machine, for a machine that has other work
WAIT = {  # kind -> seconds from the cause's begin until it is told at the earliest and at the latest; and from its end
    OVERDUE: ((_THIRD - EVERY - 60, _THIRD + 600 + _SLACK), (0.0, _SLACK)),
    BATTERY: ((0.0, EVERY + _SLACK), (CALM - EVERY - 60, CALM + EVERY + _SLACK)),
    PROGRAM: ((0.0, EVERY + _SLACK), (CALM - EVERY - 60, CALM + EVERY + _SLACK)),
}


@dataclass(frozen=True)
class Cause:
    """Something that happened to a device, from `begins` to `ends` in Unix seconds of the trial."""

    device: str
    kind: str
    begins: float
    ends: float


@dataclass(frozen=True)
class Told:
    """A message of an alert: `event` at `at`, as it says itself."""

    device: str
    kind: str
    event: str
    at: float


def judge(channel: str, messages: Sequence[Told], causes: Sequence[Cause]) -> list[str]:
    """What is wrong with the messages of one channel, in the order of their coming; empty where nothing is."""
    wrong = []
    left = list(messages)
    for cause in causes:
        mine = [one for one in messages if (one.device, one.kind) == (cause.device, cause.kind)]
        left = [one for one in left if one not in mine]
        what = f"{channel}: {cause.kind} of {cause.device}"
        events = [one.event for one in mine]
        if events != [OPENED, CLOSED]:
            wrong.append(f"{what}: told {', '.join(events) or 'nothing'}")
            continue
        for one, since, (earliest, latest) in zip(mine, (cause.begins, cause.ends), WAIT[cause.kind], strict=True):
            if not earliest <= one.at - since <= latest:
                wrong.append(f"{what}: {one.event} {one.at - since:.0f} s after, not {earliest:.0f} to {latest:.0f}")
    return wrong + [f"{channel}: {one.kind} of {one.device} {one.event}, and there was no such thing" for one in left]
