"""The ledger: one database that follows each command until the device itself has answered.

Must stay true: rules.py decides and touches no database; every other module here is handed an open transaction; and
store.py alone opens them, one for each of its methods, so that whatever is killed leaves all of a step or nothing.
"""
