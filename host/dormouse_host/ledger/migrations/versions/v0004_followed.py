"""Telemetry and wake reports get a key that rises, by which they can be followed; lines of the devices' logs; cursors;
views on PostgreSQL.
"""

import sqlalchemy as sa
from alembic import op

from dormouse_host.ledger.migrations.views_0004 import VIEWS

revision = "0004"
down_revision = "0003"
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FOLLOWED = {"telemetry": "number", "reports": "wake"}  # table -> what counts within a device's state


def upgrade() -> None:
    """Number the rows of two tables in the order of their coming: PostgreSQL writes them anew, SQLite copies them. Then
    add what is new.
    """
    for table, count in _FOLLOWED.items():
        unique = ("device", "state", count)
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
            op.execute(f"ALTER TABLE {table} ADD COLUMN key BIGSERIAL PRIMARY KEY")
            op.create_unique_constraint(f"{table}_once", table, unique)
        else:
            _copy(table, unique)
    op.add_column("devices", sa.Column("log_error", sa.Text(), nullable=True))
    op.add_column("devices", sa.Column("log_asked", sa.Double(), nullable=True))
    op.create_table(
        "log_lines",
        sa.Column("key", _KEY, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wake", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("device", "digest", name="log_lines_once"),
    )
    op.create_index("log_lines_at", "log_lines", ["at"], unique=False)
    op.create_index("log_lines_device", "log_lines", ["device", "time"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        for name, query in VIEWS.items():
            op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {query}")
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _copy(table: str, unique: tuple[str, ...]) -> None:
    """SQLite changes no primary key. Its rowid becomes the key, which takes no more room."""
    there = sa.inspect(op.get_bind()).get_columns(table)
    columns = [sa.Column(column["name"], column["type"], nullable=False) for column in there]
    names = ", ".join(column.name for column in columns)
    op.drop_index(f"{table}_at", table)
    op.rename_table(table, "before")
    key = sa.Column("key", sa.Integer(), nullable=False)
    once = sa.UniqueConstraint(*unique, name=f"{table}_once")
    op.create_table(table, key, *columns, sa.PrimaryKeyConstraint("key"), once)
    op.execute(f"INSERT INTO {table} (key, {names}) SELECT rowid, {names} FROM before ORDER BY rowid")
    op.drop_table("before")
    op.create_index(f"{table}_at", table, ["at"], unique=False)
