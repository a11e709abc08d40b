"""Indexes that are used: SQLite's partial ones say `open = 1`, as its queries do; `open` alone never fitted any.

And devices that have never spoken are not among those that are due.

Must stay true: this step was released and is never changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN = (("commands_open", ["device", "n"]), ("commands_expiry", ["expires"]), ("commands_after", ["after"]))


def upgrade() -> None:
    """Make them again."""
    if op.get_bind().dialect.name == "sqlite":
        for name, columns in _OPEN:
            op.drop_index(name, "commands")
            op.create_index(name, "commands", columns, sqlite_where=sa.text("open = 1"))
    op.drop_index("devices_due", "devices")
    op.create_index(
        "devices_due",
        "devices",
        ["id"],
        sqlite_where=sa.text("due = 1 AND state IS NOT NULL"),
        postgresql_where=sa.text("due AND state IS NOT NULL"),
    )
