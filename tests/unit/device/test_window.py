"""The sequence windows against a plain dictionary: new, in the window, stale, as in RFC 4303, section 3.4.3."""

from desk import Dice

from dormouse.protocol import FINAL, STATUSES, WINDOW, unpack_window
from dormouse.window import OPEN, STALE, Window, code_of, status_of


def statuses(w):
    """Every number from 1 to beyond the mark with its code."""
    return [w.code(n) for n in range(1, w.high + 3)]


def test_a_new_window_has_seen_nothing():
    """The first command of a ledger is new, whatever its number."""
    w = Window(3, "k9fe")
    assert (w.index, w.name, w.high, w.text()) == (3, "k9fe", 0, "")
    assert [w.code(n) for n in (1, 2, 256, 257, (1 << 30) - 1)] == [0] * 5
    assert list(w.owed()) == []
    assert not w.owes()


def test_every_status_has_its_code_and_comes_back():
    """Codes lie on flash: two statuses must not share one."""
    assert [status_of(code_of(status)) for status in FINAL] == list(FINAL)
    assert len({code_of(status) for status in FINAL}) == len(FINAL)
    assert status_of(OPEN) == "open"
    assert min(code_of(status) for status in FINAL) > OPEN
    assert STATUSES[0] is None


def test_a_number_in_the_window_keeps_its_status_and_its_crc():
    """Duplicates are answered from here."""
    w = Window(0, "l")
    w.mark(7, OPEN, 0xFFFFFFFF)
    w.mark(5, code_of("failed"), 0x80000001)
    assert (w.high, w.code(7), w.code(6), w.code(5)) == (7, OPEN, 0, code_of("failed"))
    assert (w.crc(7), w.crc(5)) == (0xFFFFFFFF, 0x80000001)
    w.mark(7, code_of("succeeded"))
    assert (w.code(7), w.crc(7)) == (code_of("succeeded"), 0xFFFFFFFF)


def test_the_window_is_256_numbers_wide():
    """The highest and the 255 below it are remembered; the next one down is stale."""
    w = Window(0, "l")
    w.mark(1, OPEN, 1)
    w.mark(256, OPEN, 2)
    assert w.code(1) == OPEN
    w.mark(257, OPEN, 3)
    assert (w.code(1), w.code(2), w.code(257), w.crc(257)) == (STALE, 0, OPEN, 3)


def test_a_jump_of_any_width_forgets_exactly_what_it_passes():
    """The ring is 256 places: a jump by 255, 256 or 257 must not show an old status under a new number."""
    for jump in (1, 2, 254, 255, 256, 257, 511, 512, 513, 1000, 100000, (1 << 30) - 301):
        w = Window(0, "l")
        for n in range(1, 301):
            w.mark(n, code_of("failed"), n)
        w.mark(300 + jump, OPEN, 9)
        for n in range(max(1, w.high - 600), w.high + 300):
            wanted = 0
            if n <= w.high - WINDOW:
                wanted = STALE
            elif n <= 300:
                wanted = code_of("failed")
            elif n == w.high:
                wanted = OPEN
            assert w.code(n) == wanted, (jump, n)
        assert list(w.owed()) == list(range(max(1, w.high - 255), 301))


def test_random_marks_agree_with_a_dictionary():
    """Numbers come in any order, with gaps and jumps; nothing outside the window is ever marked."""
    for seed in range(6):
        dice = Dice(seed)
        w = Window(0, "l")
        model: dict = {}
        high = 0
        for _ in range(250):
            n = max(1, high - 256 + dice.below(256 + dice.pick((2, 10, 300))))
            if n <= high - WINDOW:
                assert w.code(n) == STALE
                continue
            code = 1 + dice.below(7)
            crc = None if n in model and dice.below(2) else dice.below(1 << 30)
            w.mark(n, code, crc)
            model[n] = (code, model[n][1] if crc is None else crc)
            high = max(high, n)
            model = {n: model[n] for n in model if n > high - WINDOW}
        assert w.high == high
        for n in range(max(1, high - 300), high + 300):
            assert w.code(n) == (STALE if n <= high - WINDOW else model.get(n, (0,))[0])
            assert n not in model or w.crc(n) == model[n][1]
        text = unpack_window(w.text())
        assert len(text) <= min(WINDOW, high)
        for n in range(max(1, high - 255), high + 1):
            at = high - n
            assert (text[at] if at < len(text) else None) == STATUSES[model.get(n, (0,))[0]]


