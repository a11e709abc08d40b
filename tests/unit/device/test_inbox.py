"""Commands from acceptance to their end: what a power cut between any two steps leaves, against a plain model."""

from binascii import crc32

from desk import STATE, Desk, Dice, payload, tombstone

from dormouse.app import Handler
from dormouse.errors import ProtocolError
from dormouse.inbox import UNNAMED
from dormouse.journal import Mark
from dormouse.protocol import INTERRUPTED, WINDOW

HEAP = "192k"  # as on a board; this file itself takes a good part of it


def offered(desk, *payloads):
    """Take these and commit."""
    for data in payloads:
        assert desk.offer(data) == []
    desk.inbox.commit()
    return desk


def confirm(desk):
    """The broker has acknowledged everything that was owed."""
    for w in desk.inbox.windows:
        for number in list(w.owed()):
            w.told(number)
            w.confirmed(number, number)


def compacted(desk):
    """How often the journal was compacted."""
    return desk.inbox.journal._gen


# ---- the state


def test_a_new_device_gives_itself_a_state_and_keeps_it():
    """Made together with the journal, from random bytes."""
    desk = Desk()
    assert desk.inbox.state == STATE
    desk.reboot()
    assert desk.inbox.state == STATE
    assert desk.image()[1:4] == ([], [], [])


def test_a_wiped_device_has_nothing_of_the_old_one():
    """Not even a mark: command 1 of the new state is not the one that was started in the old."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)
    for name in desk.storage.names():
        if name != "work":
            desk.storage.remove(name)
    desk.boot()
    assert desk.inbox.windows == []
    offered(desk, payload(1, "again"))
    desk.boot()
    assert desk.inbox.started is None


# ---- cuts around one handler


def test_cut_before_started_runs_it_at_the_next_wake():
    """It never began."""
    for do in ("once", "again"):
        desk = offered(Desk(), payload(1, do))
        desk.boot()
        assert (desk.waiting(), desk.inbox.started, desk.status(1)) == ([("l", 1)], None, "open")


def test_cut_after_started_interrupts_what_may_not_be_repeated():
    """Its effect may be none, part or whole: only its sender can decide."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.inbox.start(0, 1)
    for _ in range(2):
        desk.boot()
        assert (desk.status(1), desk.owed(), desk.waiting()) == (INTERRUPTED, [1], [("l", 2)])
        assert desk.window().crc(1) == crc32(payload(1))


def test_a_repeatable_command_is_run_three_times_at_most():
    """One that kills the device each time must not do so for ever."""
    desk = offered(Desk(), payload(1, "again"))
    for attempt in (1, 2, 3):
        assert desk.waiting() == [("l", 1)]
        desk.inbox.start(0, 1)
        assert desk.inbox.started == (0, 1, attempt)
        desk.boot()
    assert (desk.status(1), desk.waiting(), desk.inbox.started) == (INTERRUPTED, [], None)


def test_reboots_between_the_attempts_are_no_attempts():
    """Only a handler that began counts."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)
    for _ in range(5):
        desk.boot()
        assert desk.inbox.started == (0, 1, 1)


def test_a_command_that_is_no_longer_repeatable_is_interrupted():
    """The app has changed between two wakes; or does not know it any more."""
    for handler in (Handler(None, 5, False, {}), None):
        desk = offered(Desk(), payload(1, "again"))
        desk.inbox.start(0, 1)
        desk.handlers["again"] = handler
        desk.boot()
        assert desk.status(1) == INTERRUPTED


def test_a_command_whose_handler_finds_no_memory_is_interrupted_and_not_tried_at_every_boot():
    """A built-in command's handlers are loaded when they are asked for."""
    desk = offered(Desk(), payload(1, "again"))
    desk.inbox.start(0, 1)

    class Full(dict):
        def get(self, name, default=None):
            raise ProtocolError("too big for the memory there is")

    desk.handlers = Full()
    desk.boot()
    assert desk.status(1) == INTERRUPTED


def test_a_command_without_an_id_is_run_at_least_once_and_three_times_at_most():
    """Nobody could be told that it was interrupted."""
    desk = offered(Desk(), b'{"do":"once"}')
    for attempt in (1, 2, 3):
        assert desk.waiting() == [(None, 1)]
        desk.inbox.start(UNNAMED, 1)
        assert desk.inbox.started == (UNNAMED, 1, attempt)
        desk.boot()
    assert desk.waiting() == []


