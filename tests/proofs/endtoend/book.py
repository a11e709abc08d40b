"""The ledger's database under the proof: its copy of an earlier hour, and a disk without room, on either kind.

Must stay true: a copy is made and put back as a user of that database does it; a full disk refuses what grows with the
database's own error, and nothing else.
"""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg

from dormouse_host import Fleet
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Ledger
from proofs.endtoend.small_disk import FULL
from support.postgresql import need_postgresql

_GROW = """
CREATE OR REPLACE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$
"""
_NO_ROOM = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';"


class Book:
    """`url`: PostgreSQL's; without it the ledger is a file in `folder`."""

    def __init__(self, folder: Path, url: str | None, *, small_disk: bool) -> None:
        self.db = url or str(folder / "ledger.db")
        self.is_file = url is None
        self._copy = folder / "copy"
        self._pages = folder / "pages"  # for small_disk.py, where the ledger is a file
        os.environ["ENDTOEND_LIMIT"] = str(self._pages if small_disk and self.is_file else "")
        self._small = small_disk
        self.module = "proofs.endtoend.small_disk" if small_disk and self.is_file else "dormouse_host.cli"

    def prepare(self) -> None:
        """The ledger is there: give its disk an end."""
        if self._small and not self.is_file:
            with psycopg.connect(self.db) as connection:
                self._room(connection, there=True)
                for table in schema.metadata.tables:
                    connection.execute(
                        f'CREATE TRIGGER grow BEFORE INSERT OR UPDATE ON "{table}" FOR EACH ROW EXECUTE FUNCTION grow()'
                    )

    def fill(self) -> None:
        """From now on there is no room."""
        self._set(there=False)

    def clear(self) -> None:
        """There is room again."""
        self._set(there=True)

    def _set(self, *, there: bool) -> None:
        if self.is_file:
            self._pages.write_text("" if there else str(FULL))
            return
        with psycopg.connect(self.db) as connection:
            self._room(connection, there=there)

    def _room(self, connection: psycopg.Connection, *, there: bool) -> None:
        connection.execute(_GROW.format("" if there else _NO_ROOM))

    def back_up(self, fleet: Fleet) -> None:
        """Keep a copy of what is in it now."""
        self._copy.unlink(missing_ok=True)
        if self.is_file:
            fleet.backup(self._copy)
        else:
            self._call("pg_dump", "--clean", "--if-exists", "--file", str(self._copy), self.db)

    def put_back(self, fleet: Fleet) -> None:
        """It is that copy again. No relay runs meanwhile."""
        fleet.ledger.database.close()
        if self.is_file:
            for end in ("", "-wal", "-shm"):
                Path(self.db + end).unlink(missing_ok=True)
            shutil.copyfile(self._copy, self.db)
        else:
            self._call(
                "psql", "--quiet", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f", str(self._copy), self.db
            )
        fleet.ledger = Ledger(self.db)  # the file is another one: whoever had it open ends

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run([str(need_postgresql() / program), *arguments], check=True, capture_output=True, timeout=120)
