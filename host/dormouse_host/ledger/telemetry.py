"""Telemetry that came: stored, and missing records asked for.

A record is in the database once, or counted as dropped once. What never came is asked for, one question at a time, and
only of a device that may still have it.
"""

import json
from dataclasses import replace

from sqlalchemy import Connection, delete, select, update

from dormouse_host.ledger import entry, messages, rows, schema
from dormouse_host.ledger.rows import Device, commands

records, streams, gone = schema.telemetry.c, schema.telemetry_streams.c, schema.telemetry_gone.c
ends = schema.ends.c
RESEND = "resend"


def store(connection: Connection, device: Device, batch: messages.Telemetry, now: float) -> int:
    """A batch of records. Returns how many were new."""
    at = (streams.device == device.id, streams.state == batch.state)
    whole = (
        connection.execute(select(streams.whole).where(*at)).scalar() or 0
    )  # what is below was here, and may be pruned
    stored = [
        {
            "device": device.id,
            "state": batch.state,
            "number": number,
            "time": time if time > 0 else now + time,
            "at": now,
            "record": values,
        }
        for number, time, values in batch.records
        if number > whole
    ]
    new = rows.insert_once(connection, schema.telemetry, stored) if stored else 0
    if new and rows.was_left(connection, device, batch.state):  # what is missing below them nobody can ask for
        give_up(connection, replace(device, state=batch.state), now)
    return new


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
    look_at_tail(connection, replace(device, state=None), state, acked, now)
    connection.execute(of_state)


def look_at_tail(connection: Connection, device: Device, state: str, acked: int, now: float) -> None:
    """Ask for the records that the broker acknowledged to the device and that never came."""
    stream = (streams.device == device.id, streams.state == state)
    whole = connection.execute(select(streams.whole).where(*stream)).scalar() or 0
    if acked <= whole:
        return
    of_state = (records.device == device.id, records.state == state)
    there = select(records.number).where(*of_state, records.number > whole).order_by(records.number)
    spans = [(number, number, False) for number in connection.execute(there).scalars()]
    lost = (gone.device == device.id, gone.state == state)
    for first, last in connection.execute(select(gone.first, gone.last).where(*lost, gone.last > whole)):
        spans.append((first, last, True))
    up_to, dropped, gaps = follow(whole, acked, sorted(spans))
    rows.insert_once(connection, schema.telemetry_streams, {"device": device.id, "state": state, "whole": 0})
    counted = {"whole": up_to, "dropped": streams.dropped + dropped}
    connection.execute(update(schema.telemetry_streams).where(*stream).values(counted))
    connection.execute(delete(schema.telemetry_gone).where(*lost, gone.last <= up_to))
    asked = select(commands.key).where(commands.device == device.id, commands.open, commands.do == RESEND).limit(1)
    if gaps and state == device.state and not connection.execute(asked).first():
        wanted = messages.dump({"from": gaps[0][0], "to": gaps[-1][1]})
        entry.enter(connection, [entry.Order(device.id, RESEND, wanted)], now)


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