def test_cut_after_done_before_the_commit_costs_the_value_and_never_the_truth():
    """`done` is on flash with the next `started`."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run("failed", b',"why":"dry"')
    desk.inbox.start(0, 2)
    desk.boot()
    assert (desk.status(1), desk.status(2), desk.waiting()) == ("failed", INTERRUPTED, [])
    assert desk.inbox.details.get(0, 1) == b""
    assert desk.owed() == [1, 2]


def test_cut_after_the_last_done_before_anything_else_is_an_interruption():
    """The handler has returned and nothing is written yet: never `succeeded` by a guess, never run twice."""
    desk = offered(Desk(), payload(1))
    desk.run()
    desk.boot()
    assert (desk.status(1), desk.waiting()) == (INTERRUPTED, [])


def test_cut_after_the_commit_keeps_status_and_value():
    """What a result is sent from."""
    desk = offered(Desk(), payload(1))
    desk.run("succeeded", b',"value":1')
    desk.inbox.commit()
    desk.boot()
    assert (desk.status(1), desk.inbox.details.get(0, 1), desk.owed()) == ("succeeded", b',"value":1', [1])


def test_more_commands_in_a_row_than_the_mark_holds():
    """It is one small file: before it overflows, the journal takes over."""
    desk = offered(Desk(), *[payload(n) for n in range(1, 41)])
    for n in range(1, 41):
        desk.inbox.start(0, n)
        if n < 40:
            desk.inbox.finish(0, n, "succeeded" if n % 3 else "failed")
        assert desk.storage.size("work") <= desk.storage.inline
    desk.boot()
    assert [desk.status(n) for n in range(1, 40)] == ["succeeded" if n % 3 else "failed" for n in range(1, 40)]
    assert (desk.status(40), desk.waiting()) == (INTERRUPTED, [])


def test_numbers_in_any_order_are_done_each_for_itself():
    """The mark holds runs of numbers; commands come in the order of their sending, which need not be theirs."""
    order = (9, 3, 4, 10, 8, 7, 20, 5, 6, 11)
    desk = offered(Desk(), *[payload(n) for n in order], payload(12))
    for n in order:
        desk.run("failed" if n in (4, 20) else "succeeded")
    desk.inbox.start(0, 12)
    desk.boot()
    assert [desk.status(n) for n in order] == ["failed" if n in (4, 20) else "succeeded" for n in order]
    assert (desk.status(12), desk.waiting()) == (INTERRUPTED, [])


def test_marks_of_all_kinds_are_told_apart_by_ledger_and_number():
    """Number 1 of two ledgers and of none."""
    desk = offered(Desk(), payload(1, ledger="a"), payload(1, ledger="b"), b'{"do":"once"}', payload(1, ledger="c"))
    desk.run("failed")
    desk.run("succeeded")
    desk.run()
    desk.inbox.start(2, 1)
    desk.boot()
    assert [desk.status(1, ledger) for ledger in "abc"] == ["failed", "succeeded", INTERRUPTED]
    assert desk.waiting() == []


def test_a_damaged_mark_is_no_mark():
    """Better to run a repeatable command once more than to believe noise; others are as if never started."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run()
    desk.inbox.start(0, 2)
    mark = bytearray(desk.storage.read("work"))
    for at in range(0, len(mark), 3):
        mark[at] ^= 8
        desk.storage.replace("work", mark)
        mark[at] ^= 8
        desk.boot()
        assert (desk.waiting(), desk.inbox.started) == ([("l", 1), ("l", 2)], None)


def test_a_mark_whose_command_is_gone_says_nothing():
    """It is not rewritten when the journal has taken over."""
    desk = offered(Desk(), payload(1), payload(2, "again"))
    desk.run()
    desk.run("failed")
    desk.inbox.commit()
    assert Mark(desk.storage, "work").load()
    for _ in range(2):
        desk.boot()
        assert [desk.status(n) for n in (1, 2)] == ["succeeded", "failed"]
        assert desk.inbox.started is None


# ---- what is owed


def test_results_are_owed_again_after_a_cut_until_a_wake_ends_with_all_confirmed():
    """PUBACKs are known in RAM only, which costs a repetition at worst; `end` writes it down."""
    desk = offered(Desk(), payload(1), payload(2, "nope"), payload(3))
    desk.run()
    desk.inbox.commit()
    confirm(desk)
    assert desk.owed() == []
    desk.boot()
    assert desk.owed() == [1, 2]
    desk.inbox.end()
    desk.boot()
    assert desk.owed() == [1, 2]
    confirm(desk)
    desk.inbox.end()
    for _ in range(2):
        desk.boot()
        assert (desk.owed(), desk.status(1), desk.status(2), desk.status(3)) == ([], "succeeded", "rejected", "open")


def test_a_quiet_wake_writes_nothing():
    """Flash erases cost 50 ms each."""
    desk = offered(Desk(), payload(1))
    desk.run()
    desk.inbox.commit()
    confirm(desk)
    desk.inbox.end()
    before = [(name, desk.storage.read(name)) for name in sorted(desk.storage.names()) if name != "cmd.r"]
    for _ in range(3):
        desk.boot()
        desk.inbox.end()
    assert [(name, desk.storage.read(name)) for name in sorted(desk.storage.names()) if name != "cmd.r"] == before


