"""Random names: of commands and of ledgers.

Must stay true: a name is made of what protocol.split_id takes, and two never meet: a command's has 50 bits, a
ledger's 40.
"""

import secrets

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789x"  # 32, without those that look alike


def _name(length: int) -> str:
    return "".join(_LETTERS[byte & 31] for byte in secrets.token_bytes(length))


def command() -> str:
    """A command's own name, which `dormouse send` prints."""
    return _name(10)


def ledger() -> str:
    """A ledger's name, part of every id that it gives."""
    return _name(8)
