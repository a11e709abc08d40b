"""SQLite's partial indexes say `open = 1`, as its queries do: with `open` alone none of them was ever used.

Must stay true: this step was released and is never changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INDEXES = (
    ("commands_open", "commands", ["device", "n"], "open = 1"),
    ("commands_expiry", "commands", ["expires"], "open = 1"),
    ("commands_after", "commands", ["after"], "open = 1"),
    ("devices_due", "devices", ["id"], "due = 1"),
)


def upgrade() -> None:
    """Make them again; PostgreSQL's are as they should be."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for name, table, columns, where in _INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, columns, sqlite_where=sa.text(where))
