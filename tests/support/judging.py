"""A ledger whose clock a test sets, with devices that report, and its alerts judged by a Judge."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from dormouse import protocol
from dormouse_host.desk.judge import Judge
from dormouse_host.ledger.alerts import Rules
from dormouse_host.ledger.store import Incoming, Ledger

NOW = 1_800_000_000.0
RULES = Rules(channels=("mqtt",))


class Bench:
    """`now` is the ledger's clock. Each device has its wake number."""

    def __init__(self, where: str, rules: Rules = RULES) -> None:
        self.now = NOW
        self.where = where
        self.ledger = Ledger(where, lambda: self.now)
        self.judge = Judge(self.ledger, rules, lambda: self.now, 0)
        self.wakes: dict[str, int] = {}

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def another(self, rules: Rules = RULES) -> Judge:
        """Another relay's judge, of the same ledger."""
        return Judge(self.ledger, rules, lambda: self.now, 0)

    def report(self, device: str, **fields: Any) -> None:
        """A wake report; the next is due in 15 minutes."""
        self.reports([device], fields)

    def reports(self, devices: Sequence[str], fields: Mapping[str, Any] = {}) -> None:
        """The same from each of these devices, at once."""
        came = []
        for device in devices:
            self.wakes[device] = self.wakes.get(device, 0) + 1
            said = {"wake": self.wakes[device], "state": f"s{device}", "next": 900, **fields}
            came.append(Incoming(device, protocol.WAKE, json.dumps(said).encode()))
        assert self.ledger.take(came, None) == []

    def after(self, seconds: float) -> int:
        """Let time pass, then look. How many alerts opened or closed."""
        self.now += seconds
        return self.judge.look()

    @property
    def open(self) -> list[tuple[str, str]]:
        """(device, kind) of the open alerts, the oldest first."""
        return [(view.device, view.kind) for view in reversed(self.ledger.alert_views())]

    def messages(self) -> list[tuple[str, str, str]]:
        """(device, kind, event) of every message there ever was, in their order."""
        with self.ledger.database.reading() as connection:
            found = connection.exec_driver_sql(
                "SELECT a.device, a.kind, m.event FROM alert_messages m JOIN alerts a ON a.key = m.alert ORDER BY m.key"
            )
            return [(device, kind, event) for device, kind, event in found]


@pytest.fixture
def bench(where: str) -> Iterator[Bench]:
    """A bench on each database."""
    made = Bench(where)
    yield made
    made.close()
