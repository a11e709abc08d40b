"""Alerts and Home Assistant: what a relay does beside its work, all of it made from the ledger."""
