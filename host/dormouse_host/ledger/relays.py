"""The relays that work on a ledger: one of each name, known by its host, its process and a random part.

Must stay true: of two live relays one name belongs to the one that had it first; what a relay does to its name or its
devices it does as the instance that it is, never to another that has the name by now.
"""

import os
import secrets
import socket

from sqlalchemy import Connection, delete, insert, select, update

from dormouse_host.errors import HostError
from dormouse_host.ledger import rows, schema, views
from dormouse_host.ledger.rows import D

ALIVE = 30.0  # seconds after its last sign of life that a relay counts as alive
R = schema.relays.c
_ours: set[str] = set()  # the instances of this process


def register(connection: Connection, relay: str, now: float) -> str:
    """Be the only live relay of this name. Returns the instance; HostError where another is."""
    mine = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    there, alive = _registered(connection, relay, now)
    if alive:
        raise HostError(f"a relay named {relay} is alive ({there}): choose another --name", 2)
    connection.execute(delete(schema.relays).where(R.name == relay))
    connection.execute(insert(schema.relays).values(name=relay, instance=mine, until=now + ALIVE))
    _ours.add(mine)
    return mine


def keep_alive(connection: Connection, relay: str, instance: str, now: float) -> bool:
    """A sign of life. False where another relay has taken the name."""
    mine = update(schema.relays).where(R.name == relay, R.instance == instance)
    return connection.execute(mine.values(until=now + ALIVE)).rowcount == 1


def release(connection: Connection, relay: str, instance: str) -> None:
    """This instance ends: others may have its devices at once. Nothing where another has taken its name."""
    if connection.execute(delete(schema.relays).where(R.name == relay, R.instance == instance)).rowcount:
        rows.count_on(connection, rows.lock_where(connection, D.relay == relay), relay=None)


def forget(connection: Connection, relay: str, now: float) -> None:
    """A relay that will not come back: others may have its devices. HostError where it is alive."""
    instance, alive = _registered(connection, relay, now)
    if alive:
        raise HostError(f"relay {relay} is alive: stop it first", 2)
    if instance:
        release(connection, relay, instance)


def found(connection: Connection, now: float) -> list[views.RelayView]:
    """The relays that have worked on this ledger and were not stopped in order."""
    return views.relays(connection, lambda instance, until: until > now and not _is_dead(instance))


def _registered(connection: Connection, relay: str, now: float) -> tuple[str | None, bool]:
    """The instance that has a relay's name, if any, and whether it is alive; the name is locked."""
    rows.lock_name(connection, f"relay {relay}")
    there = connection.execute(select(R.instance, R.until).where(R.name == relay)).first()
    return (there.instance, there.until > now and not _is_dead(there.instance)) if there else (None, False)


def _is_dead(instance: str) -> bool:
    """Was it a process of this machine, and is it gone?"""
    host, _, rest = instance.partition("/")
    if host != socket.gethostname():
        return False
    try:
        pid = int(rest.partition("/")[0])
        if pid == os.getpid():  # in a container each one is number 1
            return instance not in _ours
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
