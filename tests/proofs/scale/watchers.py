"""Who looks on while a relay works: python -m proofs.scale.watchers LEDGER, until it is ended.

A program that follows every event, one that hands telemetry on and keeps its place in the ledger, and a Prometheus that
asks once a second, fifteen times as often as it does by itself.
"""

import sys
import threading
import time

from dormouse_host.desk.metrics import exposition
from dormouse_host.errors import HostError
from dormouse_host.fleet import START, Fleet
from dormouse_host.ledger.following import Following


def _follow(following: Following, *, keep: bool) -> None:
    while True:
        try:
            for _ in following:
                if keep and not following.ahead:
                    following.keep()
        except HostError as error:  # busy: it goes on where it was
            print(error, file=sys.stderr)


def main(where: str) -> None:
    """Until it is ended."""
    with Fleet(where) as fleet:
        every = fleet.on(after=START)
        telemetry = fleet.on("telemetry", after=START, name="influx")
        for following, keep in ((every, False), (telemetry, True)):
            threading.Thread(target=_follow, args=(following,), kwargs={"keep": keep}, daemon=True).start()
        print("looking on", flush=True)
        while True:
            exposition(fleet)
            time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
