"""The time of the trial: it passes `speed` times as fast as this machine's."""

import time
from dataclasses import dataclass

HOUR = 3600.0


@dataclass(frozen=True)
class Clock:
    """`start`: when the trial began, in Unix seconds of both."""

    start: float
    speed: float

    def now(self) -> float:
        """Unix seconds of the trial."""
        return self.start + (time.time() - self.start) * self.speed

    def real(self, at: float) -> float:
        """This machine's Unix seconds when it is `at` in the trial."""
        return self.start + (at - self.start) / self.speed

    def hours(self, at: float) -> float:
        """Hours of the trial up to then."""
        return (at - self.start) / HOUR
