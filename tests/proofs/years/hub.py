"""Simulated time: tasks that take turns in one thread, each a greenlet that waits for an instant or a word.

Must stay true: nothing here looks at a real clock; what happens at one instant happens in the order in which it was
asked for, so the same calls give the same run.
"""

import heapq
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet


class Task:
    """One line of control. `kill` raises `error` in it where it waits, and again at each further wait."""

    def __init__(self, hub: "Hub", run: Callable[[], object], ended: Callable[[], object] | None) -> None:
        self._hub, self._token, self._waiting = hub, 0, False
        self._error: BaseException | None = None
        self._notified = False
        self.done = False

        def body() -> None:
            try:
                run()
            finally:
                self.done = True
            if ended:
                ended()

        self._line = greenlet(body)
        hub.at(hub.now, self._resume, 0)

    def _resume(self, token: int) -> None:
        if token == self._token and not self.done:
            self._token += 1
            self._waiting = False
            before, self._hub.task = self._hub.task, self
            self._line.parent = getcurrent()
            self._line.switch()
            self._hub.task = before

    def wait(self, until: float) -> bool:
        """Wait until then, or for `notify`: True where that came first. Of the running task only."""
        if self._error:
            raise self._error
        self._waiting, self._notified = True, False
        self._hub.at(until, self._resume, self._token)
        self._line.parent.switch()
        if self._error:
            raise self._error
        return self._notified

    def notify(self) -> None:
        """End its wait now."""
        if self._waiting and not self.done:
            self._waiting, self._notified = False, True
            self._hub.at(self._hub.now, self._resume, self._token)

    def kill(self, error: BaseException) -> None:
        """End it."""
        self._error = error
        self.notify()


class Hub:
    """The clock, in seconds since the beginning, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self.task: Task | None = None
        self.halted = False  # nothing happens any more
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, function: Callable[..., object], *args: Any) -> None:
        """Call it then, at once after what was asked for before it."""
        self._count += 1
        heapq.heappush(self._events, (when if when > self.now else self.now, self._count, function, args))

    def start(self, run: Callable[[], object], ended: Callable[[], object] | None = None) -> Task:
        """A new task."""
        return Task(self, run, ended)

    def wait(self, until: float) -> bool:
        """The running task waits."""
        assert self.task
        return self.task.wait(until)

    def run(self, until: float) -> None:
        """Let everything happen that happens until then."""
        events = self._events
        while events and events[0][0] <= until:
            if self.halted:
                return
            self.now, _, function, args = heapq.heappop(events)
            function(*args)
        self.now = max(self.now, until)

    def drop(self) -> None:
        """Forget all that was to happen."""
        self._events.clear()
