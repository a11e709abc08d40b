"""The journal under power cuts: real MicroPython, real littlefs, NOR flash that loses power at every operation.

A scenario is a list of steps. A run prints each step once it is durable; after a cut, what is found must be the
state after the last printed step or after the next one, whole. JOURNAL_CUTS=all tries every cut point (minutes);
otherwise a sample.
"""

import ast
import os
import random
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from dormouse.errors import StorageError
from dormouse.journal import Journal, Mark
from dormouse.ports import storage as files
from dormouse.ports.storage import Storage
from proofs.journal import work
from support.sampling import seed, some

SCRIPT = Path(__file__).parent / "journal" / "work.py"
ROOT = SCRIPT.parents[3]
MODES = ("before", "half", "torn", "after")
ALL = os.environ.get("JOURNAL_CUTS") == "all"
EMPTY = ((), (), ())
CUT = 75


@pytest.fixture(scope="module")
def micropython():
    from dormouse_host.agent import toolchain

    return str(toolchain.require_micropython().path)


class Bench:
    """Images on disk and the interpreter that lives on them. A story is a list of boots (cut, what) on one image."""

    def __init__(self, folder, interpreter, progsize=32):
        self.folder = folder
        self.interpreter = interpreter
        self.progsize = str(progsize)
        self.fresh = folder / "fresh.img"
        self.fresh.write_bytes(b"\xa5" * 4096 * work.BLOCKS)
        self.make(self.fresh, "mkfs")
        self.base = self.make_copy(self.fresh, "base", "init")
        self.start = self.stories(self.base, [[("-", "look")]])[0][0].found
        assert self.start[0]
        assert len(self.start[1]) == 2

    def make(self, image, what):
        (life,) = self._run(image, [[("-", what)]], "keep ")[0]
        assert life.status == 0, life.lines

    def make_copy(self, image, name, what):
        new = self.folder / f"{name}.img"
        shutil.copyfile(image, new)
        self.make(new, what)
        return new

    def begin(self, scenario):
        """The image on which a scenario starts, and what is there."""
        if scenario == "first":
            return self.fresh, EMPTY
        if scenario in ("repair", "full"):
            return self.make_copy(self.base, scenario, {"repair": "tear", "full": "fill"}[scenario]), self.start
        return self.base, self.start

    def stories(self, image, stories, bug=""):
        """A list of Life for each story; on both cores."""
        half = (len(stories) + 1) // 2 if len(stories) > 8 else len(stories)
        other = self.folder / f"{image.stem}-2.img"
        shutil.copyfile(image, other)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(self._run, image, stories[:half], "", bug)
            second = pool.submit(self._run, other, stories[half:], "", bug)
            return first.result() + second.result()

    def _run(self, image, stories, prefix="", bug=""):
        if not stories:
            return []
        args = [self.interpreter, str(SCRIPT), str(image), self.progsize, bug]
        asked = "".join(prefix + " ".join(f"{cut}/{what}" for cut, what in story) + "\n" for story in stories)
        environment = {**os.environ, "INTERPRETER": self.interpreter}
        done = subprocess.run(
            args, input=asked, capture_output=True, text=True, timeout=900, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr[-1000:] + done.stdout[-1000:]
        lives: list[Life] = []
        lines: list[str] = []
        for line in done.stdout.splitlines():
            if line.startswith("status "):
                lives.append(Life(int(line.split()[1]), lines))
                lines = []
            else:
                lines.append(line)
        rest = iter(lives)
        return [list(islice(rest, len(story))) for story in stories]


class Life:
    """What one boot said before it ended."""

    def __init__(self, status, lines):
        self.status = status
        self.lines = lines

    @property
    def found(self):
        return ast.literal_eval(self.lines[0])

    @property
    def ops(self):
        assert self.status == 0, self.lines
        return int(self.lines[-1].split()[1])

    @property
    def done(self):
        """The number of steps that were durable when power went."""
        return int(self.lines[-1]) if self.lines and self.lines[-1].isdigit() else 0


def ring_ok(found, wanted):
    """The ring keeps the newest records: a suffix of what was put there, and of all of it while there is room."""
    return len(found) >= min(len(wanted), 20) and wanted[len(wanted) - len(found) :] == found


def same(found, wanted):
    return found[:2] == wanted[:2] and ring_ok(found[2], wanted[2])


def judge(lives, states):
    """Why the last boot (an undisturbed `look`) breaks the promise that the cut one before it gave, or None."""
    cut, look = lives[-2:]
    if any(life.status != CUT for life in lives[:-1]):
        return f"no cut, but status {[life.status for life in lives]}: {cut.lines[-4:]}"
    if look.status:
        return f"cannot start or write any more: {look.lines[-6:]}"
    found = look.found
    if not any(same(found, state) for state in states[cut.done : cut.done + 2]):
        return f"after {cut.done} durable steps neither their state nor the next one is there, but {str(found)[:300]}"
    if ast.literal_eval(look.lines[-2]) != work.states(work.AGAIN, found)[-1]:
        return "what is written afterwards is not there"
    return None


def choose(points, n, name, most=None):
    """`n` of the points, or with JOURNAL_CUTS=all `most` of them, or all."""
    n = (most or len(points)) if ALL else n
    return points if len(points) <= n else random.Random(f"{seed()} {name}").sample(points, n)


def cuts(ops):
    return [f"{n}:{mode}" for n in range(1, ops + 1) for mode in MODES]


def sweep(bench, scenario, share, bug=""):
    """Cut everywhere (or at `share` of the points), boot again, and return (points, faults)."""
    image, start = bench.begin(scenario)
    states = work.states(work.SCENARIOS[scenario], start)
    ((whole, look),) = bench.stories(image, [[("-", scenario), ("-", "look")]], bug)
    if not bug:
        assert same(look.found, states[-1]), "without any cut"
    points = choose(cuts(whole.ops), share, scenario)
    stories = bench.stories(image, [[(cut, scenario), ("-", "look")] for cut in points], bug)
    faults = [(cut, judge(lives, states)) for cut, lives in zip(points, stories, strict=True)]
    return len(points), [f"{scenario}, cut {cut}, seed {seed()}: {why}" for cut, why in faults if why]


@pytest.fixture(scope="module")
def bench(tmp_path_factory, micropython):
    return Bench(tmp_path_factory.mktemp("nor"), micropython)


@pytest.mark.parametrize("scenario", list(work.SCENARIOS))
def test_a_cut_at_any_flash_operation_leaves_the_old_state_or_the_new_one(bench, scenario):
    points, faults = sweep(bench, scenario, 60)
    assert not faults, "\n".join(faults[:5])
    assert points > 20


@pytest.mark.proof
def test_a_cut_on_flash_programmed_in_whole_pages_leaves_the_old_state_or_the_new_one(tmp_path, micropython):
    # Pico W's littlefs programs 256 bytes at a time, and keeps files of up to 512 bytes inline.
    bench = Bench(tmp_path, micropython, progsize=256)
    for scenario in ("mixed", "compact"):
        _, faults = sweep(bench, scenario, 60)
        assert not faults, "\n".join(faults[:5])


@pytest.mark.parametrize("scenario", some(["tails", "compact", "repair", "full"], 1, "second cut"))
def test_a_second_cut_during_recovery_leaves_no_less(bench, scenario):
    image, start = bench.begin(scenario)
    states = work.states(work.SCENARIOS[scenario], start)
    ((whole,),) = bench.stories(image, [[("-", scenario)]])
    first = choose(cuts(whole.ops), 10, f"first {scenario}", most=16)
    known = bench.stories(image, [[(cut, scenario), ("-", "again")] for cut in first])
    points = []
    for cut, (one, again) in zip(first, known, strict=True):
        assert any(same(again.found, state) for state in states[one.done : one.done + 2])
        points += [(cut, second, again.found) for second in cuts(again.ops)]
    points = choose(points, 60, f"second {scenario}")
    stories = bench.stories(image, [[(cut, scenario), (second, "again"), ("-", "look")] for cut, second, _ in points])
    for (cut, second, found), lives in zip(points, stories, strict=True):
        why = judge(lives, work.states(work.AGAIN, found))
        assert why is None, f"{scenario}, cuts {cut} and {second}, seed {seed()}: {why}"


@pytest.mark.parametrize(
    ("bug", "scenario"),
    some(
        [
            ("no flush", "tail"),
            ("no flush", "spill"),
            ("overwrite", "compact"),
            ("any tail", "spill"),
            ("any generation", "same"),
            ("first slot first", "tails"),
        ],
        1,
        "journal bugs",
    ),
)
def test_the_sweep_catches_a_planted_bug(bench, bug, scenario):
    points, faults = sweep(bench, scenario, 150, bug)
    wrong = [why for why in faults if "neither their state nor the next" in why]
    # Some cuts must be harmless (none is when nothing is flushed), or else something simpler than the bug is caught.
    assert 0 < len(wrong) < points + (bug == "no flush"), faults[:3]


@pytest.mark.parametrize(
    ("progsize", "bounds"), some([(32, (0.04, 0.2, 2.0, 2.0)), (256, (0.1, 0.25, 2.0, 3.0))], 0, "erases")
)
def test_erases_stay_within_the_budget(tmp_path, micropython, progsize, bounds):
    # An erase takes about 50 ms, a mark or a small group 1 to 2 ms: erases are what a wake must not have many of.
    script = SCRIPT.with_name("cost.py")
    args = [micropython, str(script), str(tmp_path / "cost.img"), str(progsize)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, check=True)
    print(done.stdout)
    erases = {line.split(": ")[0]: float(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines()}
    names = (
        "mark rewritten",
        "telemetry record of 40 bytes",
        "wake with 1 command and 1 record",
        "wake with 10 commands",
    )
    for name, bound in zip(names, bounds, strict=True):
        assert 0 < erases[name] <= bound, f"{name}: {erases[name]} erases"


def on_nor(micropython: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run this with `d`, a flash of one block that is erased."""
    paths = [str(ROOT / "boards/virtual"), str(ROOT / "tests/proofs/powercut/board")]
    begin = f"import sys; sys.path[:0] = {paths!r}; import norflash, apart, micropython; "
    begin += "d = norflash.NorFlash(open('nor.img', 'r+b'), 1, stop=apart.stop); d.ioctl(6, 0); "
    (folder / "nor.img").write_bytes(b"\xa5" * 4096)
    return subprocess.run([micropython, "-c", begin + code], cwd=folder, capture_output=True, text=True, check=False)


def test_programming_a_byte_twice_ends_the_process(tmp_path, micropython):
    # Or else the model would let a file system pass that no NOR flash can carry.
    code = "d.writeblocks(0, b'a', 5); d.writeblocks(0, b'b', 6); "
    code += "print(d.erases, d.programs, d.program_bytes, list(d.wear)); d.writeblocks(0, b'c', 5); print('went on')"
    done = on_nor(micropython, tmp_path, code)
    assert done.returncode in (70, -signal.SIGUSR2), "the second is how apart.py says 70 without ffi"
    assert done.stdout.strip() == "1 2 2 [1]", done.stderr


def test_it_programs_while_the_garbage_collector_runs(tmp_path, micropython):
    # Which closes files that nobody holds any more, and allocates nothing meanwhile.
    code = "page = b'a' * 256; part = b'b' * 32; micropython.heap_lock(); d.writeblocks(0, page, 0); "
    code += "d.writeblocks(0, part, 256); micropython.heap_unlock(); print(d.programs, d.program_bytes)"
    done = on_nor(micropython, tmp_path, code)
    assert done.stdout.strip() == "2 288", done.stderr


def test_fat_is_refused_with_the_reason(micropython):
    # FAT's rename is two writes: after a cut both names may be there, or none.
    code = f"""
import sys, vfs
sys.path.insert(0, {str(ROOT / "device")!r})
from dormouse.ports.storage import Storage
from dormouse.errors import ConfigError
class Ram:
    data = bytearray(100 * 512)
    def readblocks(self, n, buf):
        buf[:] = self.data[n * 512:n * 512 + len(buf)]
    def writeblocks(self, n, buf):
        self.data[n * 512:n * 512 + len(buf)] = buf
    def ioctl(self, op, arg):
        return {{4: 100, 5: 512}}.get(op, 0)
ram = Ram()
vfs.VfsFat.mkfs(ram)
vfs.mount(vfs.VfsFat(ram), "/fat")
for folder in ("/fat", "/fat/app"):
    try:
        Storage(folder)
        print("taken")
    except ConfigError as e:
        print(e)
"""
    done = subprocess.run([micropython, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("VfsFat" in line and "littlefs" in line for line in lines)


def test_a_full_file_system_keeps_everything_and_still_compacts(tmp_path, bench):
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import work
work.__file__ = {str(SCRIPT)!r}
work.Life.imports()
life = work.Life({str(shutil.copyfile(bench.base, tmp_path / "full.img"))!r}, "-", 32)
from dormouse.errors import StorageError
life.open()
life.cmd.compact(iter(work.keep(42, 100)))
life.fill()
n = len(life.open()[0])
refused = 0
for step in work.groups((900, 60, 900, 50, 900, 900)):
    try:
        life.do(step)
        n += len(step[1])
    except StorageError as e:
        refused += 1
        life.cmd.drop()
    assert len(life.open()[0]) == n, "lost or half there"
print(refused)
for i in range(6):
    kept = work.keep(42 + i, 100)
    life.cmd.compact(iter(kept))
    assert life.open()[0] == tuple(kept), i
    life.do(work.groups((103,))[0])
print(life.store.size("cmd.r") >= work.LIMIT)
life.store.remove("filler")
life.do(work.groups((600,))[0])
print(len(life.open()[0]) - len(kept))
"""
    done = subprocess.run([bench.interpreter, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.split()
    assert int(lines[0]) > 0, "the file system was not full"
    assert lines[1:] == ["True", "4"]


class Tearing(Storage):
    """POSIX without a careful replace: the file is written in place, and power goes in the middle of it."""

    def replace(self, name, data, mode="wb"):
        (Path(self._dir) / name).write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))


class Bare(Mark):
    """The planted bug: a mark without its checksum."""

    def load(self):
        return self._s.read(self._name)

    def save(self, data):
        self._s.replace(self._name, data)


def test_a_torn_mark_is_no_mark_and_without_the_checksum_it_would_be_one(tmp_path):
    for kind, wanted in ((Mark, True), (Bare, False)):
        kind(Storage(str(tmp_path)), "m").save(b"started 17, attempt 2")
        torn = Tearing(str(tmp_path))
        kind(torn, "m").save(b"done 17, succeeded ..")
        assert (kind(torn, "m").load() is None) == wanted


def test_a_rename_that_is_not_durable_is_an_error_and_leaves_one_state(tmp_path, monkeypatch):
    # A disk that fails at the folder's fsync: nobody knows which file has the name. The journal must ask.
    storage = Storage(str(tmp_path))
    journal = Journal(storage, "j", 4000)
    list(journal.open())
    for i in range(20):
        journal.add(1, bytes([i]) * 40)
        journal.commit()
    healthy = files._sync

    def fail(folder):
        healthy(folder)
        raise StorageError("EIO")

    monkeypatch.setattr(files, "_sync", fail)
    with pytest.raises(StorageError):
        journal.compact([(2, b"new")])
    monkeypatch.setattr(files, "_sync", healthy)
    journal.add(3, b"more")
    journal.commit()
    assert list(Journal(storage, "j", 4000).open())[-1] == (3, b"more")
    assert next(Journal(storage, "j", 4000).open()) in ((1, bytes(40)), (2, b"new"))
