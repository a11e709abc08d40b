"""What comes from the devices: results, reports and end records are stored, and what they mean for commands is decided.

Storing anything twice changes nothing. A command is settled by an answer to its own bytes and by nothing else. What a
device says touches no other device. A report counts only where it is newer than all that was heard: the first of a
state, or a higher wake of the present one; what may be a repetition makes the ledger ask, and the device's own answer
decides. A report also shows the hash of the device's catalogue: one that is not stored costs the device one `describe`,
whatever its answer, unless nobody will ever learn the answer (unknown). A new error in a report
makes the ledger ask for the log (device_log.py).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from dormouse import protocol
from dormouse_host.ledger import device_log, entry, messages, rows, rules, schema, strangers, telemetry, updates
from dormouse_host.ledger.contention import Busy
from dormouse_host.ledger.rows import Changes, Device, commands, devices
from dormouse_host.ledger.rules import End, Heard

ends, reports, states_left = schema.ends.c, schema.reports.c, schema.states_left.c
numbers, ledger_names = schema.numbers.c, schema.ledger_names.c
REPORT = "report"  # the command that a device answers with its wake report
_QUESTIONS_AT_ONCE = 8  # states that a device is asked about at once, however many somebody makes up
WIPED = "the device's memory was wiped"
DESCRIBE = "describe"
_ASKED = "?"  # before the hash of a catalogue that was asked for and has not come
# Made once: SQLAlchemy takes longer to build a statement than SQLite to execute it.
_MINE = commands.device == bindparam("device")
_OPEN = rows.query(_MINE, commands.open)
_OF_ANOTHER_STATE = rows.query(_MINE, commands.open, commands.state.is_not(None), commands.state != bindparam("state"))
_NUMBERED = rows.query(_MINE, commands.ledger == bindparam("ledger"), commands.number.in_(rows.some("numbers")))
_BETWEEN = (commands.number <= bindparam("high"), commands.number > bindparam("low"))
_PROVISIONAL = rows.query(_MINE, commands.provisional, commands.ledger == bindparam("ledger"), *_BETWEEN)
_OF_STATE = (_MINE, commands.state == bindparam("state"))
_QUESTIONS = rows.query(_MINE, commands.open, commands.do == REPORT)
_GIVEN_UP = rows.query(*_OF_STATE, commands.provisional, commands.status == protocol.UNKNOWN, commands.why == WIPED)
_GIVEN = (
    select(ledger_names.name, numbers.number)
    .select_from(
        schema.ledger_names.outerjoin(
            schema.numbers, (numbers.ledger == ledger_names.name) & (numbers.device == ledger_names.device)
        )
    )
    .where(ledger_names.device == bindparam("device"))
)
_HEARD = select(reports.seq).where(
    reports.device == bindparam("device"), reports.state == bindparam("state"), reports.wake == bindparam("wake")
)
_END = select(ends.repeated).where(
    ends.device == bindparam("device"), ends.state == bindparam("state"), ends.wake == bindparam("wake")
)
_THERE = select(devices.id).where(devices.id.in_(rows.some("names")))
_NEW_END = insert(schema.ends)


def known(
    connection: Connection, ids: Iterable[str], seqs: int, now: float, *, accept_new: bool = True
) -> dict[str, Device]:
    """These devices, locked, with so many seqs for each. `accept_new`: whatever a broker lets speak on a device's
    topics becomes one, unless it was removed.
    """
    wanted = set(ids)
    there: set[str] = set()
    for some in rows.chunks(wanted):
        there.update(connection.execute(_THERE, {"names": some}).scalars())
    if accept_new:
        new = wanted - there - strangers.find_removed(connection, wanted - there)
        rows.insert_devices(connection, new, now)
        there |= new
    found = rows.lock_all(connection, there, seqs)
    if len(found) < len(there):
        raise Busy("a device was removed meanwhile: try again", at_once=True)
    return found


def hear(
    connection: Connection,
    device: Device,
    said: messages.Said,
    session: str | None,
    now: float,
    *,
    retained: bool = False,
) -> None:
    """One message. `retained`: it is the broker's copy, of nobody knows when."""
    if isinstance(said, messages.Report):
        report(connection, device, said, session, now, retained)
    elif isinstance(said, messages.Telemetry):
        telemetry.store(connection, device, said, now)
    elif isinstance(said, End):
        end(connection, device, said, session, now)
    elif said.answers:
        results(connection, device, said.answers, session, now)


