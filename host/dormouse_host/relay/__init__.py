"""The relay: carries commands from a ledger to the broker, and what devices say from the broker to the ledger.

It decides nothing itself (ledger/rules.py does) and keeps nothing that a kill could lose.
"""
