"""`make endtoend` as a command: what it runs, what it prints, and its exit codes."""

import pytest

from proofs.endtoend import __main__ as command
from proofs.endtoend.cases import CASES
from proofs.endtoend.many import Done, Wanted, runs
from proofs.endtoend.oracle import LOST, Verdict
from proofs.endtoend.runs import DATABASES


@pytest.fixture
def called(monkeypatch):
    """`called(*arguments, done=[…])`: the exit code, what was to be run, and how many at the same time."""

    def call(*arguments: str, done: list[Done]) -> tuple[int, list[Wanted], int]:
        asked: list[tuple[list[Wanted], int]] = []

        def fake(wanted: list[Wanted], jobs: int) -> list[Done]:
            asked.append((wanted, jobs))
            return done

        monkeypatch.setattr(command, "runs", fake)
        return command.main(list(arguments)), *asked[0]

    return call


def whole(**fields) -> Done:
    return Done("a line", Verdict(**fields))


def test_every_case_runs_on_postgresql_as_often_as_on_sqlite(called):
    code, asked, _ = called("--seed", "7", done=[whole()])
    assert code == 0
    assert {one.case for one in asked} == set(CASES)
    for case in CASES:
        assert {one.database for one in asked if one.case == case} >= {"postgresql"}
        assert CASES[case].postgresql or {one.database for one in asked if one.case == case} == set(DATABASES)


def test_one_case_runs_with_many_seeds_several_at_once(called, capsys):
    arguments = ["--case", "all at once", "--seed", "5", "--seeds", "200", "--database", "postgresql", "--jobs", "4"]
    code, asked, jobs = called(*arguments, done=[whole(records=9)] * 200)
    assert (code, jobs) == (0, 4)
    assert asked == [Wanted("all at once", seed, "postgresql", 1.0) for seed in range(5, 205)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:-1] == ["a line"] * 200
    assert lines[-1].endswith("0 of 1800 records lost; 0 lost, 0 twice, 0 untrue")


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (whole(wrong=[(LOST, "of 46 records 26 are stored")], records=46, missing=20), "20 of 46 records lost; 1 lost"),
        (Done("it could not be run", None), "2 runs, 1 of them wrong, 1 could not be run"),
    ],
)
def test_one_wrong_run_is_exit_code_1(called, capsys, done, words):
    assert called("--case", "quiet", done=[done, whole()])[0] == 1
    assert words in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--case", "quit"],
        ["--seed", "x"],
        ["--seed", "-1"],
        ["--seeds", "0"],
        ["--database", "mysql"],
        ["--jobs", "0"],
        ["--size", "nan"],
        ["--case", "two relays", "--database", "sqlite"],
        ["quiet"],
    ],
)
def test_what_is_no_case_seed_or_database_is_refused_with_one_line(called, capsys, arguments):
    with pytest.raises(SystemExit) as refused:
        called(*arguments, done=[])
    assert refused.value.code == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def test_a_run_that_cannot_be_run_is_told_and_counts_as_wrong():
    (done,) = runs([Wanted("no such case", 1, "sqlite", 1.0)], 1)
    assert done.wrong
    assert done.line == "no such case, sqlite, seed 1: could not be run: KeyError: 'no such case'"
