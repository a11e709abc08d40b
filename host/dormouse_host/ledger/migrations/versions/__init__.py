"""The steps, in order of their numbers.

Must stay true: a step names tables and columns itself and imports nothing of the ledger, which goes on to change.
"""
