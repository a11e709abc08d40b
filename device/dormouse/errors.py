"""The four kinds of error, told apart by what the caller can do about them.

Must stay true: every error that leaves a module of the agent is one of these; its text names the cause in one
line and carries no secret; `stage` says how far a wake had come.
"""


class DormouseError(Exception):
    """Base of the four kinds. `stage` is one word of the wake's path (`join`, `dns`, `connect`, `connack`, …)."""

    silent = False  # set on one that only a deadline ended

    def __init__(self, reason, stage=None):
        super().__init__(reason)
        self.reason = reason
        self.stage = stage


class ConfigError(DormouseError):
    """Fix it: the configuration, the credentials or the app are wrong, and trying again changes nothing."""


class LinkError(DormouseError):
    """Try again later: network or broker are away, silent or overloaded."""


class ProtocolError(DormouseError):
    """The peer broke the contract: a packet or a payload that it may not send."""

    at = 0  # the place in a payload or a file at which it is wrong


class StorageError(DormouseError):
    """Flash is full, torn or not writable: nothing that depends on this write may be acknowledged."""
