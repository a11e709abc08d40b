"""Many sleeping devices in one process: `python -m proofs.scale.devices FOLDER BROKER FIRST LAST`.

Must stay true: each wake is the agent's whole wake, from its files to its last word to the broker, one device after
the other. A line on stdin is one wake of every device; its answer is a line of JSON: `failed`, the wakes that did
not end well; `effects`, the commands that have taken effect so far, and `twice`, those that did so more than once;
`cpu`, this process's seconds of CPU so far.
"""

import json
import sys
import time
from pathlib import Path

from dormouse import agent
from dormouse.ports.posix import Port
from proofs.scale import effects

NAME = "dev%05d"


class Quiet(Port):
    """A device whose log goes nowhere: with so many wakes it would be what is measured."""

    def emit(self, line: str) -> None:
        """Says nothing."""


def serve(folder: Path, broker: str, first: int, last: int) -> None:
    """Wake devices number `first` to `last` - 1 for each line of stdin."""
    devices = []
    for at in range(first, last):
        device = folder / (NAME % at)
        device.mkdir()
        (device / "config.json").write_text(json.dumps({"id": device.name, "broker": broker}))
        devices.append(str(device))
    _say(failed=0)
    for _ in sys.stdin:
        _say(failed=sum(agent.Agent(Quiet(device)).run("proofs.scale.app") is not None for device in devices))


def _say(failed: int) -> None:
    twice = sum(times > 1 for times in effects.done.values())
    said = {"failed": failed, "effects": len(effects.done), "twice": twice, "cpu": time.process_time()}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
