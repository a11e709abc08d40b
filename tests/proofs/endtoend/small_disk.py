"""`dormouse` on a disk that is full: SQLite is given as many pages as a file says, looked at in each transaction.

Must stay true: nothing else differs from `dormouse`; an empty or missing file is a disk with room.
"""

import os
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from dormouse_host.cli.app import main

FULL = 1  # page: SQLite takes the size that the file has for it
_ROOM = 1073741823  # pages, SQLite's own default


def limit(connection: Connection) -> None:
    """Before each transaction."""
    path = Path(os.environ["ENDTOEND_LIMIT"])
    pages = path.read_text().strip() if path.exists() else ""
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages or _ROOM}")


if __name__ == "__main__":
    event.listen(Engine, "begin", limit)
    main()
