"""Which messages are stored already, because another relay that got the same ones was first.

Must stay true: it says so only of a message that changes nothing when it is stored once more; it locks nothing and
writes nothing.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dormouse_host.ledger import given, messages, schema
from dormouse_host.ledger.messages import Report, Results, Said
from dormouse_host.ledger.rules import End

results, reports, ends = schema.results.c, schema.reports.c, schema.ends.c
records, devices = schema.telemetry.c, schema.devices.c
Key = tuple[str | int, ...]


def can_tell(said: Said) -> bool:
    """Does a stored message of this kind show that it is stored? Not an answer to a command that was sent without an
    id: each copy of it is another one.
    """
    if isinstance(said, Results):
        return bool(said.answers) and said.wrong is None and all(answer.id is not None for answer in said.answers)
    if isinstance(said, messages.Telemetry):
        numbers = [number for number, _, _ in said.records]
        return said.wrong is None and bool(numbers) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return True


def stored(connection: Connection, several: Sequence[tuple[str, Said]]) -> list[bool]:
    """Which of these messages, each with its device, are stored? All of them are such that one can tell."""
    dialect = connection.dialect.name
    keys = [(kind, key) for device, said in several for kind, key in _keys(device, said)]
    found: set[tuple[str, Key]] = set()
    for kind, query in (("result", _results), ("report", _reports), ("end", _ends), ("telemetry", _telemetry)):
        wanted = sorted({key for its_kind, key in keys if its_kind == kind})
        if wanted:
            rows = connection.execute(query(dialect), given.values(wanted))
            found.update((kind, tuple(row)) for row in rows)
    return [all(key in found for key in _keys(device, said)) for device, said in several]


def _keys(device: str, said: Said) -> Iterable[tuple[str, Key]]:
    if isinstance(said, Results):
        return [("result", (device, answer.digest)) for answer in said.answers]
    if isinstance(said, Report):
        return [("report", (device, said.state, said.wake))]
    if isinstance(said, End):
        return [("end", (device, said.state, said.wake))]
    return [("telemetry", (device, said.state, said.records[0][0], said.records[-1][0]))]


@cache
def _results(dialect: str) -> Select[Any]:
    device, digest = given.columns(dialect, str, str)
    return select(results.device, results.digest).where(results.device == device, results.digest == digest)


@cache
def _reports(dialect: str) -> Select[Any]:
    """Those that their devices have not only sent: it counts for the ledger, or a newer one of that state does."""
    device, state, wake = given.columns(dialect, str, str, int)
    is_stored = (reports.device == device, reports.state == state, reports.wake == wake)
    obeyed = (devices.id == device, devices.state == state, devices.wake >= wake)
    return select(reports.device, reports.state, reports.wake).where(*is_stored, *obeyed)


@cache
def _ends(dialect: str) -> Select[Any]:
    device, state, wake = given.columns(dialect, str, str, int)
    is_stored = (ends.device == device, ends.state == state, ends.wake == wake)
    return select(ends.device, ends.state, ends.wake).where(*is_stored)


@cache
def _telemetry(dialect: str) -> Select[Any]:
    device, state, first, last = given.columns(dialect, str, str, int, int)
    between = (records.number >= first, records.number <= last)
    count = select(func.count()).where(records.device == device, records.state == state, *between).scalar_subquery()
    return select(device, state, first, last).where(count == last - first + 1)
