"""`make brokers`: every broker that can be had here under `dormouse broker check`, side by side, as Markdown.

Must stay true: each cell is what the check saw in this run.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dormouse_host.broker.local import Embedded, LocalBroker, Mosquitto
from dormouse_host.broker_check.check import check, severity
from dormouse_host.broker_check.findings import Case, Row, trial
from support import made_broker
from support.brokers import Nats, Rabbit
from support.needs import need_mosquitto

_MARKS = {"ok": "", "note": "", "warning": "⚠ ", "broken": "✗ ", "not tried": ""}


@contextmanager
def ours(depth: int) -> Iterator[Case]:
    """mosquitto as `dormouse broker init` sets it up."""
    with tempfile.TemporaryDirectory(prefix="dormouse-table-") as folder:
        made = made_broker.make(Path(folder) / "b")
        with made_broker.MadeBroker(made) as broker, trial(made, depth) as case:

            def restart() -> None:
                broker.kill()
                broker.start()

            case.restart = restart
            yield case


@contextmanager
def stock(make: Callable[[], LocalBroker], depth: int) -> Iterator[Case]:
    """A broker as it comes. Killed, it keeps its data folder."""
    with make() as broker:

        def restart() -> None:
            assert broker._child
            broker._child.kill()
            broker.stop()
            broker.start()

        yield Case(broker.address, depth=depth, restart=restart)


def version(package: str) -> str:
    """As Debian has it installed."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return found.stdout.partition("-")[0] or "?"


def main(depth: int) -> None:
    """Print the table."""
    tried = {
        f"mosquitto {version('mosquitto')}, `broker init`": ours(depth),
        f"mosquitto {version('mosquitto')}, stock": stock(lambda: Mosquitto(need_mosquitto()), depth),
        f"RabbitMQ {version('rabbitmq-server')}": stock(Rabbit, depth),
        f"NATS {version('nats-server')}": stock(Nats, depth),
        "amqtt 0.12.1": stock(Embedded, depth),
    }
    columns: list[dict[str, Row]] = []
    for name, entered in tried.items():
        with entered as case:
            columns.append({row.key: row for row in check(case)})
        print(f"{name}: done", file=sys.stderr)
    keys = {key: row.what for column in columns for key, row in column.items()}
    print(f"| | {' | '.join(tried)} |\n|{'---|' * (len(tried) + 1)}")
    for key, what in keys.items():
        cells = [_MARKS[column[key].grade] + column[key].seen if key in column else "–" for column in columns]
        print(f"| {what} | {' | '.join(cells)} |")
    print(f"| exit code | {' | '.join(str(severity(list(column.values()))) for column in columns)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
