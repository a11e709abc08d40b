"""The error that a person reads: one line that says what is wrong and what to do, without a secret.

`code` is the exit code of the process: 1 not done, 2 usage error.
"""


class HostError(Exception):
    """Ends a command: `message` on stderr, and the process with `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
