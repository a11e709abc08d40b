"""One look at the ledger for the alerts.

Must stay true: a look is many short transactions that read, with a pause between two, and one that writes where there
is something to write; where the next look begins is stored with what the last one has found, so that a kill between two
steps repeats a look and loses none.
"""

import time
from collections.abc import Callable

from dormouse_host.ledger.alerts import FLEET, OVERDUE, Rules, Seen
from dormouse_host.ledger.store import Ledger
from dormouse_host.ledger.watching import LATE, Late, Places, judge_late

PAUSE = 0.02  # seconds between two slices
_KEEP = 300.0  # seconds after which the place is stored though nothing has happened
_MOST = 200  # slices of one source in one look


class Judge:
    """The alerts of one ledger, judged by these rules. `clock` is the ledger's; `pause` is that between two slices."""

    def __init__(
        self, ledger: Ledger, rules: Rules, clock: Callable[[], float] = time.time, pause: float = PAUSE
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._clock = clock
        self._pause = pause
        self._at: Places | None = None
        self._events: list[tuple[float, float]] = []  # (when, the newest event's key then)
        self._kept = 0.0

    def begin(self) -> None:
        """Another relay may have judged meanwhile: go on where that has ended."""
        self._at, self._events = None, []

    def look(self, *, late: bool = True, stopped: Callable[[], bool] = lambda: False) -> int:
        """Judge what has come since the last look, and with `late` who is overdue. Returns how many alerts opened or
        closed; nothing is changed where `stopped` says so in the middle.
        """
        now = self._clock()
        if self._at is None:
            self._at = self._ledger.alert_places()
        at = Places(**vars(self._at))
        seen = self._reports(at, stopped)
        upto = self._ledger.newest_event()
        found, counts = self._ledger.look_at_the_rest(self._rules, at, upto, dropped=True)
        seen += found
        if late:
            seen += self._late(now, stopped)
        if stopped():
            return 0
        first = at.dropped == 0
        self._move_on(at, upto, now)
        return self._write(seen, at, counts, now, first=first)

    def _reports(self, at: Places, stopped: Callable[[], bool]) -> list[Seen]:
        found: list[Seen] = []
        since, upto = at.reports, at.reports
        for _ in range(_MOST):
            seen, upto, more = self._ledger.look_at_reports(self._rules, since)
            found += seen
            if not more or stopped():
                break
            since = upto
            time.sleep(self._pause)
        at.reports = max(at.reports, min(upto, self._clock() - LATE))
        return found

    def _late(self, now: float, stopped: Callable[[], bool]) -> list[Seen]:
        open_ones = {device for kind, device in self._ledger.open_alerts() if kind == OVERDUE}
        found = Late()
        after: str | None = ""
        while after is not None and not stopped():
            after = self._ledger.look_at_late(self._rules, found, after, open_ones)
            time.sleep(self._pause)
        return [] if stopped() else judge_late(found, self._rules, FLEET in open_ones, now)

    def _move_on(self, at: Places, upto: float, now: float) -> None:
        """Where the next look begins: what may still be committed with an older time or key is read again."""
        self._events.append((now, upto))
        old = [key for when, key in self._events if when <= now - LATE]
        at.events = max([at.events, *old])
        self._events = [each for each in self._events if each[0] > now - 2 * LATE]
        at.updates = max(at.updates, now - 2 * LATE)
        at.dropped = 1.0

    def _write(self, seen: list[Seen], at: Places, counts: dict[str, int], now: float, *, first: bool) -> int:
        open_ones = self._ledger.open_alerts()
        concerned = open_ones | {(one.kind, one.device) for one in seen if one.bad}
        told = [one for one in seen if one.bad or (one.kind, one.device) in concerned]
        worth = [one for one in told if one.kind != OVERDUE or not one.bad or (OVERDUE, one.device) not in open_ones]
        keep = first or bool(counts) or now - self._kept >= _KEEP
        changed = 0
        if worth or keep or self._ledger.alerts_want(self._rules):
            changed = self._ledger.judge(told, self._rules, at, counts)
            self._kept = now
        self._at = at
        return changed
