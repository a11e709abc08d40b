"""The steps by which a ledger comes to its format; alembic runs them. A released step is never changed: a new
format is a further step.
"""
