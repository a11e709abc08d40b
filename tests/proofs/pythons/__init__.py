"""The host on each Python that this machine has: `make pythons`."""
