"""The journal is compacted at any time: nothing of the inbox is lost, and there is room for all that may come in."""

from desk import Desk, Dice, confirm, offered, payload, tombstone

from dormouse.protocol import INTERRUPTED

HEAP = "192k"  # as on a board


def compacted(desk):
    """How often the journal was compacted."""
    return desk.inbox.journal._gen


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
