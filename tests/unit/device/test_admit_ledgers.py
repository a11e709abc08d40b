"""Ledgers as a device admits them: four at a time, none evicted, each forgotten by command alone and for good."""

from binascii import crc32

from desk import Desk, only, payload, tombstone

FORGET = ',"args":{"ledger":"%s"}'


def full_desk():
    """Four ledgers a to d with command 1 of each waiting."""
    desk = Desk()
    for ledger in "abcd":
        assert desk.offer(payload(1, ledger=ledger)) == []
    return desk


def test_a_fifth_ledger_is_refused_but_not_finally():
    """None is ever evicted; the host keeps trying until somebody forgets one."""
    desk = full_desk()
    for data in (payload(1, ledger="e"), tombstone(1, ledger="e"), payload(1, "nope", ledger="e")):
        only(desk.offer(data), status="rejected", final=False, crc=crc32(data))
        desk.reboot()
    assert [w.name for w in desk.inbox.windows] == ["a", "b", "c", "d"]
    assert desk.offer(payload(2, ledger="d")) == []


def test_a_ledger_is_forgotten_with_all_that_waits_of_it():
    """Its window, its commands, what it is owed; the others keep theirs."""
    desk = full_desk()
    desk.offer(payload(2, "nope", ledger="b"))
    desk.inbox.forget("b")
    for _ in range(2):
        assert [w.name for w in desk.inbox.windows] == ["a", "c", "d"]
        assert desk.waiting() == [("a", 1), ("c", 1), ("d", 1)]
        assert [name for _, name in desk.inbox.forgotten] == ["b"]
        only(desk.offer(payload(1, ledger="b")), status="unknown", why="its ledger is forgotten")
        only(desk.offer(tombstone(9, ledger="b")), status="unknown")
        desk.reboot()
    assert desk.offer(payload(1, ledger="e")) == []
    only(desk.offer(payload(1, ledger="f")), status="rejected", final=False)


def test_forget_ledger_works_from_a_ledger_that_was_never_seen():
    """The owner's way out when four are taken: otherwise nobody could send the command that makes room."""
    desk = full_desk()
    command = payload(1, "forget_ledger", ledger="e", more=FORGET % "c")
    assert desk.offer(command) == []
    for _ in range(2):
        assert [w.name for w in desk.inbox.windows] == ["a", "b", "d", "e"]
        assert desk.waiting() == [("a", 1), ("b", 1), ("d", 1), ("e", 1)]
        desk.reboot()
    assert desk.offer(command) == []
    assert len(desk.waiting()) == 4


def test_a_rejected_forget_ledger_forgets_nothing():
    """Rejected means: without effect."""
    desk = full_desk()
    for more in (
        ',"args":{"ledger":"a","bogus":1}',
        ',"args":{"ledger":5}',
        ',"args":{"ledger":null}',
        ',"args":{}',
        "",
        ',"args":{"ledger":"zz"}',
        ',"args":{"ledger":"e"}',
        ',"args":["a"]',
    ):
        only(desk.offer(payload(1, "forget_ledger", ledger="e", more=more)), status="rejected", final=False)
    for data in (tombstone(1, ledger="e"), b'{"id":"000102-e.1","do":"forget_ledger","args":{"ledger":"a"}'):
        only(desk.offer(data), status="rejected", final=False)
    assert [w.name for w in desk.inbox.windows] == ["a", "b", "c", "d"]
    assert desk.inbox.forgotten == []


def test_a_forgotten_name_can_not_forget_another():
    """It is refused before anything else."""
    desk = full_desk()
    desk.inbox.forget("a")
    desk.offer(payload(1, ledger="e"))
    only(desk.offer(payload(2, "forget_ledger", ledger="a", more=FORGET % "b")), status="unknown")
    assert [w.name for w in desk.inbox.windows] == ["b", "c", "d", "e"]


def test_a_ledger_may_forget_itself():
    """The command that does it is gone with it, and nothing stumbles over that."""
    desk = Desk()
    desk.offer(payload(1, "forget_ledger", more=FORGET % "l"))
    desk.offer(payload(2))
    desk.inbox.commit()
    desk.inbox.start(0, 1)
    desk.inbox.forget("l")
    desk.inbox.finish(0, 1, "succeeded", b',"value":{}')
    for _ in range(2):
        assert (desk.waiting(), desk.inbox.windows, desk.inbox.started) == ([], [], None)
        desk.reboot()


def test_a_name_that_comes_after_a_forgotten_one_has_a_journal_index_of_its_own():
    """Records of the forgotten one still lie in the journal."""
    desk = Desk()
    for n in range(12):
        ledger = "n%d" % n
        assert desk.offer(payload(3, ledger=ledger)) == []
        assert desk.status(3, ledger) == "open"
        if n % 2:
            desk.reboot()
        desk.inbox.forget(ledger)
    desk.reboot()
    assert (desk.waiting(), desk.inbox.windows, len(desk.inbox.forgotten)) == ([], [], 12)
    desk.offer(payload(1, ledger="last"))
    desk.reboot()
    assert desk.waiting() == [("last", 1)]


def test_forgotten_names_are_bounded_and_the_last_four_ledgers_stay():
    """16 can be forgotten; then the device says so instead of letting one back in."""
    desk = Desk()
    for n in range(16):
        desk.offer(payload(1, ledger="n%d" % n))
        desk.inbox.forget("n%d" % n)
    for ledger in "abcd":
        assert desk.offer(payload(1, ledger=ledger)) == []
    desk.reboot()
    only(desk.offer(payload(1, "forget_ledger", ledger="e", more=FORGET % "a")), status="rejected", final=False)
    assert [w.name for w in desk.inbox.windows] == ["a", "b", "c", "d"]
    only(desk.offer(payload(1, ledger="n0")), status="unknown")