# ---- results


def results(
    connection: Connection, device: Device, answers: Sequence[messages.Result], session: str | None, now: float
) -> None:
    """Answers of a device, in their order."""
    numbered: dict[str, set[int]] = defaultdict(set)
    for answer in answers:
        if answer.id is not None:
            numbered[answer.ledger].add(answer.number)
    found: dict[tuple[str, int], rules.Row] = {}
    for ledger, some in numbered.items():
        ours = rows.run(connection, _NUMBERED, device=device.id, ledger=ledger, numbers=list(some))
        found.update({(ledger, row.number): row for row in ours})
    mine = [(answer, found.get((answer.ledger, answer.number)) if answer.id else None) for answer in answers]
    rows.insert_once(connection, schema.results, [_stored(device, row, answer, now) for answer, row in mine])
    changes = Changes(found.values())
    answered = []
    for answer, row in mine:
        if answer.id is not None:
            asked = row is not None and row.do == REPORT and not row.final
            _hear(connection, device, row, answer, now)
            if row and asked and row.status == protocol.SUCCEEDED:
                answered.append((row.state, row.value))
    if changes.save(connection, now):
        rows.make_due(connection, device.id)
    for state, value in answered:
        _answered(connection, device, state, value, session, now)


def _stored(device: Device, row: rules.Row | None, answer: messages.Result, now: float) -> dict[str, Any]:
    """What is kept of an answer. Its command is named here, once: to look for it would double the cost of an export."""
    text = answer.text if answer.id else f"{answer.text} {entry.command_name()}"
    return {
        "device": device.id,
        "at": now,
        "id": answer.id,
        "command": row.name if row else None,
        "do": row.do if row else answer.do,
        "status": answer.status,
        "value": messages.dump(answer.value) if answer.has_value else None,
        "why": answer.why,
        "digest": hashlib.blake2b(text.encode(), digest_size=12).hexdigest(),
    }


def _hear(connection: Connection, device: Device, row: rules.Row | None, answer: messages.Result, now: float) -> None:
    """What one answer means for its command."""
    if answer.why == rules.FORGOTTEN and answer.ledger == entry.name(connection, device.id):
        entry.rename(connection, device.id, now, f"{answer.ledger} is forgotten")
    if row is None or row.state not in (None, answer.state):
        return
    if not answer.final:
        if not row.final and row.claimed and answer.status == protocol.RUNNING:
            row.status = rules.DELIVERED
    elif rules.ours(row, answer.state, answer.crc):
        _take(connection, device, row, answer, now)
    else:
        if answer.ledger == entry.name(connection, device.id):
            entry.rename(connection, device.id, now, f"{answer.id} is known as another command")
        if rules.settle(row, protocol.REJECTED):
            row.why = "its number was taken by another command: is this ledger a copy?"


def _take(connection: Connection, device: Device, row: rules.Row, answer: messages.Result, now: float) -> None:
    """An answer to our own bytes."""
    if rules.settle(row, answer.status, provisional=answer.status == protocol.UNKNOWN):
        row.why = answer.why
    if answer.status != row.status or not answer.has_value:
        return
    row.value = messages.dump(answer.value)
    value = answer.value if isinstance(answer.value, dict) else {}
    if row.do == DESCRIBE:
        _learn_catalogue(connection, device, value, row.value)
    if row.do == device_log.LOG:
        device_log.store(connection, device.id, answer.state, answer.value, now)
    if row.do == telemetry.RESEND:
        asked, dropped = json.loads(row.args or "{}"), value.get("dropped")
        if isinstance(dropped, int):
            first = max(1, asked.get("from", 1))
            last = min(asked.get("to", 0), first + dropped - 1)
            if first <= last < 1 << 53:
                gone = {"device": device.id, "state": answer.state, "first": first, "last": last}
                rows.insert_once(connection, schema.telemetry_gone, gone)


