"""A ledger written to one file, and read into an empty one: on another machine, or in another kind of database.

Must stay true: names and numbers go with it, so that no device sees another ledger and nothing becomes unknown; of the
two only one takes commands, because the one that was written out takes nothing from then on; what is read is all of
the file, or nothing. No relay runs meanwhile, and no other process writes.

The file is JSON, one value a line: a head, for each table its columns and its rows, and a foot with the number of rows
and the CRC-32 of all before it. What is no text, the files of releases, is an object with its base64. It holds the keys
of signed commands, so only its owner reads it.
"""

import json
import os
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from sqlalchemy import Connection, Table, func, insert, select, text

from dormouse_host import files
from dormouse_host.errors import HostError
from dormouse_host.ledger import desk_schema, outbound, schema
from dormouse_host.ledger.database import Database
from dormouse_host.ledger.rows import CHUNK

_KIND = "dormouse ledger"
_LONGEST = 1 << 20  # bytes of a line that are read at once
_BYTES = "base64"
_STAYS = {schema.relays, schema.moved, desk_schema.desk}  # who works on a ledger does not go with it
_ANEW = {"devices": {"relay": None, "relay_until": 0.0}}  # leases of those relays
COUNTED = ("devices", "commands", "results", "telemetry")
_TABLES = [table for table in schema.metadata.sorted_tables if table not in _STAYS]


def write_out(database: Database, target: Path, now: float) -> Counter[str]:
    """Write the ledger to a new file, after which it takes nothing more. Returns the rows of each table. HostError
    where a relay is alive, or the file cannot be written: then nothing has changed.
    """
    try:
        file = files.new(target)
    except FileExistsError:
        raise HostError(f"{target} exists already; nothing was written", 2) from None
    except OSError as error:
        raise HostError(f"export to {target}: {error.strerror}", 2) from None
    try:
        with file, database.writing(even_moved=True) as connection:
            _lock(connection)
            if gone := connection.execute(select(schema.moved.c.target)).scalar():
                raise HostError(f"database {database.name} was moved to {gone} already", 2)
            alive = [relay.name for relay in outbound.relay_views(connection, now) if relay.alive]
            if alive:
                raise HostError(f"relay {', '.join(alive)} is alive: stop it first, so that nothing is on its way", 2)
            counts = _write(connection, file, now)
            file.flush()
            os.fsync(file.fileno())
            connection.execute(insert(schema.moved).values(at=now, target=str(target.absolute())))
    except BaseException as error:
        files.remove(target)
        if isinstance(error, OSError):
            raise HostError(f"export to {target}: {error.strerror}") from None
        raise
    return counts


def _lock(connection: Connection) -> None:
    """Nobody else writes until the end of this transaction; on SQLite every one that writes has that."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in schema.metadata.sorted_tables)
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))


def _write(connection: Connection, file: BinaryIO, now: float) -> Counter[str]:
    crc, counts = 0, Counter[str]()

    def put(value: object) -> None:
        nonlocal crc
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        crc = crc32(line, crc)
        file.write(line)

    put({_KIND: schema.HEAD, "at": now})
    for table in _TABLES:
        put({"table": table.name, "columns": [column.name for column in table.columns]})
        counts[table.name] = 0
        every = select(table).order_by(*table.primary_key)
        for row in connection.execute(every, execution_options={"yield_per": 1000}):
            put([{_BYTES: b64encode(value).decode()} if isinstance(value, bytes) else value for value in row])
            counts[table.name] += 1
    put({"rows": sum(counts.values()), "crc": crc})
    return counts


def check(source: Path) -> None:
    """HostError unless a new ledger takes this file: to be asked before one is made for it."""
    with _opened(source) as file:
        for _ in _rows(file, str(source)):
            pass


def read_in(database: Database, source: Path) -> Counter[str]:
    """Read a file of `write_out` into an empty ledger, all of it or nothing. Returns the rows of each table."""
    with _opened(source) as file, database.writing() as connection:
        _lock(connection)
        for table in _TABLES:
            if connection.execute(select(table).limit(1)).first() is not None:
                raise HostError(f"database {database.name} is not empty: give a new one with --db", 2)
        return _insert_all(connection, file, str(source))


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """The file at its begin, once it is known to be whole. HostError for what is wrong with it."""
    try:
        with source.open("rb") as file:
            _check(file, str(source))
            file.seek(0)
            yield file
    except OSError as error:
        raise HostError(f"import from {source}: {error.strerror}", 2) from None
    except (KeyError, TypeError, ValueError):  # whole, and not of our making
        raise HostError(f"{source}: not a file of dormouse ledger export", 2) from None


def _check(file: BinaryIO, name: str) -> None:
    """HostError unless this is a whole file of this format, as it was written."""
    line = file.readline(_LONGEST)
    head = _value(line)
    if not isinstance(head, dict) or _KIND not in head:
        raise HostError(f"{name}: not a file of dormouse ledger export", 2)
    if head[_KIND] != schema.HEAD:
        why = f"it has format {head[_KIND]}, and this dormouse has {schema.HEAD}"
        raise HostError(f"{name}: {why}: use the same version for export and import", 2)
    crc = before = 0
    last = b""
    while line:
        before, crc, last = crc, crc32(line, crc), line
        line = file.readline(_LONGEST)
    foot = _value(last)
    if not isinstance(foot, dict) or foot.get("crc") != before:
        raise HostError(f"{name} is cut off or damaged: export it again; nothing was imported", 2)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _rows(file: BinaryIO, name: str) -> Iterator[tuple[Table, dict[str, Any]]]:
    """Each row with its table. KeyError, TypeError or ValueError where the file is not of our making."""
    tables = {table.name: table for table in _TABLES}
    table: Table | None = None
    for value in map(_value, file):
        if isinstance(value, list) and table is not None:
            yield table, dict(zip(table.columns.keys(), map(_cell, value), strict=True)) | _ANEW.get(table.name, {})
        elif "table" in value:
            table = tables[value["table"]]
            if value["columns"] != table.columns.keys():
                raise HostError(f"{name}: the columns of {table.name} are not those of this dormouse", 2)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        raise TypeError
    return b64decode(value[_BYTES]) if isinstance(value, dict) else value


def _insert_all(connection: Connection, file: BinaryIO, name: str) -> Counter[str]:
    counts: Counter[str] = Counter({table.name: 0 for table in _TABLES})
    for _, found in groupby(_rows(file, name), key=lambda each: each[0].name):
        while some := list(islice(found, CHUNK)):
            table = some[0][0]
            connection.execute(insert(table), [row for _, row in some])
            counts[table.name] += len(some)
    if connection.dialect.name == "postgresql":
        for one in _TABLES:
            _count_on(connection, one)
    return counts


def _count_on(connection: Connection, table: Table) -> None:
    """The next key that PostgreSQL gives is above those that were read; SQLite does so by itself."""
    column = table.autoincrement_column
    highest = None if column is None else connection.execute(select(func.max(column))).scalar()
    if column is not None and highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sequence, highest)))


def reopen(database: Database) -> bool:
    """Have a ledger that was written out take commands again. Was it?"""
    with database.writing(even_moved=True) as connection:
        return connection.execute(schema.moved.delete()).rowcount > 0