def test_with_one_result_unconfirmed_all_are_owed_at_the_next_wake():
    """Which are which is not worth a write; the host takes each once."""
    desk = offered(Desk(), payload(1), payload(2))
    desk.run()
    desk.run()
    desk.inbox.commit()
    desk.window().confirmed(1, 1)
    desk.inbox.end()
    desk.boot()
    assert desk.owed() == [1, 2]


# ---- bounds


def test_the_inbox_is_full_by_number_of_commands():
    """TCP holds the rest back."""
    desk = Desk(limit=4)
    for n in range(1, 5):
        assert not desk.inbox.full
        desk.offer(payload(n))
    assert desk.inbox.full
    desk.reboot()
    assert desk.inbox.full
    desk.run()
    assert not desk.inbox.full


def test_the_inbox_is_full_by_their_size():
    """8 KiB, whatever their number."""
    desk = Desk(limit=512, most=4000)
    n = 0
    while not desk.inbox.full:
        n += 1
        desk.offer(payload(n, more=',"u":"%s"' % ("x" * 900)))
        assert desk.inbox.waiting.space <= 8192 + 1000
    assert n in (8, 9)
    desk.reboot()
    assert desk.inbox.full
    while desk.waiting():
        desk.run()
    assert desk.inbox.waiting.space == 0


def test_values_and_reasons_are_bounded_and_the_newest_owed_stay():
    """The oldest go, those first that the host has."""
    desk = Desk()
    for n in range(1, 200):
        desk.offer(payload(n, "nope"))
        assert sum(len(detail) for _, _, detail in desk.inbox.details) <= 1536
    assert desk.inbox.details.get(0, 199)
    assert not desk.inbox.details.get(0, 1)
    desk.reboot()
    assert desk.inbox.details.get(0, 199)
    assert desk.status(1) == "rejected"


def test_details_that_the_host_has_go_before_those_it_has_not():
    """A value that was never sent is worth more than one that was."""
    desk = Desk()
    desk.offer(payload(1))
    desk.run("succeeded", b',"value":"%s"' % (b"v" * 400))
    w = desk.window()
    for n in range(2, 60):
        desk.offer(payload(n))
        desk.run("succeeded", b',"value":"%s"' % (b"v" * 200))
        w.told(n)
        w.confirmed(n, n)
    assert desk.inbox.details.get(0, 1)
    assert desk.inbox.details.room()
    desk.inbox.forget("l")
    assert list(desk.inbox.details) == []


def test_a_value_too_long_for_flash_is_told_in_this_wake_only():
    """describe and log can be asked again."""
    desk = offered(Desk(), payload(1))
    desk.run("succeeded", b',"value":"%s"' % (b"v" * 2000))
    assert len(desk.inbox.details.get(0, 1)) > 2000
    desk.reboot()
    assert (desk.status(1), desk.inbox.details.get(0, 1)) == ("succeeded", b"")


# ---- compaction


def test_compaction_in_the_middle_of_everything_changes_nothing():
    """Hundreds of commands of every kind; at each boot all is as it was."""
    desk = Desk()
    dice = Dice(21)
    first = compacted(desk)
    numbers = dict.fromkeys("abcd", 0)
    boots = 0
    for step in range(700):
        ledger = dice.pick("abcd")
        kind = dice.below(8)
        if kind < 4:
            numbers[ledger] += 1 + dice.below(3)
            desk.offer(
                payload(
                    numbers[ledger],
                    dice.pick(("once", "again", "nope")),
                    ledger,
                    more=',"u":"%s"' % ("x" * dice.below(400)),
                )
            )
        elif kind == 4:
            numbers[ledger] += 1
            desk.offer(tombstone(numbers[ledger], "expired", ledger))
        elif kind == 5:
            desk.offer(b'{"do":"once"}')
        while len(desk.inbox.waiting) > 20 or (kind == 6 and len(desk.inbox.waiting)):
            desk.run(dice.pick(("succeeded", "failed")), b',"value":%d' % step)
            kind = 0
        if dice.below(40) == 0:
            confirm(desk)
            desk.inbox.end()
        if step % 23 == 0:
            desk.inbox.commit()
            before = desk.image()
            owed = [before[1][i][5] for i in range(len(before[1]))]
            desk.boot()
            after = desk.image()
            assert [entry[:5] for entry in after[1]] == [entry[:5] for entry in before[1]]
            for i in range(len(owed)):
                assert set(owed[i]) <= set(after[1][i][5])
            assert after[2:5] == before[2:5]
            boots += 1
    assert compacted(desk) - first >= 3
    assert boots > 20


