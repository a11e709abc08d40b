"""The hostile network, quickly: a sample of the plain cases that take seconds, and of the sweep.

Must stay true: these are the rows of `make hostile`, judged by the same rules.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dormouse_host.agent import toolchain
from proofs.hostile import cases, sweep
from proofs.hostile.stage import Row, new_world, run
from proofs.powercut import planted
from support.needs import need_micropython
from support.sampling import choose, seed

SAMPLE = 20  # cut bytes
ROWS = 14
WORKERS = 6  # most of a row is waiting
EVERY = {
    f"{case.name}-{kind}": (case, kind, case.tls == (True,))
    for case in cases.CASES
    if not case.slow
    for kind in sweep.KINDS
}
JOBS = {name: EVERY[name] for name in choose(list(EVERY), ROWS, "hostile")}


@pytest.fixture(scope="module")
def world():
    with new_world() as world:
        yield world


@pytest.fixture(scope="module")
def rows(world, request) -> dict[str, Row]:
    """Every row that this session asks for, many at a time."""
    jobs = (str(_params(item).get("job")) for item in request.session.items)
    wanted = {job for job in jobs if job in JOBS}
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(wanted, pool.map(lambda job: run(world, *JOBS[job]), wanted), strict=True))


def _params(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


@pytest.mark.timeout(600)  # the first waits for all of them
@pytest.mark.parametrize("job", JOBS)
def test_hostile_peer_keeps_nobody_awake_and_takes_nothing(world, rows, job):
    """Asleep within the budget, nothing lost, the next wake normal, the reason in its report."""
    if JOBS[job][1] == "micropython":
        need_micropython()
    row = rows[job]
    if row.late:
        row = run(world, *JOBS[job])
    assert not row.faults, row.output


@pytest.mark.timeout(600)
def test_cut_at_any_byte_loses_nothing_and_does_nothing_twice(world):
    """FIN and RST, up and down; `make hostile` cuts at each."""
    need_micropython()
    outcomes = sweep.sweep(world, sweep.sample(world, seed(), SAMPLE), 4, lambda outcome: None)
    print(sweep.summary(outcomes))
    assert not [(str(o.point), o.faults, o.output) for o in outcomes if o.faults]
    assert sum(outcome.cut for outcome in outcomes) > SAMPLE / 2


@pytest.mark.timeout(120)
def test_an_agent_that_waits_without_a_deadline_is_seen(monkeypatch, tmp_path):
    """A proof that cannot fail proves nothing."""
    line = "        left = int(min(self.deadline - self.clock(), self.patience))\n"
    bug = planted.Bug(line, "        left = 12000\n", "", "", "", "")
    agent = planted.plant(bug, tmp_path)
    monkeypatch.setattr(toolchain, "agent_folder", lambda: agent)
    case = next(case for case in cases.CASES if case.name == "silent after accept")
    with new_world() as planted_world:
        row = run(planted_world, case, "cpython", False)
    print(row.faults)
    assert row.late or row.faults
