"""A device's wakes are read newest first."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the index."""
    op.create_index("reports_device", "reports", ["device", "at", "wake"])
