"""A relay and sleeping devices on a cluster of brokers whose nodes are killed, one after the other: `make cluster`."""
