"""The journal and its marks on a real folder, on CPython and on MicroPython: what a torn file and full bounds do."""

import os

from runner import folder

from dormouse.errors import StorageError
from dormouse.journal import Journal, Mark
from dormouse.ports.storage import Storage


def make(limit=6000, **more):
    storage = Storage(folder())
    journal = Journal(storage, "j", limit, **more)
    assert list(journal.open()) == []
    return storage, journal


def put(journal, *sizes):
    records = [(i, bytes([i]) * n) for i, n in enumerate(sizes)]
    for kind, data in records:
        journal.add(kind, data)
    journal.commit()
    return records


def reread(storage, limit=6000, part=None):
    journal = Journal(storage, "j", limit, part=part)
    return list(journal.open()), journal


def spoil(storage, name, at=None, cut=None):
    """Change the byte at `at`, or keep only `cut` bytes."""
    data = bytearray(storage.read(name))
    if at is not None:
        data[at] ^= 4
    storage.replace(name, data if cut is None else data[:cut])


def refuses(function, *args):
    try:
        function(*args)
    except StorageError:
        return True
    return False


def test_records_come_back_in_order_from_tail_and_main_file():
    storage, journal = make()
    wanted = []
    for sizes in ((10,), (0, 255), (90, 1, 1), (40,), (40,), (300, 900), (4096,), (5,), (20, 20)):
        wanted += put(journal, *sizes)
        assert reread(storage)[0] == wanted


def test_what_was_added_and_not_committed_is_not_there():
    storage, journal = make()
    journal.add(1, b"never")
    assert reread(storage)[0] == []
    journal.drop()
    journal.commit()
    assert storage.size("j.t0") == 0
    journal.add(2, b"this")
    journal.commit()
    assert reread(storage)[0] == [(2, b"this")]


def test_small_groups_never_touch_the_main_file_until_the_tail_is_full():
    storage, journal = make()
    size = storage.size("j")
    wanted = []
    for _ in range(11):
        wanted += put(journal, 40)
    assert storage.size("j") == size
    wanted += put(journal, 40)
    assert storage.size("j") == size + 6 + 12 * 43
    assert reread(storage)[0] == wanted


def test_no_file_of_the_tail_is_longer_than_inline():
    storage, journal = make()
    for n in (1, 119, 120, 121, 123, 200, 7):
        put(journal, n)
        for name in storage.names():
            assert name[:3] != "j.t" or storage.size(name) <= storage.inline


def test_an_append_torn_at_any_byte_leaves_the_group_out_and_is_repaired():
    # POSIX may leave any part of an append. The tail that was to move into the main file must then still count.
    storage, journal = make()
    before = put(journal, 60) + put(journal, 50, 5)
    tails = [(n, storage.read(n)) for n in storage.names() if n[:3] == "j.t"]
    size = storage.size("j")
    assert tails
    group = put(journal, 300, 200)
    whole = storage.read("j")
    cuts = list(range(size, len(whole) - 1, 7))
    cuts += [len(whole) - 1, len(whole)]
    for cut in cuts:
        for name, data in tails:
            storage.replace(name, data)
        storage.replace("j", whole[:cut])
        found, journal = reread(storage)
        assert found == before + (group if cut == len(whole) else []), cut
        assert journal.lost == (cut - size if cut < len(whole) else 0)
        more = put(journal, 700)
        found, journal = reread(storage)
        assert found == before + (group if cut == len(whole) else []) + more, cut
        assert journal.lost == 0


def test_a_tail_without_its_main_file_is_stale():
    storage, journal = make()
    put(journal, 30)
    storage.remove("j")
    found, journal = reread(storage)
    assert found == []
    wanted = put(journal, 8)
    assert reread(storage)[0] == wanted


def test_a_tail_left_by_a_compaction_is_stale_even_when_the_content_is_the_same():
    storage, journal = make()
    kept = [(7, bytes(50))]
    journal.compact(kept)
    put(journal, 30)
    old = storage.read("j.t0")
    journal.compact(kept)
    assert storage.read("j.t0") == old
    assert reread(storage)[0] == kept


def test_a_changed_bit_in_the_main_file_ends_it_there_and_nothing_wrong_is_believed():
    storage, journal = make()
    first = put(journal, 600)
    put(journal, 600)
    good = storage.read("j")
    for at in range(8, len(good), 31):
        storage.replace("j", good)
        spoil(storage, "j", at)
        assert reread(storage)[0] in ([], first), at


def test_a_changed_bit_in_the_tail_drops_it():
    storage, journal = make()
    first = put(journal, 600)
    put(journal, 60)
    good = storage.read("j.t0")
    for at in range(len(good)):
        storage.replace("j.t0", good)
        spoil(storage, "j.t0", at)
        assert reread(storage)[0] == first, at


def test_a_corrupt_length_allocates_nothing_large():
    storage, journal = make(20000)
    first = put(journal, 500)
    at = storage.size("j")
    for _ in range(3):
        put(journal, 4000)
    data = bytearray(storage.read("j"))
    data[at] = data[at + 1] = 0xFF
    storage.replace("j", data)
    read = []
    chunks = storage.chunks

    def counted(name):
        for piece in chunks(name):
            read.append(len(piece))
            yield piece

    storage.chunks = counted
    assert reread(storage, 20000)[0] == first
    assert sum(read) < 2000


def test_compaction_replaces_everything_and_keeps_what_is_not_committed():
    storage, journal = make()
    put(journal, 700, 50)
    journal.add(9, b"pending")
    journal.compact((i, bytes([i]) * 100) for i in range(30))
    kept = [(i, bytes([i]) * 100) for i in range(30)]
    assert reread(storage)[0] == kept
    journal.commit()
    kept.append((9, b"pending"))
    assert reread(storage)[0] == kept
    journal.compact([])
    assert reread(storage)[0] == []