# ---- reports and end records


def report(
    connection: Connection, device: Device, said: messages.Report, session: str | None, now: float, retained: bool
) -> None:
    """A wake report. `retained`: it is the broker's copy, of nobody knows when."""
    is_present = said.state == device.state
    newer = said.wake > device.wake if is_present else not rows.may_be_left(connection, device, said.state)
    if newer:
        _obey(connection, device, said, session, now, retained)
    elif not connection.execute(_HEARD, {"device": device.id, "state": said.state, "wake": said.wake}).first():
        _ask(connection, device, said.state, now)


def _ask(connection: Connection, device: Device, state: str, now: float) -> None:
    """A report of this state came late, or is somebody's repetition: only the device knows. One question at a time,
    once more for each such report.
    """
    asked = rows.run(connection, _QUESTIONS, device=device.id)
    found = [row for row in asked if row.state == state]
    changes = Changes(found)
    for row in found:
        row.republish = row.claimed > 0
    changes.save(connection, now)
    if found:
        rows.make_due(connection, device.id)
    elif len(asked) < _QUESTIONS_AT_ONCE:
        entry.enter(connection, [entry.Order(device.id, REPORT, state=state)], now)


def _answered(
    connection: Connection, device: Device, state: str | None, value: str | None, session: str | None, now: float
) -> None:
    """The device has answered a question that was still open: what it says of state and wake is true now."""
    try:
        said = messages.report((value or "").encode())
    except ValueError:
        return
    if said.state == state:
        _obey(connection, device, said, session, now, retained=False)


def _obey(
    connection: Connection, device: Device, said: messages.Report, session: str | None, now: float, retained: bool
) -> None:
    """This is how the device is now."""
    key = {"device": device.id, "state": said.state, "wake": said.wake}
    text = messages.dump(said.fields)
    rows.insert_once(connection, schema.reports, {**key, "seq": device.seq, "at": now, "report": text})
    known: dict[str, Any] = {"state": said.state, "wake": said.wake, "payload_limit": said.limit}
    known.update(report=text, due=True)
    if not retained:
        known.update(seen=now, next_due=now + said.next if said.next else None)
    connection.execute(update(schema.devices).where(devices.id == device.id).values(known))
    found = rows.run(connection, _OF_ANOTHER_STATE, device=device.id, state=said.state)
    changes = Changes(found)
    for row in found:
        rules.other_state(row, said.state)
        row.why = WIPED
    changes.save(connection, now)
    if device.state not in (None, said.state):
        _leave(connection, device, said.state, now)
        telemetry.give_up(connection, device, now)
    device.state, device.wake = said.state, said.wake
    if said.end:
        end(connection, device, said.end, session, now, repeated=True)
    _ask_catalogue(connection, device, messages.catalogue_hash(said.fields), now)
    device_log.ask(connection, device, said.fields, now)


def _leave(connection: Connection, device: Device, state: str, now: float) -> None:
    """The device has left its state for this one. If it had only seemed to leave this one, nothing of it is lost."""
    connection.execute(delete(schema.states_left).where(states_left.device == device.id, states_left.state == state))
    rows.leave_state(connection, device, now)
    found = rows.run(connection, _GIVEN_UP, device=device.id, state=state)
    changes = Changes(found)
    for row in found:
        rules.back(row)
    changes.save(connection, now, "the device answers under its state")


def end(
    connection: Connection, device: Device, record: End, session: str | None, now: float, *, repeated: bool = False
) -> None:
    """An end record: as it was sent, or `repeated` by the next report, at QoS 1."""
    if rows.may_be_left(connection, device, record.state):
        return
    _compare_names(connection, device, record, now)
    key = (ends.device == device.id, ends.state == record.state, ends.wake == record.wake)
    before = connection.execute(_END, {"device": device.id, "state": record.state, "wake": record.wake}).scalar()
    if before is not None and (before or not repeated):
        return
    if before is None:
        stored = {"device": device.id, "state": record.state, "wake": record.wake, "at": now, "repeated": repeated}
        connection.execute(_NEW_END, {**stored, "record": _text(record)})
        _judge(connection, device, record, session, now)
        if device.updating:
            _tell_update(connection, device, record)
        elif record.update:
            updates.late(connection, device.id, record.update, now)
    else:
        connection.execute(update(schema.ends).where(*key).values(repeated=True))
    if repeated:
        telemetry.look_at_tail(connection, device, record.state, record.acked, now)


