"""A wake report with a new error has the ledger fetch the device's log, once; a wake without one costs nothing."""

import json

import pytest
import typer.testing

from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.ledger.device_log import errors
from support.reports import NOW, answer, report

DAY = 86400
FAULTS: list[dict] = [
    {"app": "ImportError: no module named 'x' at app.py:3"},
    {"readings": {"soil": "OSError: 5 at app.py:7 in soil"}},
    {"last": {"ended": "LinkError", "why": 'error {"stage":"join","why":"no network"}'}},
    {"last": {"ended": "cut off"}},
    {"last": {"ended": "finished", "why": 'error {"stage":"telemetry","why":"OSError: 5"}'}},
]
LOG = """\
1 10210 rejoin {"why":"link lost"}
2 3000 error {"stage":"app","why":"ValueError: \\"ü\\""}
2 3005 error {"stage":"cut o
no line of a log
2 99999999999 error {}
"""


def asked(ledger) -> list:
    """What is published now, of it `log`."""
    return [one for one in ledger.claim("r", "c", 10) if json.loads(one.payload)["do"] == "log"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: json.dumps(fault)[:30])
def test_a_new_error_asks_once(ledger, clock, fault):
    assert ledger.take([report(1)], "c") == []
    assert ledger.take([report(2, **fault)], "c") == []
    (question,) = asked(ledger)
    ledger.take([report(3, **fault), report(4)], "c")
    assert asked(ledger) == []
    assert ledger.take([answer(question, value="")], "c") == []
    clock.now += DAY - 60
    ledger.take([report(5, **fault)], "c")
    assert asked(ledger) == [], "the same error, within a day"
    ledger.take([report(6, app="another")], "c")
    assert len(asked(ledger)) == 1, "another error"
    ledger.take([report(7, **fault)], "c")
    assert asked(ledger) == [], "an open question is enough"


def test_an_error_that_stays_asks_again_after_a_day(ledger, clock):
    ledger.take([report(1, **FAULTS[0])], "c")
    (question,) = asked(ledger)
    ledger.take([answer(question, value="")], "c")
    clock.now += DAY + 1
    ledger.take([report(2, **FAULTS[0])], "c")
    assert len(asked(ledger)) == 1


def test_nothing_leaves_a_wake_without_an_error(ledger):
    """Nor one that only tells again, or what is no error."""
    last = {"ended": "finished", "ms": 4000, "why": 'rejoin {"why":"link lost"}'}
    quiet: list[dict] = [{}, {"last": last}, {"readings": ["x"]}, {"last": 5}, {"last": {"ended": 5, "why": 7}}]
    for wake, more in enumerate(quiet, 1):
        assert ledger.take([report(wake, **more)], "c") == []
        assert errors(more) is None
    assert ledger.claim("r", "c", 10) == []
    assert ledger.timeline("dev", 100, automatic=True)[-1].kind == "wake"


def test_figures_make_no_other_error():
    def of(why: str) -> str | None:
        return errors({"readings": {"soil": why}})

    assert of("only 1200 bytes left") == of("only 900 bytes left") != of("no bytes left")
    assert errors({"app": "E at app.py:3"}) != errors({"app": "E at app.py:4"})


def test_lines_are_stored_by_wake_and_once(ledger, clock):
    ledger.take([report(1)], "c")
    clock.now += 60
    ledger.take([report(3, **FAULTS[0])], "c")  # of the second wake no report came
    (question,) = asked(ledger)
    clock.now += 1
    ledger.take([answer(question, value=LOG)], "c")
    clock.now += DAY + 1
    ledger.take([report(4, **FAULTS[0])], "c")
    (question,) = asked(ledger)
    ledger.take([answer(question, value=LOG + "4 7 error {}\n")], "c")
    lines = [line for line in ledger.timeline("dev", 100) if line.kind == "log"]
    assert [(line.at - NOW, line.text) for line in lines] == [
        (0, '1 10210 rejoin {"why":"link lost"}'),
        (60, '2 3000 error {"stage":"app","why":"ValueError: \\"ü\\""}'),
        (60, '2 3005 error {"stage":"cut o'),
        (DAY + 62, "4 7 error {}"),
    ]
    assert lines[0].fields == {"wake": 1, "ms": 10210, "event": "rejoin", "fields": {"why": "link lost"}}
    assert lines[2].fields["fields"] == '{"stage":"cut o'


@pytest.mark.parametrize(
    "value",
    [None, 5, ["1 2 error"], "", "\n" * 3000, "1 2 \0\ud800\x1b[2J", "9" * 60000, "1 1 " + "[" * 1000, "1 1 x" * 9000],
)
def test_whatever_a_device_answers_is_stored_or_nothing_is(ledger, value):
    ledger.take([report(1, **FAULTS[0])], "c")
    (question,) = asked(ledger)
    assert ledger.take([answer(question, value=value)], "c") == []
    lines = [line for line in ledger.timeline("dev", 1000) if line.kind == "log"]
    assert all(line.text.isprintable() and len(line.text) < 1100 for line in lines)
    assert len(lines) == (str(value)[:4] in ("1 2 ", "1 1 "))


def test_a_long_answer_is_cut_to_its_newest_lines(ledger):
    ledger.take([report(1, **FAULTS[0])], "c")
    (question,) = asked(ledger)
    ledger.take([answer(question, value="".join(f"1 {n} x\n" for n in range(1000)))], "c")
    assert [line.fields["ms"] for line in ledger.timeline("dev", 2000) if line.kind == "log"] == list(range(700, 1000))


def test_dormouse_log_shows_them(fleet: Fleet):
    fleet.ledger.take([report(1, **FAULTS[0])], "c")
    (question,) = asked(fleet.ledger)
    fleet.ledger.take([answer(question, value=LOG)], "c")

    def said(*words: str) -> str:
        return typer.testing.CliRunner().invoke(app.app, ["log", "dev", *words]).output

    assert 'log        2 3000 error {"stage":"app"' in said()
    assert "queued: log" not in said()
    assert "queued: log" in said("--all")
    assert '"event": "rejoin"' in said("--json")
    fleet.prune(fleet.clock() - 60)
    assert said().count("  log  ") == 3
    fleet.prune(fleet.clock())
    assert said().count("  log  ") == 1, "the newest row of each table stays"
