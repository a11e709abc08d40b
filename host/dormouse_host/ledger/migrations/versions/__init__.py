"""The steps, in the order of their numbers. A step names tables and columns itself and imports nothing of the ledger,
which goes on to change.
"""
