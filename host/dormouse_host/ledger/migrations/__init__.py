"""How a ledger's file came to its format, one step per module of versions/; alembic runs them.

Must stay true: a step that was released is never changed; what is new is a further step.
"""
