# mypy: ignore-errors
# ruff: noqa: RUF005, SIM105
"""One life of a device that only keeps a journal, on real littlefs over NOR flash that may lose power: run by
test_journal_cuts.py on MicroPython, and imported there for what each step must leave behind.

    echo "17:torn/spill -/look" | micropython work.py IMAGE PROGSIZE BUG

Each boot prints what it finds and the number of each step once that is durable; `look` also writes more.
"""

import os
import sys

BLOCKS = 32
LIMIT = 6000
PART = 700  # bytes of one file in the ring
PARTS = 3


def blob(i, n):
    return bytes([(i * 37 + k) & 255 for k in range(n)])


def groups(sizes, first=0):
    """One step per size: a group of records, the long ones of several."""
    steps = []
    for i, n in enumerate(sizes):
        i += first
        parts = (n,) if n < 150 else (n // 3, n - n // 3 - 5, 5)
        steps.append(("add", [((i + k) & 255, blob(i + k, m)) for k, m in enumerate(parts)]))
    return steps


def keep(n, size):
    return [(200, blob(i, size)) for i in range(n)]


_FEW = (20, 60, 31, 40, 90, 3)
SCENARIOS = {
    "first": [("open", 0)] + groups((30, 60)),
    "marks": [("mark", "ab"[i & 1], blob(i, 40 + i % 80)) for i in range(60)],
    "tail": groups((40, 40, 40, 30, 40, 124, 40, 33, 0, 118, 119, 1, 40, 40)),
    "tails": groups((200, 130, 60, 250, 160, 400, 30, 200, 300)),
    "spill": groups((100, 900, 30, 40, 30, 480, 20, 900, 1000, 30), 7),
    "seal": groups(_FEW) + [("seal",)] + groups(_FEW, 9) + [("seal",)],
    "compact": groups((300, 40), 3)
    + [("compact", keep(5, 90))]
    + groups((40, 900, 40, 60), 5)
    + [("compact", keep(24, 200))]
    + groups((50, 50), 11)
    + [("compact", [])]
    + groups((50, 700), 12),
    # The same bytes compacted to what was there before: an old tail must not be taken for a new one.
    "same": [("compact", keep(4, 60))] + groups((40,)) + [("compact", keep(4, 60))] + groups((10, 500)),
    "repair": groups((40, 60), 2) + [("seal",)] + groups((300, 50), 6),
    "ring": [("ring", blob(i, 40)) for i in range(64)],
    "mixed": [
        step
        for i in range(6)
        for step in groups((90,), i)
        + [("mark", "a", blob(i, 40))]
        + groups((30,), 50 + i)
        + [("ring", blob(i, 40)), ("mark", "b", blob(i, 20))]
    ],
    "full": groups((700, 60), 3)
    + [("compact", keep(9, 90))]
    + groups((30, 30))
    + [("compact", keep(10, 90))]
    + groups((40,), 70),
}
AGAIN = groups((70, 30), 90) + [("mark", "a", b"again")] + groups((600,), 95)


def states(steps, start=((), (), ())):
    """What must be there before the first step and after each: (journal, marks, telemetry), as `look` prints it."""
    journal, marks, ring = list(start[0]), dict(start[1]), list(start[2])
    out = []

    def note():
        out.append((tuple(journal), tuple(sorted(marks.items())), tuple(ring)))

    note()
    for step in steps:
        if step[0] == "add":
            journal += step[1]
        elif step[0] == "compact":
            journal = list(step[1])
        elif step[0] == "mark":
            marks[step[1]] = step[2]
        elif step[0] == "ring":
            ring.append(step[1])
        note()
    return out


# What runs on MicroPython only.


def plant(bug, journal, storage):
    """Break the product in one of the ways that the sweep must catch."""
    if bug == "no flush":
        kept = []

        def write(self, name, data, mode="wb"):
            f = open(self._dir + name, mode)  # noqa: SIM115
            kept.append(f)
            for piece in (data,) if isinstance(data, bytes) else data:
                f.write(piece)

        storage.Storage.replace = write
    elif bug == "overwrite":

        def replace(self, name, data, mode="wb"):
            with open(self._dir + name, mode) as f:
                for piece in (data,) if isinstance(data, bytes) else data:
                    f.write(piece)
                    f.flush()

        storage.Storage.replace = replace
    elif bug == "any tail":
        journal._seed = lambda generation, base: generation << 16 | 8  # of the main file's first group
    elif bug == "any generation":
        journal._seed = lambda generation, base: min(generation, 1) << 16 | base
    elif bug == "first slot first":
        whole = storage.Storage.replace
        held = []

        def late(self, name, data, mode="wb"):  # of the slots of one group, the first one is written first
            if mode != "wb":
                return whole(self, name, data, mode)
            held.append((name, data))
            if len(data) < 6 or name[-2:-1] != "t" or name == held_until[0]:
                for item in reversed(held):
                    whole(self, *item)
                held.clear()
            return None

        held_until = [""]
        commit = journal.Journal.commit

        def first(self, seal=False):
            held_until[0] = self._slot(self._last)
            commit(self, seal)

        storage.Storage.replace = late
        journal.Journal.commit = first
    elif bug:
        raise ValueError(bug)


class Ring:
    """Telemetry as the agent is to keep it: a ring of journals that share one tail."""

    def __init__(self, journal, storage):
        self.make = lambda n: journal.Journal(storage, "tel", PART, part=n)
        self.storage = storage

    def open(self):
        numbers = sorted([int(n[4:]) for n in self.storage.names() if n[:4] == "tel." and n[4:].isdigit()])
        records = []
        for n in numbers or [0]:
            self.part = n
            self.last = self.make(n)
            records += [data for _, data in self.last.open()]
        return records

    def put(self, data):
        if self.last.room() < len(data) + 3:
            self.last.commit(True)
            self.part += 1
            self.last = self.make(self.part)
            for _ in self.last.open():
                pass
            self.storage.remove(f"tel.{self.part - PARTS}")
        self.last.add(1, data)
        self.last.commit()


class Life:
    @classmethod
    def imports(cls):
        root = __file__.rsplit("/", 4)[0]
        sys.path[:0] = [root + "/boards/virtual", root + "/device", root + "/tests/proofs/powercut/board"]
        import apart
        import norflash

        from dormouse import journal
        from dormouse.ports import storage

        cls.norflash, cls.journal, cls.storage, cls.apart = norflash, journal, storage, apart
        cls.vfs = __import__("vfs")
        cls.stop = apart.stop

    def __init__(self, image, cut, progsize):
        self.progsize = progsize
        file = self.vfs.VfsPosix().open(image, "r+b")
        self.flash = self.norflash.NorFlash(file, BLOCKS, cut=None if cut == "-" else cut, stop=Life.stop)

    def mkfs(self):
        self.vfs.VfsLfs2.mkfs(self.flash, progsize=self.progsize)

    def open(self):
        try:
            self.vfs.umount("/")
        except OSError:
            pass
        self.vfs.mount(self.vfs.VfsLfs2(self.flash, progsize=self.progsize), "/")
        self.store = self.storage.Storage("/d")
        self.cmd = self.journal.Journal(self.store, "cmd", LIMIT)
        self.ring = Ring(self.journal, self.store)
        self.marks = {n: self.journal.Mark(self.store, n) for n in "ab"}
        journal = tuple(self.cmd.open())
        marks = tuple([(n, self.marks[n].load()) for n in "ab" if self.marks[n].load() is not None])
        return journal, marks, tuple(self.ring.open())

    def do(self, step):
        if step[0] == "add":
            for kind, data in step[1]:
                self.cmd.add(kind, data)
            self.cmd.commit()
        elif step[0] == "seal":
            self.cmd.commit(True)
        elif step[0] == "compact":
            self.cmd.compact(iter(step[1]))
        elif step[0] == "mark":
            self.marks[step[1]].save(step[2])
        elif step[0] == "ring":
            self.ring.put(step[1])

    def fill(self):
        """Take every block that is left."""
        f = self.vfs.VfsLfs2(self.flash, progsize=self.progsize).open("/d/filler", "wb")
        try:
            while True:
                f.write(bytes(1000))
                f.flush()
        except OSError:
            pass
        n = f.tell()
        try:
            f.close()
        except OSError:
            pass
        return n


def live(image, cut, progsize, what, bug):
    """One boot: the scenario `what`, or one of the words below."""
    life = Life(image, cut, int(progsize))
    if what == "mkfs":
        life.mkfs()
    elif what == "init":
        life.open()
        life.do(groups((55,))[0])
        life.do(("mark", "a", b"old a"))
        life.do(("mark", "b", b"old b"))
        life.do(("ring", b"old"))
    elif what == "tear":  # as POSIX may leave an append; littlefs never does
        life.open()
        with open("/d/cmd", "ab") as f:
            f.write(b"\x40\x00torn")
    elif what == "fill":
        life.open()
        life.fill()
    else:
        plant(bug, life.journal, life.storage)
        print(repr(life.open()))
        if what in ("look", "again"):
            life.store.remove("filler")
        for i, step in enumerate(AGAIN if what in ("look", "again") else SCENARIOS[what]):
            life.do(step)
            print(i + 1)
        if what == "look":
            print(repr(life.open()))
    print("ops", life.flash.ops)


def main(image, progsize, bug):
    """Lives in processes of their own, forked where that can be, so that a cut point costs milliseconds. Each line of
    stdin is a story: boots "CUT:WHAT" one after the other on a copy of `image`, or on it itself where the line begins
    with "keep"."""
    Life.imports()
    with open(image, "rb") as f:
        fresh = f.read()
    for line in sys.stdin:
        story = line.split()
        path = image
        if story[0] == "keep":
            story = story[1:]
        else:
            path = image + "~" + bug.replace(" ", "")
            with open(path, "wb") as f:
                f.write(fresh)
        for boot in story:
            cut, what = boot.split("/")
            args = path, cut, progsize, what, bug
            command = f"{os.getenv('INTERPRETER')} {__file__} one" + "".join([f" '{arg}'" for arg in args])
            print("status", Life.apart.apart(command, lambda pid: None, live, *args))


def one(*args):
    """One of them, as a process of its own."""
    Life.imports()
    Life.apart.lived(live, *args)


if __name__ == "__main__":
    if sys.argv[1] == "one":
        one(*sys.argv[2:])
    main(*sys.argv[1:])
