"""What comes from the devices: results, reports and end records are stored, and what they mean for commands is decided.

Storing anything twice changes nothing. A command is settled by an answer to its own bytes and by nothing else. What a
device says touches no other device. A report counts only where it is newer than all that was heard: the first of a
state, or a higher wake of the present one; what may be a repetition makes the ledger ask, and the device's own answer
decides. A report also shows the hash of the device's catalogue: one that is not stored costs the device one `describe`,
whatever its answer, unless nobody will ever learn the answer (unknown). A new error in a report
makes the ledger ask for the log (device_log.py).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from dormouse import protocol
from dormouse_host.ledger import device_log, entry, messages, rows, rules, schema, strangers, telemetry, updates
from dormouse_host.ledger.contention import Busy
from dormouse_host.ledger.hearing import Hearing
from dormouse_host.ledger.rows import Changes, Device, commands
from dormouse_host.ledger.rules import End, Heard

reports, states_left = schema.reports.c, schema.states_left.c
REPORT = "report"  # the command that a device answers with its wake report
_QUESTIONS_AT_ONCE = 8  # states that a device is asked about at once, however many somebody makes up
WIPED = "the device's memory was wiped"
DESCRIBE = "describe"
_ASKED = "?"  # before the hash of a catalogue that was asked for and has not come
# Made once: SQLAlchemy takes longer to build a statement than SQLite to execute it.
_OF_STATE = (commands.device == bindparam("device"), commands.state == bindparam("state"))
_GIVEN_UP = rows.query(*_OF_STATE, commands.provisional, commands.status == protocol.UNKNOWN, commands.why == WIPED)
_DESCRIBED = (
    select(commands.status)
    .where(commands.device == bindparam("device"), commands.do == DESCRIBE)
    .order_by(commands.key.desc())
    .limit(1)
)
_HEARD = select(reports.seq).where(
    reports.device == bindparam("device"), reports.state == bindparam("state"), reports.wake == bindparam("wake")
)


def known(
    connection: Connection, ids: Iterable[str], there: set[str], seqs: int, now: float, *, accept_new: bool = True
) -> dict[str, Device]:
    """These devices, locked, with so many seqs for each; `there`: those that were known a moment ago. `accept_new`:
    whatever a broker lets speak on a device's topics becomes one, unless it was removed.
    """
    wanted = set(ids)
    there = there & wanted
    if accept_new and (others := wanted - there):
        new = others - strangers.find_removed(connection, others)
        rows.insert_devices(connection, new, now)
        there |= new
    found = rows.lock_all(connection, there, seqs)
    if len(found) < len(there):
        raise Busy("a device was removed meanwhile: try again", at_once=True)
    return found


def hear(hearing: Hearing, device: Device, said: messages.Said, session: str | None, *, retained: bool = False) -> None:
    """One message. `retained`: it is the broker's copy, of nobody knows when."""
    if isinstance(said, messages.Report):
        report(hearing, device, said, session, retained)
    elif isinstance(said, messages.Telemetry):
        telemetry.store(hearing, device, said)
    elif isinstance(said, End):
        end(hearing, device, said, session)
    elif said.answers:
        results(hearing, device, said.answers, session)


# ---- results


def results(hearing: Hearing, device: Device, answers: Sequence[messages.Result], session: str | None) -> None:
    """Answers of a device, in their order."""
    numbered: dict[str, set[int]] = defaultdict(set)
    for answer in answers:
        if answer.id is not None:
            numbered[answer.ledger].add(answer.number)
    found: dict[tuple[str, int], rules.Row] = {}
    for ledger, some in numbered.items():
        ours = hearing.numbered(device, ledger, some)
        found.update({(ledger, number): ours[number] for number in sorted(ours)})
    mine = [(answer, found.get((answer.ledger, answer.number)) if answer.id else None) for answer in answers]
    hearing.results(_stored(device, row, answer, hearing.now) for answer, row in mine)
    changes = Changes(found.values())
    answered = []
    for answer, row in mine:
        if answer.id is not None:
            asked = row is not None and row.do == REPORT and not row.final
            _hear(hearing, device, row, answer)
            if row and asked and row.status == protocol.SUCCEEDED:
                answered.append((row.state, row.value))
    if changes.note(hearing.writes, hearing.now):
        hearing.look(device)
    for state, value in answered:
        _answered(hearing, device, state, value, session)


def _stored(device: Device, row: rules.Row | None, answer: messages.Result, now: float) -> dict[str, Any]:
    """What is kept of an answer. Its command is named here, once: to look for it would double the cost of an export.
    One without an id is another one each time.
    """
    return {
        "device": device.id,
        "at": now,
        "id": answer.id,
        "command": row.name if row else None,
        "do": row.do if row else answer.do,
        "status": answer.status,
        "value": answer.value_text,
        "why": answer.why,
        "digest": answer.digest if answer.id else messages.digest(f"{answer.digest} {entry.command_name()}"),
    }


