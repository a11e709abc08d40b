"""What a device understands, in the ledger: asked for when a wake report shows a catalogue that is not stored.

Must stay true: a catalogue that a device reports costs it one `describe`, whatever the answer, unless nobody will ever
learn the answer (unknown); what is stored belongs to the hash beside it.
"""

import json
from typing import Any

from sqlalchemy import Connection, select, update

from dormouse import protocol
from dormouse_host.ledger import entry, messages, schema
from dormouse_host.ledger.rows import C, D, Device

DESCRIBE = "describe"
_ASKED = "?"  # before the hash of a catalogue that was asked for and has not come


def learn(connection: Connection, device: Device, value: Any, text: str) -> None:
    """A device has answered `describe` with `value`, which is `text` as JSON."""
    if not isinstance(value, dict) or not isinstance(value.get("commands"), list):
        return
    report = connection.execute(select(D.report).where(D.id == device.id)).scalar()
    device.catalogue_hash = messages.catalogue_hash(json.loads(report)) if report else None
    known = {"catalogue": text, "catalogue_hash": device.catalogue_hash}
    connection.execute(update(schema.devices).where(D.id == device.id).values(known))


def ask(connection: Connection, device: Device, reported: str | None, now: float) -> None:
    """A report of this device said `reported` as its catalogue's hash: have it described, where that isn't stored."""
    if reported is None or reported == device.catalogue_hash:
        return
    asked = _ASKED + reported
    describes = select(C.open, C.status).where(C.device == device.id, C.do == DESCRIBE).order_by(C.n.desc()).limit(1)
    if device.catalogue_hash == asked:
        last = connection.execute(describes).first()
        if last and (last.open or last.status != protocol.UNKNOWN):
            return
    device.catalogue_hash = asked
    connection.execute(update(schema.devices).where(D.id == device.id).values(catalogue_hash=asked))
    if not connection.execute(describes.where(C.open)).first():
        entry.enter(connection, [entry.Order(device.id, DESCRIBE)], now)
