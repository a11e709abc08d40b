"""Proofs: programs that try the promises of this project, and need no network."""
