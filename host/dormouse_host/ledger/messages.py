"""Messages of devices as values: results, reports, end records and telemetry from the bytes of their topics.

Whatever bytes come in, nothing but ValueError comes out. What is returned fits into the database (whole numbers below
2^53, text without NUL or half characters, names as in protocol.py), so one device's nonsense never keeps another's
results from being stored, nor one entry's nonsense the others of its message.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse_host.ledger.rules import End, Window

_BIGGEST = 64 * 1024  # bytes of one message; a device sends 4 KiB at most
_ENTRIES = 256  # records or answers of one message; a device sends 1 KiB of them, which are a hundred at most
_WHOLE = 1 << 53
_TEXT = 400  # characters of a reason or of a command's name
_WINDOWS = 16  # ledgers in an end record; a device remembers 4
_HASH = 40  # characters of a catalogue's hash

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One answer. `state`, `ledger` and `number` are empty for a command that was sent without an id. `digest` is of
    all of it, `value_text` the value as JSON, None where there is none.
    """

    state: str
    ledger: str
    number: int
    id: str | None
    do: str | None
    status: str
    crc: int
    value: Any
    has_value: bool
    why: str | None
    final: bool
    digest: str
    value_text: str | None


@dataclass(frozen=True)
class Results:
    """The answers of one message that are legible, and what was wrong with others, if there were any."""

    answers: tuple[Result, ...]
    wrong: str | None = None


@dataclass(frozen=True)
class Report:
    """A wake report; `fields` is all of it, `text` the same as JSON."""

    wake: int
    state: str
    next: int | None
    limit: int | None
    end: End | None
    fields: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Telemetry:
    """A batch of records: number, time as the device gave it, values as JSON; and what was wrong with others, if there
    were any.
    """

    state: str
    records: tuple[tuple[int, float, str], ...]
    wrong: str | None = None


def load(payload: bytes) -> Any:
    """A message as JSON says it."""
    if len(payload) > _BIGGEST:
        raise ValueError("too long")
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def whole(value: Any, least: int = 0) -> int:
    """A whole number that any database takes. ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _WHOLE:
        raise ValueError("not a whole number in range")
    return value


def _optional(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31 else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return value[:_TEXT].encode("utf-8", "replace").decode().replace("\0", "�")


def catalogue_hash(fields: dict[str, Any]) -> str | None:
    """The hash in a wake report; None where it has none, or one that is none."""
    value = fields.get("catalogue")
    return value if isinstance(value, str) and 0 < len(value) <= _HASH and value.isprintable() else None


def state(value: Any) -> str:
    """A state's name. ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError("no state")
    name: str = protocol.split_id(f"{value}-x.1")[0]
    return name


def dump(value: Any) -> str:
    """JSON text that any database takes."""
    try:
        text: str = codec.encode(value).decode()
        return text
    except ProtocolError:
        raise ValueError("not plain JSON") from None


def _legible(entries: list[Any], read: Callable[[Any], T]) -> tuple[tuple[T, ...], str | None]:
    """Those that can be read, and in one line what is wrong with the others. ValueError where none can be."""
    good: list[T] = []
    why = f"more than {_ENTRIES} in one message" if len(entries) > _ENTRIES else ""
    for entry in entries[:_ENTRIES]:
        try:
            good.append(read(entry))
        except ValueError as error:
            why = why or str(error)
    if why and not good:
        raise ValueError(why)
    return tuple(good), f"{len(entries) - len(good)} of {len(entries)} left out: {why}" if why else None


def results(payload: bytes) -> Results:
    """The answers of one `up/result`."""
    entries = load(payload)
    if not isinstance(entries, list):
        raise ValueError("not a list")
    return Results(*_legible(entries, _result))


def _result(fields: Any) -> Result:
    entry = _object(fields)
    status = entry.get("status")
    if status not in (*protocol.FINAL, protocol.UNKNOWN, protocol.RUNNING):
        raise ValueError("no status")
    state, ledger, number, name = "", "", 0, entry.get("id")
    if name is not None:
        if not isinstance(name, str):
            raise ValueError("id is not text")
        state, ledger, number = protocol.split_id(name)
    return Result(
        state,
        ledger,
        number,
        name,
        _text(entry.get("do")),
        status,
        whole(entry.get("crc")),
        entry.get("value"),
        "value" in entry,
        _text(entry.get("why")),
        entry.get("final") is not False and status != protocol.RUNNING,
        digest_of(entry),
        dump(entry["value"]) if "value" in entry else None,
    )


def digest(text: str) -> str:
    """By which what a device sends again is known."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def digest_of(entry: dict[str, Any]) -> str:
    """The digest of an answer."""
    try:
        return digest(dump(entry))
    except ValueError:  # each of its parts as deep as may be
        return digest("{" + ",".join(f"{dump(key)}:{dump(value)}" for key, value in entry.items()) + "}")


def end(fields: Any) -> End:
    """An end record, from its topic or out of a report."""
    record = _object(fields)
    return End(
        whole(record.get("wake")),
        state(record.get("state")),
        record.get("present") is True,
        record.get("drained") is True,
        record.get("fence_dead") is True,
        whole(record.get("acked", 0)),
        _windows(_object(record.get("windows"))),
        _update(record.get("update")),
    )


def end_of(payload: bytes) -> End:
    """The end record of one `up/end`."""
    return end(load(payload))


def _update(value: Any) -> dict[str, Any] | None:
    """What a device says of its update: which release, and one of `at`, `trial`, `kept`, `failed`."""
    if not isinstance(value, dict) or not isinstance(value.get("release"), str):
        return None
    told: dict[str, Any] = {"release": _text(value["release"])}
    at = value.get("at")
    if isinstance(at, list) and len(at) == 2 and all(isinstance(n, int) and abs(n) < 1 << 31 for n in at):
        told["at"] = at
    for key in ("trial", "kept"):
        if key in value:
            told[key] = True
    if "failed" in value:
        told["failed"] = _text(value["failed"]) or "?"
    return told


def _windows(told: dict[str, Any]) -> dict[str, Window]:
    if len(told) > _WINDOWS:
        raise ValueError("more windows than a device has")
    return {name: _window(name, value) for name, value in told.items()}


def _window(name: str, value: Any) -> Window:
    protocol.split_id(f"x-{name}.1")
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not a window")
    return Window(whole(value[0]), tuple(protocol.unpack_window(value[1])))


def report(payload: bytes) -> Report:
    """The report of one `up/wake`."""
    fields = _object(load(payload))
    last = end(fields["end"]) if fields.get("end") is not None else None
    text = dump(fields)
    return Report(
        whole(fields.get("wake")),
        state(fields.get("state")),
        _optional(fields.get("next")),
        _optional(fields.get("limit")),
        last,
        fields,
        text,
    )


def telemetry(payload: bytes) -> Telemetry:
    """The records of one `up/telemetry`."""
    batch = _object(load(payload))
    records = batch.get("records")
    if not isinstance(records, list):
        raise ValueError("no records")
    return Telemetry(state(batch.get("state")), *_legible(records, _record))


def _record(record: Any) -> tuple[int, float, str]:
    if not isinstance(record, list) or len(record) != 3:
        raise ValueError("not a record")
    number, time, values = record
    if isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < _WHOLE:
        raise ValueError("no time")
    return whole(number, 1), float(time), dump(values)


Said = Results | Report | Telemetry | End
READ: dict[str, Callable[[bytes], Said]] = {
    protocol.RESULT: results,
    protocol.WAKE: report,
    protocol.TELEMETRY: telemetry,
    protocol.END: end_of,
}