def _hear(hearing: Hearing, device: Device, row: rules.Row | None, answer: messages.Result) -> None:
    """What one answer means for its command."""
    if answer.why == rules.FORGOTTEN:
        _rename(hearing, device, answer, f"{answer.ledger} is forgotten")
    if row is None or row.state not in (None, answer.state):
        return
    if not answer.final:
        if not row.final and row.claimed and answer.status == protocol.RUNNING:
            row.status = rules.DELIVERED
    elif rules.ours(row, answer.state, answer.crc):
        _take(hearing, device, row, answer)
    else:
        _rename(hearing, device, answer, f"{answer.id} is known as another command")
        if rules.settle(row, protocol.REJECTED):
            row.why = "its number was taken by another command: is this ledger a copy?"


def _rename(hearing: Hearing, device: Device, answer: messages.Result, why: str) -> None:
    """If this answer is about the ledger's present name, the ledger takes another one."""
    with hearing.aside(device) as connection:
        if answer.ledger == entry.name(connection, device.id):
            entry.rename(connection, device.id, hearing.now, why)


def _take(hearing: Hearing, device: Device, row: rules.Row, answer: messages.Result) -> None:
    """An answer to our own bytes."""
    if rules.settle(row, answer.status, provisional=answer.status == protocol.UNKNOWN):
        row.why = answer.why
    if answer.status != row.status or answer.value_text is None:
        return
    row.value = answer.value_text
    value = answer.value if isinstance(answer.value, dict) else {}
    if row.do == DESCRIBE:
        _learn_catalogue(hearing, device, value, row.value)
    if row.do == device_log.LOG:
        with hearing.aside(device) as connection:
            device_log.store(connection, device.id, answer.state, answer.value, hearing.now)
    if row.do == telemetry.RESEND:
        asked, dropped = json.loads(row.args or "{}"), value.get("dropped")
        if isinstance(dropped, int):
            first = max(1, asked.get("from", 1))
            last = min(asked.get("to", 0), first + dropped - 1)
            if first <= last < 1 << 53:
                gone = {"device": device.id, "state": answer.state, "first": first, "last": last}
                rows.insert_once(hearing.connection, schema.telemetry_gone, gone)


# ---- reports and end records


def report(hearing: Hearing, device: Device, said: messages.Report, session: str | None, retained: bool) -> None:
    """A wake report. `retained`: it is the broker's copy, of nobody knows when."""
    is_present = said.state == device.state
    newer = said.wake > device.wake if is_present else not rows.may_be_left(hearing.connection, device, said.state)
    if newer:
        _obey(hearing, device, said, session, retained)
    elif not hearing.heard(device, said.state, said.wake):
        _ask(hearing, device, said.state)


def _ask(hearing: Hearing, device: Device, state: str) -> None:
    """A report of this state came late, or is somebody's repetition: only the device knows. One question at a time,
    once more for each such report.
    """
    asked = [row for row in hearing.open(device) if row.do == REPORT]
    found = [row for row in asked if row.state == state]
    changes = Changes(found)
    for row in found:
        row.republish = row.claimed > 0
    changes.note(hearing.writes, hearing.now)
    if found:
        hearing.make_due(device)
    elif len(asked) < _QUESTIONS_AT_ONCE:
        with hearing.aside(device) as connection:
            entry.enter(connection, [entry.Order(device.id, REPORT, state=state)], hearing.now)


def _answered(hearing: Hearing, device: Device, state: str | None, value: str | None, session: str | None) -> None:
    """The device has answered a question that was still open: what it says of state and wake is true now."""
    try:
        said = messages.report((value or "").encode())
    except ValueError:
        return
    if said.state == state:
        _obey(hearing, device, said, session, retained=False)


def _obey(hearing: Hearing, device: Device, said: messages.Report, session: str | None, retained: bool) -> None:
    """This is how the device is now. What could not be published under another state may go now."""
    now = hearing.now
    hearing.report(device, said)
    known: dict[str, Any] = {"state": said.state, "wake": said.wake, "payload_limit": said.limit, "report": said.text}
    if not retained:
        known.update(seen=now, next_due=now + said.next if said.next else None)
    hearing.set(device, known)
    found = [row for row in hearing.open(device) if row.state not in (None, said.state)]
    changes = Changes(found)
    for row in found:
        rules.other_state(row, said.state)
        row.why = WIPED
    changes.note(hearing.writes, now)
    if device.state != said.state:
        hearing.make_due(device)
    if device.state not in (None, said.state):
        with hearing.aside(device) as connection:
            _leave(connection, device, said.state, now)
            telemetry.give_up(connection, device, now)
    device.state, device.wake = said.state, said.wake
    if said.end:
        end(hearing, device, said.end, session, repeated=True)
    _ask_catalogue(hearing, device, messages.catalogue_hash(said.fields))
    if (error := device_log.errors(said.fields)) is not None:
        with hearing.aside(device) as connection:
            device_log.ask(connection, device, error, now)


