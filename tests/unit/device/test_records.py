"""Telemetry on flash: each record has a number for good, the newest stay, and what is dropped is the oldest."""

from runner import folder

from dormouse.ports.storage import Storage
from dormouse.records import LOCAL, UNIX, Telemetry


def fresh():
    storage = Storage(folder())
    return storage, Telemetry(storage, 0)


def add(ring, count, size=20):
    """Store `count` records, each with its own number in it."""
    for _ in range(count):
        n = ring.last + 1
        assert ring.add(UNIX, 1000 + n, b'{"n":%d,"x":"%s"}' % (n, b"x" * size)) == n


def read(ring, first=1):
    """The numbers from `first` on; their content must be theirs."""
    numbers = []
    for number, kind, seconds, values in ring.read(first):
        assert (kind, seconds) == (UNIX, 1000 + number)
        assert values.startswith(b'{"n":%d,' % number)
        numbers.append(number)
    return numbers


def sizes(storage):
    """Of the files of the ring, by their numbers."""
    return {int(name[4:]): storage.size(name) for name in storage.names() if name[:4] == "tel." and name[4:].isdigit()}


def test_an_empty_ring_has_nothing():
    """And makes no file before there is something to write."""
    storage, ring = fresh()
    assert (ring.last, ring.oldest(), read(ring), read(ring, 7)) == (0, 1, [], [])
    assert sizes(storage) == {}


def test_a_record_comes_back_as_it_was():
    """Number, kind, seconds and values."""
    _, ring = fresh()
    assert ring.add(UNIX, 1795000000, b'{"v":1}') == 1
    assert ring.add(LOCAL, 0, b"{}") == 2
    assert ring.add(LOCAL, 4294967295, b'{"t":"\xc2\xb0C"}') == 3
    assert list(ring.read(1)) == [
        (1, 1, 1795000000, b'{"v":1}'),
        (2, 2, 0, b"{}"),
        (3, 2, 4294967295, b'{"t":"\xc2\xb0C"}'),
    ]


def test_a_record_is_on_flash_when_it_is_stored():
    """Power may go before it is sent."""
    storage, ring = fresh()
    for n in range(1, 20):
        add(ring, 1)
        assert read(Telemetry(storage, 0)) == list(range(1, n + 1))


def test_numbers_go_on_over_reboots():
    """A number given twice would be one record lost at the host."""
    storage, ring = fresh()
    for boot in range(1, 25):
        add(ring, boot % 4, 300)
        last = ring.last
        ring = Telemetry(storage, 0)
        assert ring.last == last
    assert read(ring) == list(range(1, 37))


def test_full_files_are_followed_by_new_ones():
    """A file is at most 4 KiB: a flash block and its turn to be dropped."""
    storage, ring = fresh()
    add(ring, 60, 300)
    assert len(sizes(storage)) == 5
    assert max(sizes(storage).values()) <= 4096
    assert read(ring) == list(range(1, 61))
    assert read(Telemetry(storage, 0)) == list(range(1, 61))


def test_the_oldest_go_when_the_space_is_needed_and_the_rest_stays_contiguous():
    """Never the newest, and never one out of the middle."""
    storage, ring = fresh()
    for _ in range(30):
        add(ring, 7, 450)
        oldest = ring.oldest()
        assert read(ring) == list(range(oldest, ring.last + 1))
        again = Telemetry(storage, 0)
        assert (again.oldest(), again.last) == (oldest, ring.last)
        assert len(sizes(storage)) <= 8
        assert sum(sizes(storage).values()) <= 8 * 4096
    assert oldest > 100
    assert ring.last - oldest > 8 * 7


def test_reading_begins_at_any_number():
    """A host may ask for any range: before the first, at a file's edge, after the last."""
    _, ring = fresh()
    add(ring, 90, 450)
    oldest = ring.oldest()
    for first in range(oldest - 3, ring.last + 4):
        assert read(ring, first) == list(range(max(first, oldest), ring.last + 1)), first
    assert read(ring, 1 << 31) == []


def test_reading_while_more_is_stored_disturbs_neither():
    """A reading is taken while records are being sent."""
    storage, ring = fresh()
    add(ring, 25, 300)
    reader = ring.read(1)
    seen = [next(reader)[0] for _ in range(3)]
    add(ring, 3, 300)
    seen += [entry[0] for entry in reader]
    assert seen[:25] == list(range(1, 26))
    assert read(Telemetry(storage, 0)) == list(range(1, 29))


def test_a_record_cut_in_the_middle_is_not_there_and_its_number_is_given_to_the_next():
    """It was never stored, so nobody has seen its number. The one before lay in the tail and counts again."""
    for cut in (1, 100, 299, 600):
        storage, ring = fresh()
        add(ring, 8, 300)  # the eighth moved the seventh out of the tail, and itself, in one append
        whole = storage.read("tel.1")
        storage.replace("tel.1", whole[:-cut])
        ring = Telemetry(storage, 0)
        assert ring.last == 7
        assert read(ring) == list(range(1, 8))
        add(ring, 2, 300)
        assert read(Telemetry(storage, 0)) == list(range(1, 10))


def test_a_new_file_without_a_record_does_not_start_the_numbers_again():
    """Power may go between making it and writing to it."""
    storage, ring = fresh()
    add(ring, 13, 300)
    last = ring.last
    ring._next_part()
    ring = Telemetry(storage, 0)
    assert ring.last == last
    add(ring, 1)
    assert read(Telemetry(storage, 0)) == list(range(1, last + 2))


def test_a_file_of_another_name_is_left_alone():
    """The folder is not the ring's alone."""
    storage, ring = fresh()
    for name in ("tel.x", "tel.", "tel.t0x", "telemetry", "tel"):
        storage.replace(name, b"?")
    add(ring, 3)
    assert read(Telemetry(storage, 0)) == [1, 2, 3]
    assert storage.read("tel.x") == b"?"
