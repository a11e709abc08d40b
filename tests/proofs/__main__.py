"""`make proof`: all that takes longer than `make test` may, one after the other, with one table and one exit code.

Must stay true: a row is green only when its command ended with exit code 0; what it printed lies in build/proof, also
when it failed; a row that could not run is called so, and is not green; a name that is no row is refused.

python -m proofs [NAME …]        exit 0 when no row failed, 1 when one did, 2 when a name is none
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from dormouse_host import processes

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "proof"
NOT_RUN = 77  # exit code of a row that lacks what it needs, which it names in its last line
_WORDS = {0: "ok", NOT_RUN: "none"}
PYTEST = ("-m", "pytest", "-n", "4", "--dist", "loadgroup", "-q")


class Row(NamedTuple):
    """One proof: what it shows, and its command behind `python`."""

    shows: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012  (never changed)


ROWS = {
    "tests": Row("every test that `make test` leaves to the proof", (*PYTEST, "-m", "proof")),
    "journal": Row(
        "every cut of the journal's flash operations",
        (*PYTEST, "-m", "", "tests/proofs/test_journal_cuts.py"),
        {"JOURNAL_CUTS": "all"},
    ),
    "locks": Row(
        "three processes' random work on one PostgreSQL ledger for a minute: no deadlock",
        (*PYTEST, "-m", "", "tests/proofs/test_lock_order.py"),
        {"LOCK_ORDER_SECONDS": "60"},
    ),
    "model": Row("3000 seeded schedules of the protocol's model", ("-m", "proofs.model", "--seeds", "0:3000")),
    "years": Row("an hour of device-years, simulated", ("-m", "proofs.years", "--seconds", "3600", "--first")),
    "attack": Row("each attack on devices, relay and broker", ("-m", "proofs.attack")),
    "brokers": Row("mosquitto, amqtt, NATS and RabbitMQ under `dormouse broker check`", ("-m", "proofs.broker_table")),
    "cluster": Row("a node of RabbitMQ's cluster is killed, three times: nothing lost", ("-m", "proofs.cluster")),
    "matrix": Row("the device's tests on each MicroPython and each umqtt.simple", ("-m", "proofs.matrix")),
    "fuzz": Row("ten minutes of made-up bytes on both interpreters", ("-m", "proofs.fuzz", "--seconds", "600")),
    "wakes": Row("1000 wakes of each virtual board", ("-m", "proofs.board_wakes")),
    "pico": Row("the agent on MicroPython's own firmware, emulated; FIRMWARE=FILE", ("-m", "proofs.pico")),
    "endtoend": Row("real processes through every fault", ("-m", "proofs.endtoend")),
    "homeassistant": Row("what the real Home Assistant shows and sends", ("-m", "proofs.homeassistant")),
    "trial": Row("fifty boards at 100 times the speed: each alert once", ("-m", "proofs.trial")),
    "hostile": Row("hostile peers, and the connection cut at every byte", ("-m", "proofs.hostile")),
    "wire": Row("networks that hurt, on real TCP between two network namespaces", ("-m", "proofs.wire")),
    "unruly": Row("unruly programs on two virtual boards and as real processes", ("-m", "proofs.unruly")),
    "powercut": Row("power cut at every instant, and at every second one", ("-m", "proofs.powercut")),
}


def run(name: str, row: Row) -> tuple[int, float, str]:
    """Exit code, seconds and the last line of its output."""
    began = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **row.environment}
    file = LOGS / f"{name}.log"
    with file.open("wb") as log:
        child = processes.start([sys.executable, *row.command], output=log, env=environment)
        try:
            code = child.wait()
        finally:
            processes.stop(child)
    lines = file.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    return code, time.monotonic() - began, lines[-1].strip("= ")


def main(names: list[str]) -> int:
    """Run the rows of these names, or all of them."""
    if unknown := [name for name in names if name not in ROWS]:
        print(f"make proof: no row {unknown[0]!r}; the rows are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    LOGS.mkdir(parents=True, exist_ok=True)
    table = []
    try:
        for name in names or ROWS:
            print(f"{name}: {ROWS[name].shows}", flush=True)
            code, seconds, last = run(name, ROWS[name])
            table.append((name, code, seconds, last))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(f"\n{'proof':10}{'':5}{'seconds':>8}  last line of build/proof/NAME.log")
    for name, code, seconds, last in table:
        print(f"{name:10}{_WORDS.get(code, 'FAIL'):5}{seconds:8.0f}  {last[:100]}")
    return int(len(table) < len(names or ROWS) or any(code not in _WORDS for _, code, _, _ in table))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
