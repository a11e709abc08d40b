"""The inbox against a plain model of it: random commands and random power cuts, and both agree at every step."""

from binascii import crc32

from desk import Desk, Dice, payload, tombstone

from dormouse.protocol import INTERRUPTED, WINDOW

HEAP = "192k"  # as on a board


class Model:
    """What a device of endless memory and no flash would do, by the rules of docs/design.md, in plain dictionaries."""

    def __init__(self):
        self.seen: dict = {}  # (ledger, number): [status, crc of the bytes first accepted]
        self.high: dict = {}  # ledger: highest number
        self.waiting: list = []  # (ledger, number)
        self.started = None  # (ledger, number, attempt)
        self.forgotten: list = []

    def copy(self):
        other = Model()
        other.seen = {key: list(self.seen[key]) for key in self.seen}
        other.high = dict(self.high)
        other.waiting = list(self.waiting)
        other.started = self.started
        other.forgotten = list(self.forgotten)
        return other

    def see(self, key, status, crc):
        self.seen[key] = [status, crc]
        self.high[key[0]] = max(self.high.get(key[0], 0), key[1])

    def settle(self, key, status):
        self.seen[key][0] = status
        self.waiting = [k for k in self.waiting if k != key]
        if self.started and self.started[:2] == key:
            self.started = None

    def offer(self, ledger, number, do, void, crc):
        """The answer that comes at once: None, or (status, final, crc)."""
        key = (ledger, number)
        if ledger in self.forgotten:
            return ("unknown", True, crc)
        if ledger not in self.high:
            if len(self.high) == 4:
                return ("rejected", False, crc)
            self.high[ledger] = 0
        if number <= self.high[ledger] - WINDOW:
            return ("unknown", True, crc)
        if key not in self.seen:
            self.see(key, void or ("open" if do in ("once", "again") else "rejected"), crc)
            if self.seen[key][0] == "open":
                self.waiting.append(key)
            return None
        status, crc = self.seen[key]
        if status != "open":
            return (status, True, crc)
        if void and self.started and self.started[:2] == key:
            return ("running", False, crc)
        if void:
            self.settle(key, void)
        return None

    def forget(self, ledger):
        self.forgotten.append(ledger)
        del self.high[ledger]
        self.waiting = [key for key in self.waiting if key[0] != ledger]
        self.seen = {key: self.seen[key] for key in self.seen if key[0] != ledger}
        if self.started and self.started[0] == ledger:
            self.started = None

    def boot(self, mark, repeatable):
        """A boot finds `mark`: (started, [(key, status), …] that were done before it) or None."""
        self.started = None
        if mark is None:
            return
        for key, status in mark[1]:
            if key in self.waiting:
                self.settle(key, status)
        if mark[0][:2] in self.waiting:
            if mark[0][:2] in repeatable and mark[0][2] < 3:
                self.started = mark[0]
            else:
                self.settle(mark[0][:2], INTERRUPTED)

    def view(self):
        """What can be compared with a desk."""
        numbers = sorted((key, self.seen[key]) for key in self.seen if key[1] > self.high[key[0]] - WINDOW)
        return numbers, self.waiting, self.started, self.forgotten


def view(desk):
    """The same of a desk."""
    names = {w.index: w.name for w in desk.inbox.windows}
    numbers = []
    for w in desk.inbox.windows:
        for number in range(max(1, w.high - WINDOW + 1), w.high + 1):
            if w.code(number):
                numbers.append(((w.name, number), [desk.status(number, w.name), w.crc(number)]))
    started = desk.inbox.started
    if started:
        started = (names[started[0]], started[1], started[2]) if started[0] in names else None
    return sorted(numbers), desk.waiting(), started, [name for _, name in desk.inbox.forgotten]


