"""The rows of `make pico` in which a program comes over the air, on the firmware itself.

Must stay true: every command that was sent meanwhile had its effect once; the boot code is
the file that was flashed; the program that runs afterwards is the one that the verdict names.
"""

import time

from dormouse_host.flash import kinds, project, releases
from proofs.pico.bench import APP, KIND, Bench, Context, Result

WAKES = 12  # an update and its verdict, at most
_SENT = 20.0  # seconds until the ledger has what a drained wake said
_ANSWER = 2.0  # … and the relay's answer to it is at the broker
_TABLE = b"".join(b"%06d,%019d\n" % (n, n * n) for n in range(740))  # 20 KB
_PROJECT = '[app]\nmain = "app.py"\nfiles = ["table.csv"]\n'
_RAISES = "import machine\nmachine.no_such_thing\n"
_HANGS = "import time\nwhile True:\n    time.sleep_ms(100)\n"
GUARD = "guard.mpy"


def program(version: int) -> str:
    """The row's program with the command `which`, that tells its version and what it finds in its table."""
    return f"""{APP}

@command("which")
def which(wake):
    with open(__file__.rsplit("/", 1)[0] + "/table.csv") as table:
        return [{version}, sum([len(line) for line in table])]
"""


def order(bench: Bench, text: str) -> str:
    """Order an update to this program and its table. Returns its name."""
    folder = bench.board.folder.parent / "new"
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(text)
    (folder / "table.csv").write_bytes(_TABLE)
    (folder / "dormouse.toml").write_text(_PROJECT)
    release = releases.build(project.read(folder), kinds.load(KIND))
    (name,) = bench.device.fleet.update([bench.device.id], release)
    return name


def follow(bench: Bench, name: str) -> list[str]:
    """Wake the device, a command for each wake, until the update is final: its statuses, and why it has failed."""
    for _ in range(WAKES):
        time.sleep(_ANSWER)
        sent = bench.pulse()
        bench.wake()
        bench.device.fleet.wait(sent, _SENT)
        if bench.device.fleet.update_result(name).final:
            break
    view = bench.device.fleet.update_result(name)
    return [status for _, status, _ in view.events] + ([view.why] if view.why else [])


def _runs(bench: Bench, version: int, slot: bytes) -> None:
    """The program of this version runs, in this slot, with its whole table."""
    done = bench.device.run("which")
    assert done.value == [version, len(_TABLE)], f"{done.status} {done.value} {done.why}"
    mark = bench.board.read_file("state/slot")
    assert mark[:1] == slot, f"slot {mark!r}"


def update(context: Context) -> list[Result]:
    """A program of 20 KB; then one that raises at its import, and one that hangs there: both are left again."""
    with context.bench() as bench:
        guard = bench.board.read_file(GUARD)
        said = follow(bench, order(bench, program(1)))
        assert said == ["queued", "sending", "on trial", "succeeded"], said
        _runs(bench, 1, b"b")
        bench.judge()
        results = [Result("update, 20 KB", "sent, on trial, kept", bench.figures())]
        for name, text, why in (
            ("update that raises", _RAISES, "no_such_thing' at app.py:2"),
            ("update that hangs", _HANGS, "cut off in import"),
        ):
            bench.mark()
            said = follow(bench, order(bench, text))
            assert said[-2] == "failed", said
            assert said[-1].startswith("rolled back: "), said
            assert why in said[-1], said
            _runs(bench, 1, b"b")
            bench.judge()
            results.append(Result(name, said[-1], bench.figures()))
        assert bench.interrupted == 0
        assert bench.board.read_file(GUARD) == guard
        return results
