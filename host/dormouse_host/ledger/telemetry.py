"""Telemetry that came: stored, and missing records asked for.

A record is in the database once, or counted as dropped once. What never came is asked for, one question at a time, and
only of a device that may still have it.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, select

from dormouse_host.ledger import entry, given, messages, rows, schema
from dormouse_host.ledger.hearing import Hearing
from dormouse_host.ledger.rows import Device

records, streams, gone = schema.telemetry.c, schema.telemetry_streams.c, schema.telemetry_gone.c
ends = schema.ends.c
RESEND = "resend"


def store(hearing: Hearing, device: Device, batch: messages.Telemetry) -> None:
    """A batch of records."""
    whole = hearing.whole(device, batch.state)  # what is below was here, and may be pruned
    stored = [
        {
            "device": device.id,
            "state": batch.state,
            "number": number,
            "time": time if time > 0 else hearing.now + time,
            "at": hearing.now,
            "record": values,
        }
        for number, time, values in batch.records
        if number > whole
    ]
    if batch.state == device.state:
        hearing.records(stored)
    elif stored:
        with hearing.aside(device) as connection:
            new = rows.insert_once(connection, schema.telemetry, stored)
            if new and rows.was_left(connection, device, batch.state):  # what is missing below nobody can ask for
                give_up(connection, replace(device, state=batch.state), hearing.now)


def give_up(connection: Connection, device: Device, now: float) -> None:
    """The flash under this state was wiped: the records that it is known to have had and that never came are gone."""
    state = device.state or ""
    newest_end = select(ends.record).where(ends.device == device.id, ends.state == state).order_by(ends.wake.desc())
    end = connection.execute(newest_end.limit(1)).scalar()
    highest = select(records.number).where(records.device == device.id, records.state == state)
    number = connection.execute(highest.order_by(records.number.desc()).limit(1)).scalar()
    acked = max(json.loads(end)["acked"] if end else 0, number or 0)
    of_state = delete(schema.telemetry_gone).where(gone.device == device.id, gone.state == state)
    connection.execute(of_state)
    all_of_it = {"device": device.id, "state": state, "first": 1, "last": acked}
    rows.insert_once(connection, schema.telemetry_gone, all_of_it)
    stream = (streams.device == device.id, streams.state == state)
    whole = connection.execute(select(streams.whole).where(*stream)).scalar() or 0
    if acked > whole:
        _count([Tail(device.id, state, whole, acked)], connection)
    connection.execute(of_state)


class Tail(NamedTuple):
    """A stream of telemetry, up to where it is whole, and up to where the broker has acknowledged it to the device."""

    device: str
    state: str
    whole: int
    acked: int


def note_tail(hearing: Hearing, device: Device, state: str, acked: int) -> None:
    """An end record came again, so that what it says was acknowledged is there or lost."""
    whole = hearing.whole(device, state) if acked else 0
    if acked <= whole:
        return
    hearing.tails[device.id, state] = max(acked, hearing.tails.get((device.id, state), 0))


def look_at_tails(hearing: Hearing, heard: Mapping[str, Device]) -> None:
    """Ask for the records that the broker acknowledged to the devices and that never came."""
    wanted, hearing.tails = sorted(hearing.tails.items()), {}
    if not wanted:
        return
    with hearing.aside(*(heard[device] for (device, _), _ in wanted)) as connection:
        tails = [Tail(device, state, hearing.whole(heard[device], state), acked) for (device, state), acked in wanted]
        missing = _count(tails, connection)
    for tail, (first, last) in missing.items():
        device = heard[tail.device]
        if tail.state == device.state and not hearing.asks(device, RESEND):
            args = messages.dump({"from": first, "to": last})
            hearing.orders.append(entry.Order(device.id, RESEND, args))


@cache
def _there(dialect: str) -> Select[Any]:
    """The records of given streams above given numbers."""
    device, state, whole = given.columns(dialect, str, str, int)
    found = select(records.device, records.state, records.number)
    return found.where(records.device == device, records.state == state, records.number > whole)


@cache
def _lost(dialect: str) -> Select[Any]:
    """What the devices said is gone of them."""
    device, state, whole = given.columns(dialect, str, str, int)
    found = select(gone.device, gone.state, gone.first, gone.last)
    return found.where(gone.device == device, gone.state == state, gone.last > whole)


def _count(tails: Sequence[Tail], connection: Connection) -> dict[Tail, tuple[int, int]]:
    """Count on what is whole of these streams. Returns the first and the last that is missing, of those of which
    anything is.
    """
    dialect = connection.dialect.name
    asked = given.values(tail[:3] for tail in tails)
    spans: dict[tuple[str, str], list[tuple[int, int, bool]]] = defaultdict(list)
    for device, state, number in connection.execute(_there(dialect), asked):
        spans[device, state].append((number, number, False))
    lost = list(connection.execute(_lost(dialect), asked))
    for device, state, first, last in lost:
        spans[device, state].append((first, last, True))
    counted, missing = [], {}
    for tail in tails:
        stream = (tail.device, tail.state)
        up_to, dropped, gaps = follow(tail.whole, tail.acked, sorted(spans[stream]))
        counted.append({"device": tail.device, "state": tail.state, "whole": up_to - tail.whole, "dropped": dropped})
        if any((device, state) == stream for device, state, *_ in lost):
            of_stream = (gone.device == tail.device, gone.state == tail.state)
            connection.execute(delete(schema.telemetry_gone).where(*of_stream, gone.last <= up_to))
        if gaps:
            missing[tail] = gaps[0][0], gaps[-1][1]
    rows.insert_or_add(connection, schema.telemetry_streams, counted, "whole", "dropped")
    return missing


def follow(whole: int, acked: int, spans: list[tuple[int, int, bool]]) -> tuple[int, int, list[tuple[int, int]]]:
    """From `whole` on: up to where everything is there or gone, how many of that are gone, and the gaps up to `acked`.

    `spans` are (first, last, gone), in order. A record that is there and said to be gone is there. A gap above `acked`
    is not asked for yet, for an end record may be older than what has come, but nothing counts as whole beyond it.
    """
    stored = {first for first, _, is_gone in spans if not is_gone}
    gaps: list[tuple[int, int]] = []
    at, up_to, dropped = whole, None, 0
    for first, last, is_gone in spans:
        if first > at + 1:
            up_to = at if up_to is None else up_to
            gaps.append((at + 1, first - 1))
        if last > at and is_gone and up_to is None:
            dropped += last - at - sum(at < number <= last for number in stored)
        at = max(at, last)
    gaps.append((at + 1, acked))
    wanted = [(first, min(last, acked)) for first, last in gaps if first <= min(last, acked)]
    return (at if up_to is None else up_to), dropped, wanted
