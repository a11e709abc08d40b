"""Unruly programs, quickly: a sample of the rows of `make unruly`, and a loosened agent that they find.

Must stay true: these are that table's rows, judged by the same rules.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dormouse_host.agent import toolchain
from proofs.powercut import planted
from proofs.unruly.program import BOARDS, PORTS
from proofs.unruly.rows import KINDS, ROWS, chosen
from proofs.unruly.stage import Row, new_world, run
from support.needs import need_micropython
from support.sampling import choose

WORKERS = 4  # most of a row is waiting
QUICK = [  # no watchdog has to bite
    (program, port)
    for program, port in ROWS
    if program in (*KINDS["raising"], *KINDS["spoiling"]) and "heap" not in program.name and not program.window
]
CONTEXT = next(row for row in ROWS if (row[0].name, row[1]) == ("the wake's Context", "posix"))
JOBS = [job for port in PORTS for job in choose([row for row in QUICK if row[1] == port], 2, f"unruly {port}")]
JOBS.append(CONTEXT)


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """The rows of this sample, several at a time."""
    need_micropython()
    with new_world() as world, ThreadPoolExecutor(WORKERS) as pool:
        done = pool.map(lambda job: run(world, *job), JOBS)
        return {_name(job): row for job, row in zip(JOBS, done, strict=True)}


def _name(job) -> str:
    return f"{job[0].name} on {job[1]}"


@pytest.mark.timeout(600)  # the first waits for all of them
@pytest.mark.parametrize("job", [_name(job) for job in JOBS])
def test_an_unruly_program_keeps_no_device_from_its_next_connection(rows, job):
    """Connected within three wakes, a command done once, what was at fault told, asleep."""
    assert not rows[job].faults, rows[job].output + rows[job].told


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("old", "new", "program"),
    [
        (
            "        if 0 < again - self._now <= _FIRST",
            "        if 0 and again - self._now <= _FIRST",
            "reading resets",
        ),
        ("            self.pieces.blame()\n", "            pass\n", "socket() raises"),
        ("        if cut and connection.inbox.broke:", "        if connection.inbox.broke:", "the wake's Context"),
        ("        except (Exception, SystemExit):", "        except MemoryError:", "print exits"),
    ],
)
def test_a_loosened_agent_is_found(monkeypatch, tmp_path, old, new, program):
    """A proof that cannot fail proves nothing."""
    agent = planted.plant(planted.Bug(old, new, "", "", "", ""), tmp_path)
    monkeypatch.setattr(toolchain, "agent_folder", lambda: agent)
    row = next(row for row in chosen([program]) if row[1] == "posix")
    with new_world() as world:
        assert run(world, *row).faults


def test_the_table_has_enough_rows_on_every_port_and_no_name_twice():
    """Sixty programs at least."""
    for port in PORTS:
        assert sum(row[1] == port for row in ROWS) >= 60
    names = [program.name for programs in KINDS.values() for program in programs]
    assert len(set(names)) == len(names)
    assert all(program.why for program, port in ROWS if set(program.ports) < set(PORTS))
    assert set(BOARDS) < set(PORTS)