def test_a_compaction_that_does_not_fit_leaves_everything():
    storage, journal = make(2000)
    wanted = put(journal, 300) + put(journal, 20)
    assert refuses(journal.compact, [(1, bytes(900)), (2, bytes(900)), (3, bytes(900))])
    assert "j~" not in storage.names()
    wanted += put(journal, 30)
    assert reread(storage, 2000)[0] == wanted


def test_the_main_file_never_grows_beyond_its_limit():
    storage, journal = make(1000)
    n = 0
    while journal.room() >= 53:
        put(journal, 50)
        n += 1
    assert refuses(journal.add, 1, bytes(50))
    journal.commit(True)
    assert storage.size("j") <= 1000
    assert len(reread(storage, 1000)[0]) == n >= 17


def test_a_group_is_bounded_and_a_refused_record_leaves_the_group_as_it_was():
    storage, journal = make(60000)
    assert refuses(journal.add, 1, bytes(4097))
    journal.add(1, bytes(4000))
    assert refuses(journal.add, 2, bytes(200))
    journal.add(3, b"fits")
    journal.commit()
    assert [kind for kind, _ in reread(storage, 60000)[0]] == [1, 3]


def test_a_failed_commit_can_be_repeated_or_dropped():
    storage, journal = make()
    wanted = put(journal, 30)
    write = storage.replace

    def fail(name, data, mode="wb"):
        raise StorageError("full")

    for n in (40, 700):
        for again in (True, False):
            journal.add(5, bytes(n))
            storage.replace = fail
            assert refuses(journal.commit)
            assert refuses(journal.commit)
            storage.replace = write
            assert reread(storage)[0] == wanted
            if again:
                journal.commit()
                wanted.append((5, bytes(n)))
            else:
                journal.drop()
            wanted += put(journal, 20)
            assert reread(storage)[0] == wanted


def test_parts_of_a_ring_share_one_tail():
    storage = Storage(folder())
    wanted: dict = {}
    for part in range(3):
        journal = Journal(storage, "j", 900, part=part)
        assert list(journal.open()) == []
        wanted[part] = []
        while journal.room() >= 43:
            wanted[part] += put(journal, 40)
            assert reread(storage, 900, part)[0] == wanted[part]
        journal.commit(True)
        for old in wanted:
            assert reread(storage, 900, old)[0] == wanted[old]
    assert sorted([n for n in storage.names() if n[:3] == "j.t"]) == ["j.t0", "j.t1", "j.t2", "j.t3"]
    assert "j.r" not in storage.names()


def test_a_journal_that_was_not_opened_refuses_to_write():
    journal = Journal(Storage(folder()), "j", 1000)
    assert refuses(journal.add, 1, b"")
    assert refuses(journal.compact, [])
    assert refuses(journal.room)


def test_a_mark_keeps_the_last_value():
    storage = Storage(folder())
    mark = Mark(storage, "m")
    assert mark.load() is None
    for data in (b"", b"one", bytes(storage.inline - 4), b"two"):
        mark.save(data)
        assert Mark(storage, "m").load() == data
    assert refuses(mark.save, bytes(storage.inline - 3))
    assert mark.load() == b"two"


def test_a_mark_with_a_changed_bit_or_cut_short_is_none():
    storage = Storage(folder())
    mark = Mark(storage, "m")
    mark.save(b"started 17")
    good = storage.read("m")
    for at in range(len(good)):
        storage.replace("m", good)
        spoil(storage, "m", at)
        assert mark.load() is None, at
        storage.replace("m", good[:at])
        assert mark.load() is None, at
    storage.replace("m", bytes(4))
    assert mark.load() is None


def test_storage_reads_what_it_wrote_and_tells_absent_from_empty():
    storage = Storage(folder())
    assert storage.read("x") is None
    assert (storage.size("x"), list(storage.chunks("x"))) == (0, [])
    storage.replace("x", b"")
    assert storage.read("x") == b""
    storage.append("x", (b"a", b"b"))
    storage.append("x", iter([b"c" * 1100]))
    assert [len(piece) for piece in storage.chunks("x")] == [256, 256, 256, 256, 78]
    storage.replace("x", iter([b"1", b"2"]))
    assert (storage.read("x"), storage.names()) == (b"12", ["x"])
    storage.remove("x")
    storage.remove("x")
    assert storage.names() == []
    assert storage.free() > 0


def test_storage_drops_what_a_cut_left_half_written():
    place = folder()
    Storage(place).replace("cmd", b"whole")
    with open(place + "/cmd~", "wb") as f:
        f.write(b"ha")
    storage = Storage(place)
    assert (storage.names(), storage.read("cmd")) == (["cmd"], b"whole")


def test_storage_comes_up_with_a_leftover_that_worn_flash_keeps():
    """A folder stands for it: it can't be removed as a file. A name with a tilde elsewhere is somebody's own."""
    place = folder()
    for name in ("cmd", "a~b"):
        Storage(place).replace(name, b"whole")
    os.mkdir(place + "/cmd~")
    storage = Storage(place)
    assert (sorted(storage.names()), storage.read("cmd")) == (["a~b", "cmd", "cmd~"], b"whole")


def test_a_replacement_that_fails_midway_leaves_the_old_content():
    storage = Storage(folder())
    storage.replace("x", b"old")

    def pieces():
        yield b"new"
        raise StorageError("no more")

    assert refuses(storage.replace, "x", pieces())
    assert (storage.names(), storage.read("x")) == (["x"], b"old")
