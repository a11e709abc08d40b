"""What alembic runs: the steps, on the connection and inside the transaction that database.py gives.

Nothing is committed here, so that a step that is killed leaves the old format whole.
"""

from alembic import context

from dormouse_host.ledger.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
