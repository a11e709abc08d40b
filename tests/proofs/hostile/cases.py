"""All cases, in the order of the table."""

from proofs.hostile import packets, peers

CASES = [*peers.CASES, *packets.CASES]
