"""What a piece of the program did to a wake: the next one knows which it was, and leaves it out for a while."""

from desk import reason
from runner import folder

from dormouse.errors import ConfigError, StorageError
from dormouse.pieces import Pieces
from dormouse.ports.storage import Storage

HOUR = 3600
DAY = 24 * HOUR


class Device:
    """One device's flash, and the pieces of its wakes."""

    def __init__(self):
        self.storage = Storage(folder())

    def wake(self, now=0, broken=False):
        return Pieces(self.storage, now, broken)

    def hang(self, name, now=0, broken=False):
        """A wake that ends in this piece."""
        assert self.wake(now, broken).skipped(name) is None


def test_what_a_wake_hung_in_is_left_out_and_nothing_else():
    """Whatever came before it in that wake had ended."""
    device = Device()
    pieces = device.wake()
    for name in ("import", "safe_state", "reading i2c"):
        assert pieces.skipped(name) is None
    pieces = device.wake(60, True)
    assert [pieces.skipped(name) for name in ("import", "safe_state", "reading soil")] == [None] * 3
    assert pieces.skipped("reading i2c") == "reading i2c left out: cut off 1 times"


def test_a_wake_that_ended_well_or_lost_its_power_blames_nothing():
    """Also where power went in the middle of a reading."""
    device = Device()
    pieces = device.wake()
    assert pieces.skipped("import") is None
    pieces.end()
    assert device.wake(60, True).skipped("import") is None  # it broke later: not in a piece
    device.hang("reading i2c")
    assert device.wake(60, False).skipped("reading i2c") is None


def test_the_next_try_comes_later_each_time_and_one_that_goes_well_forgives():
    """Never within the hour, and at least every other day."""
    device = Device()
    now, waits = 0, []
    device.hang("reading i2c", now)
    for times in range(1, 9):
        began = now
        while device.wake(now, now == began).skipped("reading i2c"):
            device.wake(now).end()
            now += HOUR // 2
        waits.append(now - began)
        if times < 8:
            device.hang("reading i2c", now)
    assert waits == sorted(waits)
    assert waits[0] == HOUR
    assert DAY < waits[-1] < 2 * DAY
    pieces = device.wake(now)
    assert pieces.skipped("reading i2c") is None
    pieces.end()
    pieces.forgive()
    device.hang("reading i2c", now)
    assert device.wake(now, True).skipped("reading i2c") == "reading i2c left out: cut off 1 times"


def test_two_wakes_in_a_row_that_broke_after_the_pieces_are_the_programs():
    """One may be the network's: a name that nobody answers hangs, too. A wake between that goes well forgives."""
    device = Device()
    assert device.wake(60, True).skipped("import") is None
    assert device.wake(120, True).skipped("import") == "import left out: cut off 2 times"
    device = Device()
    device.wake(60).blame()  # it failed, and not by the network
    pieces = device.wake(120)
    assert pieces.skipped("import") is None
    pieces.end()
    pieces.forgive()
    assert device.wake(180, True).skipped("import") is None
    assert device.wake(240, True).skipped("import"), "and so it stays"
    assert device.storage.size("skips") > 0


def test_a_wake_that_broke_without_the_program_does_not_blame_it():
    """Else a broken network would leave it out for longer and longer."""
    device = Device()
    device.wake(60, True)
    device.wake(120, True)
    before = device.storage.read("skips")
    for broken in (True, False):
        device.wake(180, broken).blame()
    assert device.storage.read("skips") == before
    assert device.wake(120 + 2 * HOUR).skipped("import") is None


def test_a_handler_that_broke_the_wakes_is_not_the_program():
    """The inbox knows of it."""
    device = Device()
    for now in (60, 120, 180):
        pieces = device.wake(now, True)
        assert pieces.skipped("import") is None
        pieces.end()
        pieces.forgive(("import",))


def test_flash_that_takes_nothing_ends_no_wake():
    """What can't be remembered is forgotten."""

    class Full(Storage):
        def replace(self, name, data, mode="wb"):
            if name == "skips":
                raise StorageError("full")
            Storage.replace(self, name, data, mode)

    device = Device()
    device.storage = Full(folder())
    device.hang("import")
    assert device.wake(0, True).skipped("import")


def test_a_flash_and_damage_let_everything_run_again():
    """A flash removes the file; whatever else it holds is no reason to leave a piece out, nor to raise."""
    damaged = (
        None,
        b"\xff\xfe{",
        b"[]",
        b'{"import":5}',
        b'{"import":{"a":1}}',
        b'{"import":["x",9]}',
        b'{"import":[]}',
    )
    for data in damaged:
        device = Device()
        device.hang("import")
        assert device.wake(0, True).skipped("import")
        if data is None:
            device.storage.remove("skips")
        else:
            device.storage.replace("skips", data)
        assert device.wake(0).skipped("import") is None, data


def test_a_count_that_began_anew_leaves_nothing_out_for_longer_than_the_longest_wait():
    """The device's own count is lost with its state."""
    device = Device()
    device.hang("import", 9000 * DAY)
    assert device.wake(9000 * DAY, True).skipped("import")
    assert device.wake(0).skipped("import") is None


def test_a_long_name_and_many_of_them_are_bounded():
    device = Device()
    for n in range(40):
        device.hang(
            "reading %d with a name that is much longer than any mark on flash may ever be" % n, n * 9 * DAY, True
        )
    assert device.storage.size("skips") < 1500
    assert device.storage.size("piece") <= device.storage.inline
    assert reason(ConfigError, device.wake, 0, True) is None
