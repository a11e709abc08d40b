"""The end-to-end proof's share for every change: a sample of its cases, and a bug that the proof must find.

`make endtoend` runs every case in full, `make proof` plants every bug.
"""

import pytest

from proofs.endtoend import planted
from proofs.endtoend.cases import CASES
from proofs.endtoend.runs import DATABASES, POSTGRESQL, databases, run
from support.needs import need_micropython, need_mosquitto
from support.sampling import choose, number, some

SEED = number()
SMALL = 0.15  # of a full run's faults
OTHERS = [(case, database) for case in CASES if case != "quiet" for database in databases(case)]
SAMPLE = [*(("quiet", one) for one in choose(DATABASES, 1, "quiet")), *choose(OTHERS, 1, "endtoend")]


@pytest.fixture(autouse=True)
def machine():
    need_micropython()
    need_mosquitto()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("case", "database"), SAMPLE)
def test_each_command_has_one_final_state_and_it_is_the_true_one(case, database, request):
    url = request.getfixturevalue("postgresql_url") if database == POSTGRESQL else None
    outcome = run(case, SEED, SMALL, url=url)
    print(f"seed {SEED} {outcome.line}")
    assert not outcome.verdict.wrong, f"seed {SEED}"
    assert outcome.verdict.statuses.total() or outcome.verdict.records


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", some(list(planted.BUGS), 1, "endtoend bugs"))
def test_the_proof_finds_a_planted_bug(name, tmp_path):
    """A proof that cannot fail proves nothing."""
    bug = planted.BUGS[name]
    outcome = planted.hunt(bug, SEED, tmp_path)
    print(outcome.line, *outcome.verdict.wrong, sep="\n")
    assert outcome.verdict.count(bug.breaks)


def test_every_planted_bug_still_has_its_place(tmp_path):
    for n, bug in enumerate(planted.BUGS.values()):
        planted.plant(bug, tmp_path / str(n))
