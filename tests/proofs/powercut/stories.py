"""What happens in a run, as lists of steps: wakes of the device, and what the host and the broker do between them.

Must stay true: a story without a cut shows everything that it is there for (`shown`); each command's usual end is
declared here, by hand, and by nobody's code.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proofs.powercut.bench import Bench, Wake

QUIET = 10  # wakes after the story's last one, at most, until everything is settled


@dataclass(frozen=True)
class Kind:
    """What is true of a command: its `do`, its usual end, its effects then, and whether it is repeatable."""

    do: str
    usual: str
    effects: int = 1

    @property
    def repeatable(self) -> bool:
        """Declared so in board/probe_app.py, and all of the built-in ones."""
        return self.do in ("again", "resend")


ONCE, AGAIN = Kind("once", "succeeded"), Kind("again", "succeeded")
BOOM, LATE = Kind("boom", "failed"), Kind("late", "succeeded")
EXPIRED, CANCELLED = Kind("once", "expired", 0), Kind("once", "cancelled", 0)
REJECTED, RESEND = Kind("nonsense", "rejected", 0), Kind("resend", "succeeded", 0)

LONG = {
    **{1: ONCE, 2: AGAIN, 3: ONCE, 4: BOOM, 5: EXPIRED, 6: ONCE, 7: CANCELLED, 8: CANCELLED, 9: AGAIN, 10: ONCE},
    **{11: ONCE, 12: REJECTED, 13: ONCE, 14: AGAIN, 15: ONCE, 16: LATE, 17: ONCE, 18: AGAIN, 19: ONCE, 20: AGAIN},
}
SHORT = {1: ONCE, 2: AGAIN}


class Run:
    """One story on one new device, with cuts: {number of the wake in the story, from 1: where}.

    After a cut the device is started again at once, with what `then` says (a second cut, or `-`).
    """

    def __init__(self, bench: Bench, story: "Story", cut_wake: int, cut: str, then: str) -> None:
        self.bench, self.kinds, self.relay = bench, story.kinds, bench.relay
        self.cut_wake, self.cut, self.then = cut_wake, cut, then
        self.wakes: list[Wake] = []  # of the story, without those after cuts
        self.recovery: Wake | None = None  # the first one after the cut
        self.stuck = ""
        bench.begin(story.base)

    def send(self, *numbers: int, **more) -> None:
        """Enter commands into the ledger and publish them."""
        for number in numbers:
            self.enter(number, **more)
            self.relay.publish(self.relay.entries[number])

    def enter(self, number: int, **more) -> None:
        """Enter a command into the ledger."""
        self.relay.command(number, self.kinds[number].do, **more)

    def again(self, number: int) -> None:
        """Publish the command's own bytes once more, unasked."""
        entry = self.relay.entries[number]
        self.relay.publish(entry, entry.payload)

    def late(self) -> None:
        """While a handler runs, the host sends more."""
        if 17 not in self.relay.entries:
            self.send(17, 18)

    def wake(self, cause: str = "pin") -> Wake:
        """The story's next wake, and where it is the one to be cut, the ones after that."""
        here = len(self.wakes) + 1 == self.cut_wake
        wake = self.bench.boot(cause, self.cut if here else "-", self.late)
        self.wakes.append(wake)
        if wake.cut:
            wake = self.recovery = self.bench.boot("power", self.then, self.late)
            if wake.cut:
                wake = self.bench.boot("power", "-", self.late)
        self.relay.react()
        return wake

    def until_quiet(self) -> None:
        """Wakes until everything is settled, and one more, in which nothing may happen."""
        for _ in range(QUIET):
            if self.relay.idle:
                break
            self.wake()
        else:
            self.stuck = f"not settled after {QUIET} more wakes"
        self.wake()


def long(run: Run) -> None:
    """Twenty commands, and everything that can become of one."""
    relay = run.relay
    run.wake("timer")  # samples only
    run.wake("timer")
    run.send(1, 2, 3, 4)
    run.send(5, exp=1)
    run.send(6, 7)
    run.again(6)
    relay.cancel(7)  # seen, when it comes
    run.enter(8)
    relay.cancel(8)  # never seen
    run.wake()
    run.wake("timer")
    run.again(8)
    run.again(1)
    relay.cancel(3)  # too late
    run.send(9, 10, 11, 12)
    relay.deaf()  # results and a record are lost, though the broker acknowledges them
    run.wake()
    relay.hear()
    run.send(13, 14)
    relay.forget()
    run.wake()
    run.wake()
    run.again(13)  # done, and its answer has arrived
    run.send(15, 16)
    run.wake()
    run.late()  # where a cut has kept it from running
    run.send(19, 20)
    run.wake()
    run.until_quiet()


def short(run: Run) -> None:
    """Two commands and a record in one wake."""
    run.send(1, 2)
    run.wake()
    run.until_quiet()


def not_shown(name: str, run: Run) -> list[str]:
    """What an uncut run of this story should have shown and has not."""
    wakes, relay = run.bench.wakes, run.relay
    lines = [line for wake in wakes for line in wake.lines]
    answers = [answer for entry in relay.entries.values() for answer in entry.answers]
    missing = []
    if any("value" not in a for a in answers if a["status"] == "succeeded"):
        missing.append("every value, where nothing was cut")
    if name == "long":
        things = {
            "compaction of the journal": "compacting cmd" in lines,
            "a new file of telemetry": any(line.startswith("part ") for line in lines),
            "a wake that only samples": any(w.told("stored") and "opened" not in w.lines for w in wakes[:2]),
            "a lost session": any(not end["present"] for end in relay.ends.values()),
            "a command answered more than once": any(len(e.answers) > 1 for e in relay.entries.values()),
            "a record that is dropped and counted": relay.dropped == {1, 2, 3},
            "twenty commands": set(run.kinds) <= set(relay.entries) and len(run.kinds) == 20,
            "a command that comes while another runs": "late 16" in lines,
        }
        missing += [what for what, shown in things.items() if not shown]
    return missing


@dataclass(frozen=True)
class Story:
    """What is played, with which commands, on which of bench.BASES."""

    play: Callable[[Run], None]
    kinds: dict[int, Kind]
    base: str


STORIES = {"long": Story(long, LONG, "old"), "short": Story(short, SHORT, "new")}


def tell(bench: Bench, name: str, cut_wake: int = 0, cut: str = "-", then: str = "-") -> Run:
    """Run a story to its end."""
    story = STORIES[name]
    run = Run(bench, story, cut_wake, cut, then)
    story.play(run)
    return run
