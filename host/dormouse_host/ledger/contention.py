"""What a transaction does when another one holds what it needs: it gives way, and is tried again.

A transaction that gave way has changed nothing. One that is tried again takes all its locks in the one order (rows.py),
those included that it learned of on its first try. The number of tries is bounded.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from dormouse_host.errors import HostError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

TRIES = 5  # of one transaction
_AT_ONCE = {  # SQLSTATEs of PostgreSQL after which the same transaction may go through at once
    "40001": "serialization failure",
    "40P01": "deadlock",
}
_WAITED = {"55P03"}  # lock timeout: it has waited long enough for now
_also: ContextVar[frozenset[str]] = ContextVar("also", default=frozenset())


class Busy(HostError):
    """Another process holds what this transaction needs; it may succeed later. `at_once`: it may now; `devices`:
    locked first then.
    """

    def __init__(self, message: str, *, at_once: bool = False, devices: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.at_once = at_once
        self.devices = frozenset(devices)


def busy(name: str, state: str | None, why: str) -> Busy | None:
    """The error for an SQLSTATE, or None where it is of another kind. `why` is the database's own line."""
    if state in _AT_ONCE or state in _WAITED or why == "database is locked":
        return Busy(f"database {name}: {why}", at_once=state in _AT_ONCE)
    return None


def also() -> frozenset[str]:
    """The devices that this transaction has to lock beside its own, for it needed them on an earlier try."""
    return _also.get()


def retried(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that is one transaction, tried again from the start where it had to give way."""

    @wraps(method)
    def run(self: S, /, *args: P.args, **how: P.kwargs) -> T:
        devices: frozenset[str] = frozenset()
        tries = 0
        while True:
            token = _also.set(devices)
            try:
                return method(self, *args, **how)
            except Busy as error:
                tries += 1
                if tries == TRIES or not error.at_once:
                    raise
                devices |= error.devices
            finally:
                _also.reset(token)

    return run