def test_cut_right_after_compaction_leaves_nothing_open_that_does_not_wait():
    """Such a number would swallow its command: a second delivery of an open one is silent."""
    desk = Desk()
    cuts = number = 0
    while cuts < 4:
        number += 1
        desk.offer(payload(number, more=',"u":"%s"' % ("x" * (number % 150))))
        if number > 7:
            desk.offer(tombstone(number - 7))
        if compacted(desk) > cuts + 1:
            desk.boot()
            cuts += 1
            high = desk.window().high
            assert desk.waiting() == [("l", n) for n in range(max(1, high - 20), high + 1) if desk.status(n) == "open"]
            assert 0 < len(desk.waiting()) < 10
            number = high


def compact(desk, ledger="m"):
    """Bring in rejected commands until the journal has been compacted."""
    first, n = compacted(desk), 0
    while compacted(desk) == first:
        n += 1
        desk.offer(payload(n, "nope", ledger, more=',"u":"%s"' % ("x" * 900)))


def test_a_forgotten_name_stays_refused_after_compaction():
    """For good."""
    desk = offered(Desk(), payload(1))
    desk.inbox.forget("l")
    compact(desk)
    desk.reboot()
    assert desk.offer(payload(2))[0]["why"] == "its ledger is forgotten"
    assert [name for _, name in desk.inbox.forgotten] == ["l"]
    assert desk.offer(payload(1, ledger="n")) == []
    desk.reboot()
    assert desk.status(1, "n") == "open"


def test_a_waiting_command_that_has_left_the_window_disturbs_no_other():
    """A forged number far above pushed it out: it runs, and its place in the ring is another's."""
    desk = offered(Desk(), payload(5), payload(261), payload(300))
    assert desk.status(5) == "stale"
    desk.inbox.finish(0, 261, "succeeded")
    compact(desk)
    for _ in range(2):
        desk.reboot()
        assert desk.waiting() == [("l", 5), ("l", 300)]
        assert (desk.status(5), desk.status(261), desk.status(300)) == ("stale", "succeeded", "open")
    desk.run("failed")
    desk.reboot()
    assert desk.waiting() == [("l", 300)]
    assert (desk.status(5), desk.status(261)) == ("stale", "succeeded")


def test_nameless_commands_are_not_lost_to_an_old_mark_after_compaction():
    """Their count goes on: the mark may still name old ones as done."""
    desk = offered(Desk(), b'{"do":"once"}', b'{"do":"once"}', b'{"do":"once"}')
    for _ in range(3):
        desk.run()
    desk.inbox.commit()
    compact(desk)
    desk.reboot()
    offered(desk, b'{"do":"once"}', b'{"do":"again"}', b'{"do":"once"}')
    desk.boot()
    assert (len(desk.waiting()), desk.inbox.started) == (3, None)


def test_compaction_between_started_and_done_loses_neither():
    """A handler such as forget_ledger writes to the journal itself."""
    desk = offered(Desk(), payload(1, "again"), payload(2))
    desk.run()
    desk.inbox.start(0, 2)
    compact(desk)
    desk.boot()
    assert (desk.status(1), desk.status(2), desk.waiting()) == ("succeeded", INTERRUPTED, [])


def fill(desk, size, prefill):
    """As much as ever comes in: four ledgers, values of all sizes, and an inbox that is just full."""
    for ledger in "abcd":
        desk.offer(payload(1, ledger=ledger))
    for n in range(prefill):
        desk.offer(payload(n + 2, "nope", "b"))
    while desk.waiting():
        desk.run("succeeded", b',"value":"%s"' % (b"v" * 500))
    desk.inbox.commit()
    n = 1
    while not desk.inbox.full:
        n += 1
        desk.offer(payload(n, "once", "a", more=',"u":"%s"' % ("x" * size)))
        desk.inbox.commit()
    return n


def test_the_journal_has_room_for_all_that_may_come_in():
    """Wherever its compaction falls: a device whose journal is too small could neither run nor settle, ever again."""
    for size, most, limit in ((1900, 2048, 64), (3900, 4000, 512), (3, 4000, 512), (100, 4000, 512)):
        for prefill in (0, 60, 120, 180):
            desk = Desk(limit, most)
            last = fill(desk, size, prefill)
            desk.reboot()
            assert len(desk.waiting()) == last - 1
            while desk.waiting():
                desk.run("succeeded", b',"value":"%s"' % (b"v" * 100))
                desk.inbox.commit()
            assert desk.status(last, "a") == "succeeded"


def test_forgetting_is_refused_for_a_name_that_is_not_there():
    """And for one that is forgotten already."""
    desk = offered(Desk(), payload(1))
    for name in ("x", "", None, 5):
        try:
            desk.inbox.forget(name)
        except ProtocolError:
            continue
        raise AssertionError(name)
    desk.inbox.forget("l")
    try:
        desk.inbox.forget("l")
    except ProtocolError:
        return
    raise AssertionError


# ---- against a model


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
