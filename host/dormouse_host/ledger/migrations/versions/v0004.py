"""A name of the ledger for each device; the states that a device has left, and the highest wake in its present one.

Every device keeps the name that all of them had, so no command's id changes.

Must stay true: this step was released and is never changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NAMED = """
INSERT INTO ledger_names (device, name, since, why)
SELECT device, :name, :since, :why FROM (SELECT id AS device FROM devices UNION SELECT device FROM numbers) AS known
"""
_WAKE = """
UPDATE devices SET wake = COALESCE(
    (SELECT MAX(wake) FROM reports WHERE reports.device = devices.id AND reports.state = devices.state), 0)
"""
_LEFT = """
INSERT INTO states_left (device, state, at)
SELECT device, state, MAX(at) FROM (
    SELECT device, state, at FROM reports
    UNION ALL SELECT device, state, at FROM ends
    UNION ALL SELECT device, state, entered FROM commands WHERE state IS NOT NULL
) AS heard
WHERE EXISTS (SELECT 1 FROM devices WHERE devices.id = heard.device AND devices.state <> heard.state)
GROUP BY device, state
"""


def upgrade() -> None:
    """Give every device the ledger's name, and learn its states from its reports."""
    connection = op.get_bind()
    name = connection.execute(sa.text("SELECT name FROM ledger")).scalar()
    known = sa.text("SELECT since, why FROM ledger_names WHERE name = :name")
    since, why = connection.execute(known, {"name": name}).first() or (0.0, "new")
    op.drop_table("ledger_names")
    op.drop_table("ledger")
    op.create_table(
        "ledger_names",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device"),
    )
    op.add_column("devices", sa.Column("wake", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "states_left",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("device", "state"),
    )
    if name is not None:
        connection.execute(sa.text(_NAMED), {"name": name, "since": since, "why": why})
    connection.execute(sa.text(_WAKE))
    connection.execute(sa.text(_LEFT))
