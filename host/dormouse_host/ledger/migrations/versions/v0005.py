"""End records by the time of their coming, as the other tables have it: pruning walks through them in this order.

Must stay true: this step was released and is never changed.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ends_at", "ends", ["at"])
