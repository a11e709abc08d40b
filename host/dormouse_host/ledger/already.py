"""Which messages are stored already, because another relay that got the same ones was first.

Must stay true: it says so only of a message that changes nothing when it is stored once more, whatever else it says; it
locks nothing and writes nothing. So little of a message is read that this costs less than storing it again.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from dormouse import protocol
from dormouse_host.ledger import given, messages, schema
from dormouse_host.ledger.keys import without_signature

results, reports, ends = schema.results.c, schema.reports.c, schema.ends.c
records, devices = schema.telemetry.c, schema.devices.c


class Key(NamedTuple):
    """By which what a message says is found: the topic's leaf, and what is selected for it below."""

    leaf: str
    values: tuple[str | int, ...]


def keys_of(device: str, leaf: str, payload: bytes) -> list[Key]:
    """Those of a message; none where it cannot be told by them that it is stored."""
    try:
        protocol.check_device_id(device)
        said = messages.load(without_signature(payload))
        return [Key(leaf, (device, *values)) for values in _READ[leaf](said)]
    except (ValueError, LookupError, TypeError, AttributeError):  # whatever it is: who stores it says what is wrong
        return []


def _answers(said: Any) -> list[tuple[str]]:
    """An answer to a command that was sent without an id is another one each time."""
    if not isinstance(said, list) or not all(isinstance(entry["id"], str) for entry in said):
        raise ValueError
    return [(messages.digest_of(entry),) for entry in said]


def _wake(said: Any) -> list[tuple[str, int]]:
    return [(messages.state(said["state"]), messages.whole(said["wake"]))]


def _batch(said: Any) -> list[tuple[str, int, int]]:
    numbers = [number for number, _, _ in said["records"]]
    first, last = messages.whole(numbers[0]), messages.whole(numbers[-1])
    if numbers != list(range(first, last + 1)):
        raise ValueError
    return [(messages.state(said["state"]), first, last)]


_READ: dict[str, Callable[[Any], Sequence[tuple[str | int, ...]]]] = {
    protocol.RESULT: _answers,
    protocol.WAKE: _wake,
    protocol.END: _wake,
    protocol.TELEMETRY: _batch,
}


def stored(connection: Connection, several: Sequence[tuple[str, Sequence[Key]]]) -> list[bool | None]:
    """Which of these messages, each with its device, are stored? None: that cannot be told."""
    found: set[Key] = set()
    for leaf, query in _QUERIES.items():
        wanted = sorted({key.values for _, keys in several for key in keys if key.leaf == leaf})
        if wanted:
            rows = connection.execute(query(connection.dialect.name), given.values(wanted))
            found.update(Key(leaf, tuple(row)) for row in rows)
    answers: list[bool | None] = [all(key in found for key in keys) if keys else None for _, keys in several]
    rest = sorted({device for (device, _), is_stored in zip(several, answers, strict=True) if is_stored is False})
    if rest:
        known = set(connection.execute(_KNOWN, {"names": given.listed(rest)}).scalars())
        answers = [
            None if is_stored is False and device not in known else is_stored
            for (device, _), is_stored in zip(several, answers, strict=True)
        ]
    return answers


_KNOWN = select(devices.id).where(given.among(devices.id, "names"))


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


_QUERIES = {protocol.RESULT: _results, protocol.WAKE: _reports, protocol.END: _ends, protocol.TELEMETRY: _telemetry}
