"""Keys of devices: which messages are theirs, and how commands to them are signed.

From the first message on that a device has signed with its key, nothing unsigned is taken from it and nothing unsigned
is sent to it, until somebody takes the key away. A key is never part of a view, a log or an error.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, select, update

from dormouse.signing import SIZE, Signer
from dormouse_host.ledger import given, rows, schema

keys = schema.keys.c
_HEX = frozenset(b"0123456789abcdef")
_KEYS = (
    select(schema.devices.c.id, keys.key, keys.proven)
    .select_from(schema.devices.outerjoin(schema.keys, keys.device == schema.devices.c.id))
    .where(given.among(schema.devices.c.id, "names"))
)


def put(connection: Connection, device: str, key: str) -> None:
    """The key of a device from now on; it counts once the device has signed with it."""
    Signer(key, device)
    remove(connection, device)
    rows.insert_once(connection, schema.keys, {"device": device, "key": key, "proven": False})


def remove(connection: Connection, device: str) -> bool:
    """Sign nothing for this device any more. Was there a key?"""
    return connection.execute(delete(schema.keys).where(keys.device == device)).rowcount == 1


class Signatures:
    """The keys of these devices, as they are at this moment. `known`: those of them that the ledger knows."""

    def __init__(self, connection: Connection, devices: Iterable[str]) -> None:
        self.known: set[str] = set()
        self._signers: dict[str, Signer] = {}
        self._keys: dict[str, str] = {}
        self._proven: set[str] = set()
        self._new: set[str] = set()
        for names in rows.chunks(set(devices)):
            for device, key, proven in connection.execute(_KEYS, {"names": given.listed(names)}):
                self.known.add(device)
                if key is None:
                    continue
                self._signers[device], self._keys[device] = Signer(key, device), key
                if proven:
                    self._proven.add(device)

    def signed(self, device: str, leaf: str, payload: bytes) -> bytes:
        """What goes to a device: signed, where it has shown that it has its key."""
        text: bytes = self._signers[device].sign(leaf, payload) if device in self._proven else payload
        return text

    def checked(self, device: str, leaf: str, payload: bytes) -> bytes:
        """What came from a device on this topic, without its signature. ValueError where a stranger said it."""
        signer = self._signers.get(device)
        if signer is None:
            return without_signature(payload)
        said: bytes | None = signer.check(leaf, payload)
        if said is None:
            if device in self._proven or _looks_signed(payload):
                raise ValueError("not signed with this device's key")
            return payload
        if device not in self._proven:
            self._proven.add(device)
            self._new.add(device)
        return said

    def save(self, connection: Connection) -> None:
        """Remember which devices have shown that they have their keys. One that was given another by now has not."""
        for device in self._new:
            shown = (keys.device == device, keys.key == self._keys[device])
            connection.execute(update(schema.keys).where(*shown).values(proven=True))


def without_signature(payload: bytes) -> bytes:
    """What a message says, whoever has signed it."""
    return payload[:-SIZE] if _looks_signed(payload) else payload


def _looks_signed(payload: bytes) -> bool:
    return len(payload) > SIZE and payload[-SIZE] == 10 and _HEX.issuperset(payload[-SIZE + 1 :])
