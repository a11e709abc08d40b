"""Commands that were sent together, devices whose credential was revoked, ledgers that were moved."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add two columns, an index and a table; nothing that is there is rewritten."""
    op.add_column("commands", sa.Column("batch", sa.Text(), nullable=True))
    op.create_index(
        "commands_batch",
        "commands",
        ["batch"],
        unique=False,
        sqlite_where=sa.text("batch IS NOT NULL"),
        postgresql_where=sa.text("batch IS NOT NULL"),
    )
    op.add_column("devices", sa.Column("revoked", sa.Double(), nullable=True))
    op.create_table(
        "moved",
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("at"),
    )