def _leave(connection: Connection, device: Device, state: str, now: float) -> None:
    """The device has left its state for this one. If it had only seemed to leave this one, nothing of it is lost."""
    connection.execute(delete(schema.states_left).where(states_left.device == device.id, states_left.state == state))
    rows.leave_state(connection, device, now)
    given_up = rows.run(connection, _GIVEN_UP, device=device.id, state=state)
    changes = Changes(given_up)
    for row in given_up:
        rules.back(row)
    changes.save(connection, now, "the device answers under its state")


def end(hearing: Hearing, device: Device, record: End, session: str | None, *, repeated: bool = False) -> None:
    """An end record: as it was sent, or `repeated` by the next report, at QoS 1."""
    if rows.may_be_left(hearing.connection, device, record.state):
        return
    _compare_names(hearing, device, record)
    before = hearing.ended(device, record)
    if before is not None and (before or not repeated):
        return
    if before is None:
        hearing.end(device, record, repeated=repeated)
        _judge(hearing, device, record, session)
        if device.updating:
            with hearing.aside(device) as connection:
                _tell_update(connection, device, record)
        elif record.update:
            with hearing.aside(device) as connection:
                updates.late(connection, device.id, record.update, hearing.now)
    else:
        hearing.repeat(device, record)
    if repeated:
        telemetry.note_tail(hearing, device, record.state, record.acked)


def _tell_update(connection: Connection, device: Device, record: End) -> None:
    """How the update of a device stood at the end of a wake."""
    wake = {"device": device.id, "state": record.state, "wake": record.wake}
    began = connection.execute(_HEARD, wake).scalar() or 0
    told = {"told": messages.dump(record.update), "told_seq": began, "present": record.present}
    rows.look_at_updates(connection, [device.id], **told)


def _compare_names(hearing: Hearing, device: Device, record: End) -> None:
    """A device that has seen a higher number than this ledger has given: the ledger is an older copy of itself."""
    if not record.windows:
        return
    name = hearing.name(device)
    if name is None:
        return
    ledger, last = name
    window = record.windows.get(ledger)
    if window and window.high > last:
        why = f"number {window.high} of {ledger} was seen, which gave {last}"
        with hearing.aside(device) as connection:
            entry.rename(connection, device.id, hearing.now, why)


def _judge(hearing: Hearing, device: Device, record: End, session: str | None) -> None:
    found = hearing.open(device)
    for ledger, window in record.windows.items():
        found += hearing.guessed(device, ledger, window)
    found = [row for row in found if row.state in (None, record.state)]
    if not found:
        return
    asked = any(rules.needs_heard(row, record) for row in found)
    heard = hearing.reports(device, record) if asked else Heard((), None)
    changes = Changes(found)
    for row in found:
        rules.judge(row, record, heard, session, device.seq)
    changes.note(hearing.writes, hearing.now, f"wake {record.wake}")
    if any(row.waits for row in found):
        hearing.make_due(device)


# ---- the catalogue


def _learn_catalogue(hearing: Hearing, device: Device, value: dict[str, Any], text: str) -> None:
    """A device has answered `describe` with `value`, which is `text` as JSON: this is what was asked for."""
    if not isinstance(value.get("commands"), list):
        return
    device.catalogue_hash = device.catalogue_hash.removeprefix(_ASKED) if device.catalogue_hash else None
    hearing.set(device, {"catalogue": text, "catalogue_hash": device.catalogue_hash})


def _ask_catalogue(hearing: Hearing, device: Device, reported: str | None) -> None:
    """A report of this device said `reported` as its catalogue's hash: have it described, where that isn't stored."""
    if reported is None or reported == device.catalogue_hash:
        return
    asked = _ASKED + reported
    if device.catalogue_hash == asked and (hearing.asks(device, DESCRIBE) or _will_not_be_known(hearing, device)):
        return
    device.catalogue_hash = asked
    hearing.set(device, {"catalogue_hash": asked})
    if not hearing.asks(device, DESCRIBE):
        hearing.orders.append(entry.Order(device.id, DESCRIBE))


def _will_not_be_known(hearing: Hearing, device: Device) -> bool:
    """It was described already, and what came of that is known."""
    hearing.write()
    status = hearing.connection.execute(_DESCRIBED, {"device": device.id}).scalar()
    return status not in (None, protocol.UNKNOWN)