class Trial:
    """A desk and its model under random operations and cuts."""

    def __init__(self, seed):
        self.dice = Dice(seed)
        self.desk = Desk()
        self.model = Model()
        self.past: list = [self.model.copy()]  # since the last commit: a cut leaves one of these
        self.mark: tuple | None = None
        self.ended: list = []  # [(key, status)] since the last commit
        self.ran: dict = {}
        self.repeatable: set = set()
        self.next: dict = {}
        self.fresh = False  # was anything offered since the last commit?
        self.inside = False  # is a handler running?
        self.names = ["a", "b", "c", "d", "e"]

    def number(self, ledger):
        """Mostly the next one; else one from before, or a jump."""
        top = self.next.get(ledger, 0)
        what = self.dice.below(10)
        if what < 5:
            top += 1
        elif what < 9:
            return max(1, top - self.dice.below(12))
        elif self.dice.below(4) == 0:
            top += 1 + self.dice.below(300)
        else:
            return max(1, top - 250 - self.dice.below(12))
        self.next[ledger] = top
        return top

    def offer(self):
        ledger = self.dice.pick(self.names)
        number = self.number(ledger)
        do = self.dice.pick(("once", "once", "again", "nope"))
        void = self.dice.pick((None, None, None, "cancelled", "expired"))
        data = (
            tombstone(number, void, ledger)
            if void
            else payload(number, do, ledger, more=',"u":"%d"' % self.dice.below(2))
        )
        if self.past_window(ledger, number):
            return
        self.fresh = True
        new = (ledger, number) not in self.model.seen
        wanted = self.model.offer(ledger, number, do, void, crc32(data))
        answers = self.desk.offer(data)
        found = None
        if answers:
            found = (answers[0]["status"], answers[0].get("final", True), answers[0]["crc"])
        assert found == wanted, (data, found, wanted)
        if new and do == "again" and (ledger, number) in self.model.waiting:
            self.repeatable.add((ledger, number))
        elif new:
            self.repeatable.discard((ledger, number))

    def past_window(self, ledger, number):
        """Would this push an unsettled number out of the window? The host never publishes such a one."""
        return any(key[0] == ledger and key[1] <= number - WINDOW for key in self.model.waiting)

    def start(self):
        """A handler begins, and ends unless power goes inside it."""
        if not self.model.waiting:
            return
        key = self.model.waiting[0]
        attempt = 1
        if self.model.started and self.model.started[:2] == key:
            attempt = self.model.started[2] + 1
        if self.fresh:  # as the wake does: what was not acknowledged is not run
            self.commit()
        index = self.desk.window(key[0]).index
        self.desk.inbox.start(index, key[1])
        self.model.started = (key[0], key[1], attempt)
        self.mark = (self.model.started, list(self.ended))
        self.ran[key] = self.ran.get(key, 0) + 1
        assert self.ran[key] <= (3 if key in self.repeatable else 1), key
        self.inside = self.dice.below(6) == 0
        if not self.inside:
            status = self.dice.pick(("succeeded", "failed"))
            self.desk.inbox.finish(index, key[1], status, b',"value":%d' % self.dice.below(1000))
            self.model.settle(key, status)

    def forget(self):
        if self.dice.below(12) or not self.model.high or len(self.model.forgotten) > 10:
            return
        ledger = self.dice.pick(sorted(self.model.high))
        self.desk.inbox.forget(ledger)
        self.model.forget(ledger)
        self.names = [name for name in self.names if name != ledger]
        self.names.append("n%d" % len(self.model.forgotten))

    def commit(self):
        self.desk.inbox.commit()
        self.past = [self.model.copy()]
        self.ended = []
        self.fresh = False

    def cut(self):
        """Power goes: what is found is one of the states since the last commit, and what the mark adds to it."""
        self.desk.boot()
        found = view(self.desk)
        for model in self.past:
            model.boot(self.mark, self.repeatable)
            if model.view() == found:
                break
        else:
            raise AssertionError("no state that a cut may leave: %r" % (found[1:],))
        self.model = model
        self.names = [n for n in self.names if n not in model.forgotten]
        self.names += [n for n in "abcde" if n not in self.names and n not in model.forgotten]
        self.commit()

    def step(self):
        before = {key: self.model.seen[key][0] for key in self.model.waiting}
        self.dice.pick((self.offer, self.offer, self.offer, self.start, self.start, self.forget))()
        for key in before:
            if key in self.model.seen and self.model.seen[key][0] != "open":
                self.ended.append((key, self.model.seen[key][0]))
        self.past.append(self.model.copy())
        del self.past[:-12]
        if self.dice.below(4) == 0 or len(self.past) > 10:
            self.commit()
        if self.inside or self.dice.below(9) == 0:
            self.inside = False
            self.cut()
        assert view(self.desk)[1:] == self.model.view()[1:]


def drive(seed, steps):
    trial = Trial(seed)
    for _ in range(steps):
        trial.step()
    trial.commit()
    trial.cut()
    assert view(trial.desk) == trial.model.view()
    while trial.model.waiting:
        trial.start()
        trial.past.append(trial.model.copy())
        if trial.inside:
            trial.cut()
    assert not trial.desk.waiting()


def test_random_operations_and_cuts_agree_with_the_model():
    """Windows, inbox, marks and answers; nothing not repeatable begins twice, nothing repeatable four times."""
    for seed in range(8):
        drive(seed, 150)