def test_a_final_status_is_owed_until_it_is_confirmed():
    """Told is not confirmed: only the broker's PUBACK ends it."""
    w = Window(0, "l")
    w.mark(1, OPEN, 0)
    assert (list(w.owed()), w.owes(), w.rank(1) > 0) == ([], False, False)
    w.mark(1, code_of("succeeded"))
    w.mark(3, code_of("cancelled"), 0)
    assert (list(w.owed()), w.owes(), w.rank(1) > 0, w.rank(2) > 0) == ([1, 3], True, True, False)
    w.told(1)
    assert (list(w.owed()), w.rank(1) > 0) == ([3], True)
    w.confirmed(1, 1)
    assert (list(w.owed()), w.rank(1) > 0, w.owes(), w.code(1)) == ([3], False, True, code_of("succeeded"))


def test_a_broken_connection_owes_again_what_was_only_told():
    """And not what was confirmed."""
    w = Window(0, "l")
    for n in (1, 2, 3):
        w.mark(n, code_of("failed"), n)
        w.told(n)
    w.confirmed(2, 2)
    w.untell()
    assert list(w.owed()) == [1, 3]
    w.told(1)
    w.settle()
    assert (list(w.owed()), w.owes(), w.code(1)) == ([], False, code_of("failed"))


def test_a_puback_that_comes_when_its_number_has_left_the_window_confirms_no_other():
    """The place in the ring is another number's by then."""
    w = Window(0, "l")
    w.mark(1, code_of("failed"), 0)
    w.told(1)
    w.mark(257, code_of("failed"), 0)
    w.confirmed(1, 1)
    assert (w.rank(257) > 0, w.rank(1) > 0) == (True, False)


def test_what_leaves_the_window_is_no_longer_owed():
    """Its place must be free for another number."""
    w = Window(0, "l")
    w.mark(1, code_of("failed"), 0)
    w.mark(300, OPEN, 0)
    assert (list(w.owed()), w.owes()) == ([], False)


def test_what_is_looked_at_is_what_may_be_owed_and_no_more():
    """After any steps the answers are those of a look at every place; and a boot that finds hundreds of wakes in the
    journal does not look at 256 places for each.
    """
    for seed in range(8):
        dice = Dice(seed)
        w = Window(0, "l")
        for _ in range(400):
            n = max(1, w.high - 255 + dice.below(256 + dice.pick((1, 3, 300))))
            seen = w.code(n) not in (0, STALE)
            step = dice.below(12)
            if step < 6:
                w.mark(n, 1 + dice.below(7), n)
            elif step == 6 and seen:
                w.owe(n)
            elif step == 7:
                for owed in list(w.owed())[: dice.below(9)]:
                    w.told(owed)
            elif step == 8:
                w.confirmed(n, n + dice.below(9))
            elif step == 9:
                w.untell()
            elif step == 10 and not dice.below(4):
                w.settle()
            elif step == 11 and not dice.below(4):
                before, w = w, Window(0, "l")
                for piece in before.snapshot():
                    w.restore(piece)
            every = range(max(1, w.high - 255), w.high + 1)
            assert list(w.owed()) == [n for n in every if w.rank(n) == 2], seed
            assert w.owes() == any(w.rank(n) for n in every), seed
        w.settle()
        assert len(w._flagged()) == 0
        w.mark(w.high + 1, code_of("failed"), 0)
        assert len(w._flagged()) == 1


def test_a_snapshot_gives_the_window_back_and_forgets_what_was_only_told():
    """Compaction writes it; a boot has no connection over which anything was told."""
    w = Window(2, "l")
    for n in range(1, 400, 3):
        w.mark(n, 1 + n % 7, n * 77)
    told = next(w.owed())
    w.told(told)
    later = list(w.owed())
    w.confirmed(later[0], later[0])
    again = Window(2, "l")
    pieces = list(w.snapshot())
    for piece in pieces:
        again.restore(piece)
    assert (again.high, again.text(), statuses(again), again.crcs) == (w.high, w.text(), statuses(w), w.crcs)
    assert list(again.owed()) == [told] + later[1:]  # noqa: RUF005 (MicroPython can't unpack here)
    assert {piece[0] for piece in pieces} == {2}
    assert max(map(len, pieces)) < 256, "a piece that needs a hole of its own"


def test_the_text_is_from_the_highest_number_downward():
    """The end record says the highest number beside it."""
    w = Window(0, "l")
    w.mark(2, OPEN, 0)
    assert w.text() == "o"
    w.mark(5, code_of("failed"), 0)
    assert w.text() == "f.2o"
    w.mark(2 + WINDOW, OPEN, 0)
    assert w.text() == "o.252f"
