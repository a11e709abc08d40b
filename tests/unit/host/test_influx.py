"""Telemetry as line protocol, and followed: from where it was, each record with its own time."""

import re
import subprocess
import sys

import pytest
import typer.testing

from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.influx import line
from support.reports import records
from support.waiting import until


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"t": 21.5, "n": 3, "on": True, "off": False}, "t=21.5,n=3.0,on=true,off=false"),
        ({"air": {"t": 1, "deep": {"h": 2}}, "x": None, "l": [1]}, "air.t=1.0,air.deep.h=2.0"),
        ({"a b,c=d": 'say "x\\y"\n'}, 'a\\ b\\,c\\=d="say \\"x\\\\y\\"�"'),
        ({"time": 5, "back\\": 1}, "time_=5.0,back_=1.0"),
        ({"big": 10**400, "nan": float("nan"), "inf": float("inf"), "v": -0.5}, "v=-0.5"),
        ({"": 1, "v": 2}, "v=2.0"),
    ],
)
def test_a_record_is_a_line(values, fields):
    assert line("dev", 7, 1790000000.25, values) == f"dormouse,device=dev {fields} 1790000000250000007"


@pytest.mark.parametrize("values", [{}, None, 5, [1], "x", {"x": None}])
def test_a_record_without_a_value_is_none(values):
    assert line("dev", 7, 1790000000, values) is None


@pytest.mark.parametrize("time", [-1, 9e15, float("nan"), float("inf")])
def test_a_time_that_no_database_takes_is_none(time):
    assert line("dev", 7, time, {"v": 1}) is None


def test_two_records_of_one_moment_are_two_points():
    assert line("dev", 1, 1790000000, {"v": 1}) != line("dev", 2, 1790000000, {"v": 1})


def run(*words: str) -> str:
    return typer.testing.CliRunner().invoke(app.app, ["export", *words]).output


def test_all_of_it_at_once(fleet: Fleet):
    fleet.ledger.take([records(1, 2)], None)
    found = run("telemetry", "--influx").splitlines()
    assert [re.sub(r" \d+$", "", text) for text in found] == ["dormouse,device=dev v=1.0", "dormouse,device=dev v=2.0"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("results", "--follow"), "for telemetry"),
        (("wakes", "--influx"), "for telemetry"),
        (("telemetry", "--influx", "--csv"), "one of"),
        (("telemetry", "--follow", "--csv"), "without --csv"),
        (("telemetry", "--follow", "--since", "1d"), "--since"),
    ],
)
def test_what_does_not_go_together_is_told(fleet, words, why):
    result = typer.testing.CliRunner().invoke(app.app, ["export", *words])
    assert why in str(result.exception)


class Follower:
    """`dormouse export telemetry --follow` in a process of its own, and the lines that it has printed."""

    def __init__(self, where: str, out, *words: str) -> None:
        self.out = out
        argv = [sys.executable, "-m", "dormouse_host.cli", "export", "telemetry", "--follow", "--db", where, *words]
        with out.open("ab") as file:
            self.process = subprocess.Popen(argv, stdout=file)

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[str]:
        text: str = self.out.read_text()
        return text.splitlines()


def test_followed_from_where_it_was_also_after_it_was_killed(where, tmp_path):
    out = tmp_path / "lines"
    with Fleet(where) as fleet:
        fleet.add("dev")
        fleet.ledger.take([records(1, 2)], None)

        def kept() -> str | None:
            with fleet.ledger.database.reading() as connection:
                return connection.exec_driver_sql("SELECT cursor FROM cursors WHERE name = 'influx'").scalar()

        with Follower(where, out, "--influx", "--name", "influx") as follower:
            until(lambda: len(follower.lines()) == 2 and kept())
            before = kept()
            fleet.ledger.take([records(3)], None)
            until(lambda: len(follower.lines()) == 3 and kept() != before)
        fleet.ledger.take([records(4, 5)], None)
        with Follower(where, out, "--influx", "--name", "influx") as follower:
            until(lambda: len(follower.lines()) == 5)
            assert [re.search(r"v=(\d+)", text)[1] for text in follower.lines()] == list("12345")  # type: ignore[index]
        with Follower(where, tmp_path / "json", "--name", "another") as follower:
            until(lambda: len(follower.lines()) == 5)
            assert '"number": 1' in follower.lines()[0]
