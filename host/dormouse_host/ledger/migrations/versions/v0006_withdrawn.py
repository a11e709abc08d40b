"""What a rollout has withdrawn by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    column: sa.Column[bool] = sa.Column("withdrawn", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    op.add_column("rollout_devices", column)
