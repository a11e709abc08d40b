"""The desk: what people and other systems look at, and what tells them, made from the ledger by the library."""
