"""A device's own log lines: asked for by themselves once something new has gone wrong, and stored by wake.

Must stay true: a wake without an error asks for nothing; one error asks once a day at most, however many wakes report
it; each line is stored once.
"""

import hashlib
import json
import re
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from dormouse_host.ledger import entry, rows, schema
from dormouse_host.ledger.rows import Device, commands, devices
from dormouse_host.ledger.shown import faults

LOG = "log"  # the command that a device answers with the lines that it keeps
_AGAIN = 86400.0  # seconds after which the same error asks once more
_LINES = 300  # of one answer, the newest: a device keeps 3 KiB
_LINE = 1000  # characters
_KEPT = re.compile(r"(\d{1,10}) (\d{1,10}) (\S.*)")  # wake, ms since boot, event and fields
reports = schema.reports.c
_OPEN = select(commands.key).where(commands.device == bindparam("device"), commands.open, commands.do == LOG).limit(1)
_NEXT = select(func.min(reports.wake)).where(
    reports.device == bindparam("device"), reports.state == bindparam("state"), reports.wake >= bindparam("wake")
)
_TIME = select(reports.at).where(
    reports.device == bindparam("device"), reports.state == bindparam("state"), reports.wake == bindparam("wake")
)


def errors(report: dict[str, Any]) -> str | None:
    """What went wrong by a wake report, as one short text that is the same for the same; None where nothing did."""
    found = [f"{kind} {name} {why if kind == 'app' else _general(why)}" for kind, name, why in faults(report)]
    last = report.get("last")
    if isinstance(last, dict):
        ended, why = last.get("ended"), last.get("why")
        why = why if isinstance(why, str) else ""
        if (isinstance(ended, str) and ended != "finished") or why.startswith("error"):
            found.append(f"last {ended} {_general(why)}")
    if not found:
        return None
    return hashlib.blake2b("\n".join(sorted(found)).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _general(why: str) -> str:
    """A reason without its figures: milliseconds and sizes make no other error of it."""
    return re.sub(r"\d+", "0", why)


def ask(connection: Connection, device: Device, error: str, now: float) -> None:
    """Have the log fetched if the error of the newest wake report is none that was asked about lately."""
    query = select(devices.log_error, devices.log_asked).where(devices.id == device.id)
    before, asked = connection.execute(query).one()
    if error == before and now < asked + _AGAIN:
        return
    known = {"log_error": error, "log_asked": now}
    connection.execute(update(schema.devices).where(devices.id == device.id).values(known))
    if not connection.execute(_OPEN, {"device": device.id}).first():
        entry.enter(connection, [entry.Order(device.id, LOG)], now)


def store(connection: Connection, device: str, state: str, value: Any, now: float) -> None:
    """The lines of an answer to `log`: `<wake> <ms> <event> …`, each by itself."""
    if not isinstance(value, str):
        return
    found = [match.groups() for line in value.splitlines() if (match := _KEPT.fullmatch(line))][-_LINES:]
    times: dict[int, float] = {}
    lines = []
    for wake, ms, text in ((int(wake), int(ms), _plain(text)) for wake, ms, text in found):
        if wake not in times:
            times[wake] = _time(connection, device, state, wake) or now
        digest = hashlib.blake2b(f"{state} {wake} {ms} {text}".encode(), digest_size=12).hexdigest()
        lines.append(
            {
                "device": device,
                "state": state,
                "wake": wake,
                "ms": ms,
                "time": times[wake],
                "at": now,
                "line": text,
                "digest": digest,
            }
        )
    if lines:
        rows.insert_once(connection, schema.log_lines, lines)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text[:_LINE])


def _time(connection: Connection, device: str, state: str, wake: int) -> float | None:
    """When a wake was reported, or where it was not, the next that was."""
    of_wake = {"device": device, "state": state, "wake": wake}
    known = connection.execute(_NEXT, of_wake).scalar()
    if known is None:
        return None
    at: float | None = connection.execute(_TIME, {**of_wake, "wake": known}).scalar()
    return at


def parts(line: str) -> tuple[str, Any]:
    """A line as its event and its fields; text where these are no JSON, for instance cut off."""
    event, _, more = line.partition(" ")
    try:
        return event, json.loads(more) if more else {}
    except (ValueError, RecursionError):
        return event, more