def _tell_update(connection: Connection, device: Device, record: End) -> None:
    """How the update of a device stood at the end of a wake."""
    wake = {"device": device.id, "state": record.state, "wake": record.wake}
    began = connection.execute(_HEARD, wake).scalar() or 0
    told = {"told": messages.dump(record.update), "told_seq": began, "present": record.present}
    rows.look_at_updates(connection, [device.id], **told)


def _text(record: End) -> str:
    windows = {name: window.high for name, window in record.windows.items()}
    return messages.dump(
        {"present": record.present, "drained": record.drained, "acked": record.acked, "windows": windows}
    )


def _compare_names(connection: Connection, device: Device, record: End, now: float) -> None:
    """A device that has seen a higher number than this ledger has given: the ledger is an older copy of itself."""
    if not record.windows:
        return
    known = connection.execute(_GIVEN, {"device": device.id}).first()
    if known is None:
        return
    ledger, given = known
    window = record.windows.get(ledger)
    if window and window.high > (given or 0):
        why = f"number {window.high} of {ledger} was seen, which gave {given or 0}"
        entry.rename(connection, device.id, now, why)


def _judge(connection: Connection, device: Device, record: End, session: str | None, now: float) -> None:
    found = rows.run(connection, _OPEN, device=device.id)
    for ledger, window in record.windows.items():
        below = {"high": window.high, "low": window.high - protocol.WINDOW}
        found += rows.run(connection, _PROVISIONAL, device=device.id, ledger=ledger, **below)
    found = [row for row in found if row.state in (None, record.state)]
    if not found:
        return
    of_state = (reports.device == device.id, reports.state == record.state)
    seqs = select(reports.seq).where(*of_state, reports.wake <= record.wake).order_by(reports.seq.desc()).limit(2)
    began = connection.execute(select(reports.seq).where(*of_state, reports.wake == record.wake)).scalar()
    heard = Heard(tuple(connection.execute(seqs).scalars()), began)
    changes = Changes(found)
    for row in found:
        rules.judge(row, record, heard, session, device.seq)
    changes.save(connection, now, f"wake {record.wake}")
    if any(row.waits for row in found):
        rows.make_due(connection, device.id)


# ---- the catalogue


def _learn_catalogue(connection: Connection, device: Device, value: Any, text: str) -> None:
    """A device has answered `describe` with `value`, which is `text` as JSON."""
    if not isinstance(value, dict) or not isinstance(value.get("commands"), list):
        return
    report = connection.execute(select(devices.report).where(devices.id == device.id)).scalar()
    device.catalogue_hash = messages.catalogue_hash(json.loads(report)) if report else None
    known = {"catalogue": text, "catalogue_hash": device.catalogue_hash}
    connection.execute(update(schema.devices).where(devices.id == device.id).values(known))


def _ask_catalogue(connection: Connection, device: Device, reported: str | None, now: float) -> None:
    """A report of this device said `reported` as its catalogue's hash: have it described, where that isn't stored."""
    if reported is None or reported == device.catalogue_hash:
        return
    asked = _ASKED + reported
    of_device = (commands.device == device.id, commands.do == DESCRIBE)
    describes = select(commands.open, commands.status).where(*of_device).order_by(commands.key.desc()).limit(1)
    if device.catalogue_hash == asked:
        last = connection.execute(describes).first()
        if last and (last.open or last.status != protocol.UNKNOWN):
            return
    device.catalogue_hash = asked
    connection.execute(update(schema.devices).where(devices.id == device.id).values(catalogue_hash=asked))
    if not connection.execute(describes.where(commands.open)).first():
        entry.enter(connection, [entry.Order(device.id, DESCRIBE)], now)
