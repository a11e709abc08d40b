"""The power-cut proof's share for every change: a sample of its points, and a bug that the harness must find.

`make powercut` tries every point, `make proof` plants every bug.
"""

import os
import time
from contextlib import nullcontext
from typing import Any, cast

import pytest

from proofs.powercut import __main__ as command
from proofs.powercut import planted, sweep
from proofs.powercut.points import NoPoint, Point, all_in, parse
from support.needs import need_micropython, need_mosquitto
from support.sampling import seed, some

SINGLES, FIRSTS, SECONDS = 16, 3, 2  # 16 + 3 + 3 * 2 = 25 points


@pytest.fixture(autouse=True)
def machine():
    need_micropython()
    need_mosquitto()


@pytest.mark.timeout(600)
def test_a_cut_at_any_instant_loses_nothing_repeats_nothing_and_leaves_nobody_stuck():
    with sweep.new_bench() as bench:
        results = list(sweep.sample(bench, seed(), SINGLES, FIRSTS, SECONDS))
    print(sweep.summary(results))
    assert not [str(result) for result in results if result.faults][:5]
    assert len(results) == SINGLES + FIRSTS * (1 + SECONDS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", some(list(planted.BUGS), 1, "powercut"))
def test_the_harness_finds_a_planted_bug(name, tmp_path):
    """A proof that cannot fail proves nothing."""
    bug = planted.BUGS[name]
    with sweep.new_bench(planted.plant(bug, tmp_path)) as bench:
        faults = planted.hunt(bug, bench)
    print(faults)
    assert any(fault.startswith(bug.breaks) for fault in faults)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_the_points_that_show_the_bugs_show_none_in_the_agent_itself():
    """Else they would prove nothing about the bugs."""
    with sweep.new_bench() as bench:
        for bug in planted.BUGS.values():
            for point in list(planted.points(bug, bench))[:3]:
                assert not sweep.attempt(bench, point).faults


def test_every_result_of_the_whole_sweep_arrives(monkeypatch):
    """A worker that has done its last point must not end before what it told of it has left: more than a pipe holds."""
    points = [Point("long", 1, str(cut)) for cut in range(8)]
    told: list[str] = []

    def slowly(line: str) -> None:
        time.sleep(0.3)
        told.append(line)

    monkeypatch.setattr(sweep, "new_bench", nullcontext)
    monkeypatch.setattr(sweep, "points_of", lambda bench, story: points)
    monkeypatch.setattr(sweep, "pairs", lambda bench, point, *rest: [sweep.Result(point, ("lost: " + "x" * 200000,))])
    found = sweep.everything(slowly, ("long",))
    assert {result.point for result in found} == set(points)
    assert len(told) == 8


def test_a_sweep_whose_workers_die_ends(monkeypatch):
    """Killed by the kernel for their memory, for one; it would wait for ever."""
    monkeypatch.setattr(sweep, "_LOOK", 0.2)
    monkeypatch.setattr(sweep, "new_bench", nullcontext)
    monkeypatch.setattr(sweep, "points_of", lambda bench, story: [Point("long", 1, "0")])
    monkeypatch.setattr(sweep, "pairs", lambda *rest: os._exit(9))
    with pytest.raises(sweep.Broken, match="have ended"):
        sweep.everything(print, ("long",))


def test_a_point_that_is_not_reached_fails_the_run():
    with sweep.new_bench() as bench, pytest.raises(sweep.Broken, match="never reached"):
        sweep.attempt(bench, Point("short", 1, "flash:9999:before"))


@pytest.mark.parametrize("later", [["flash:1:half", "flash:2:half"], ["flash:1:half"]])
def test_a_second_cut_that_the_recovery_has_only_once_is_none(monkeypatch, later):
    """On a busy machine a recovery may come in other pieces; what it has each time must be reached."""
    first = Point("short", 1, "send:1:half")
    recoveries = [["flash:1:half", "flash:2:half"], later]

    def attempt(bench: Any, point: Point) -> sweep.Result:
        if point.then == "flash:2:half":
            raise sweep.Broken(f"{point}: never reached")
        return sweep.Result(point, (), tuple(recoveries.pop(0)) if point == first else ())

    monkeypatch.setattr(sweep, "attempt", attempt)
    with pytest.raises(sweep.Broken) if len(later) == 2 else nullcontext():
        found = list(sweep.pairs(cast(Any, None), first, None, ""))
        assert [result.once for result in found] == [False, False, True]
        assert sweep.summary(found) == (
            "2 cut points: 0 lost, 0 twice, 0 stuck, 0 lies; 1 more were in one recovery and not in the next"
        )
        with pytest.raises(sweep.Broken, match="2 of 4 second cuts"):
            sweep.summary([*found, found[-1]])


def test_a_point_is_found_again_by_its_name():
    for text in ("long/3:flash:17:torn", "short/1:hand:2:there+send:1:half"):
        assert str(parse(text)) == text
    assert len(all_in({"flash": 2, "send": 1, "recv": 1, "hand": 3, "mark": 9})) == 8 + 3 + 2 + 3


@pytest.mark.parametrize(
    "name, why",
    [
        ("long/3:socket:5", "socket"),
        ("long/3:flash:17", "MODE"),
        ("long/3:flash:17:gone", "gone"),
        ("long/3:flash:0:torn", "from 1"),
        ("long/x:flash:17:torn", "MODE"),
        ("nosuch/3:flash:17:torn", "nosuch"),
        ("long/3:flash:17:torn+there", "MODE"),
        ("long", "MODE"),
    ],
)
def test_a_name_that_is_no_point_is_refused(name, why, capsys):
    with pytest.raises(NoPoint, match=why):
        parse(name)
    assert command.main([name]) == 2
    assert name in capsys.readouterr().err


def test_a_named_point_that_no_wake_comes_to_is_refused(capsys):
    assert command.main(["short/1:flash:9999:before"]) == 2
    assert "no wake ended there" in capsys.readouterr().err


def test_a_planted_bug_whose_text_is_gone_is_an_error(tmp_path):
    """Else a change of the agent would turn its test into one that cannot fail."""
    with pytest.raises(ValueError, match="does not say once"):
        planted.plant(planted.Bug("no such line", "", "", "short", "", ""), tmp_path)
