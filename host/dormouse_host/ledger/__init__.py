"""The ledger: one database that follows each command until the device itself has answered.

rules.py decides and touches no database. store.py alone opens transactions that write, one for each of its methods,
queries.py those that read; every other module is handed an open one. So whatever is killed leaves all of a step or
nothing.
"""
