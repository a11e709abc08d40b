"""The one error of the host that a person reads.

Must stay true: its text is one line that says what is wrong and what to do, and carries no secret; `code` is the
process's exit code, 1 when what was asked for did not succeed, 2 when it was asked for wrongly.
"""


class HostError(Exception):
    """Ends a command: `message` on stderr, and the process with `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
