"""The desk: what a person or a monitoring system looks at, made from the ledger by the library."""
