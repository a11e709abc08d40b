"""Brokers: our own for trials, one set up for a fleet, its certificates and credentials, and clients of any."""
