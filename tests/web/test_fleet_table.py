"""The table of the fleet: which rows in which order, on both databases, and what is read again."""

import dataclasses
import re

import pytest

from dormouse_host.errors import HostError
from dormouse_host.fleet import Fleet
from dormouse_host.ledger import overview
from dormouse_host.ledger.overview import Glance
from dormouse_host.web import table
from dormouse_host.web.live import Actions, Hub
from dormouse_host.web.table import ROWS, Asked
from support import desk
from support.desk import EVIL, HOSTILE, HOUR


def glance(id: str, **more) -> Glance:
    empty = Glance(id, None, None, None, False, 0, (), None, None, "", "", 0)
    return dataclasses.replace(empty, **more)


def ids(found: list[Glance]) -> list[str]:
    return [each.id for each in found]


SOME = [
    glance("a", seen=100.0, next_due=200.0, battery=3.9, groups=("x",), pending=2),
    glance("b", seen=50.0, next_due=150.0, battery=4.1, faults=1),
    glance("c", battery=None, agent="0.2.0"),
]


def test_rows_are_sorted_and_what_is_unknown_comes_last():
    assert ids(table.choose(SOME, Asked(by="battery"), 120)[0]) == ["a", "b", "c"]
    assert ids(table.choose(SOME, Asked(by="battery", down=True), 120)[0]) == ["b", "a", "c"]
    assert ids(table.choose(SOME, Asked(by="seen"), 120)[0]) == ["a", "b", "c"], "the newest first"
    assert ids(table.choose(SOME, Asked(by="nonsense"), 120)[0]) == ["a", "b", "c"]


def test_rows_are_filtered():
    assert ids(table.choose(SOME, Asked(words="0.2"), 120)[0]) == ["c"]
    assert ids(table.choose(SOME, Asked(words="A X"), 120)[0]) == ["a"]
    assert ids(table.choose(SOME, Asked(group="x"), 120)[0]) == ["a"]
    assert ids(table.choose(SOME, Asked(only="faults"), 120)[0]) == ["b"]
    assert ids(table.choose(SOME, Asked(only="pending"), 120)[0]) == ["a"]
    assert ids(table.choose(SOME, Asked(only="overdue"), 120)[0]) == []
    assert ids(table.choose(SOME, Asked(only="overdue"), 10_000)[0]) == ["a", "b"]


def test_a_page_that_is_not_there_any_more_is_the_last_one():
    many = [glance(f"d{n:03}") for n in range(ROWS + 3)]
    rows, count, asked = table.choose(many, Asked(page=99), 0)
    assert (len(rows), count, asked.page) == (3, ROWS + 3, 1)
    assert table.choose([], Asked(page=5), 0) == ([], 0, Asked(page=0))


def test_a_row_has_no_markup_of_a_device_s():
    evil = glance("e", agent=HOSTILE, program=HOSTILE, groups=(HOSTILE,), battery=1.0)
    html = table.html([evil], {"e": [1.0, 2.0]}, 0)
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", html))
    assert tags <= {"tr", "td", "a", "span", "time", "svg", "polyline", "circle", "b"}
    assert "onerror=&quot;" in html


def news(hub: Hub) -> bool:
    """What the hub does in a second."""
    hub.wait()
    return hub.look()


@pytest.fixture
def lived(where):
    with desk.lived(where, hours=6) as made:
        yield made


def test_devices_as_the_page_reads_them_on_both_databases(lived):
    found = {each.id: each for each in lived.fleet.glances()}
    assert set(found) == {*lived.names, EVIL}
    assert found["bed-01"].battery == pytest.approx(4.1 - 6 * 0.004)
    assert found["bed-01"].groups == ("garden",)
    assert found[EVIL].faults == 2
    assert found["bed-04"].pending == 1, "it never woke"
    views = {view.id: view for view in lived.fleet.status()}
    for name, each in found.items():
        assert each.pending == views[name].pending
        assert each.missed(lived.time.now + 9 * HOUR) == views[name].missed(lived.time.now + 9 * HOUR)
    curves = lived.fleet.batteries(["bed-01", "bed-03", "nobody"], points=4)
    assert curves["bed-01"] == pytest.approx([4.1 - 0.004 * n for n in (3, 4, 5, 6)])
    assert set(curves) == {"bed-01", "bed-03"}
    newest = lived.fleet.latest("bed-01", 10)
    assert [(each.do, each.status) for each in newest] == [("water", "cancelled"), ("water", "succeeded")]
    assert [status for _, status, _ in newest[1].events] == ["queued", "publishing", "succeeded"]


def test_news_are_seen_whatever_they_are_on_both_databases(lived, monkeypatch):
    hub = Hub(lived.fleet, Actions(lived.fleet, read_only=False))
    assert news(hub)
    asked: list[list[str]] = []
    read = overview._reports

    def counted(connection, ids, **more):
        asked.append(ids)
        return read(connection, ids, **more)

    monkeypatch.setattr(overview, "_reports", counted)
    marks = lived.fleet.mark("bed-01"), lived.fleet.mark("bed-02")
    for act in (
        lambda: lived.hour("bed-02", "bed-03", "bed-04", EVIL),
        lambda: lived.fleet.send("bed-01", "ping"),
        lambda: lived.fleet.cancel(lived.fleet.recent(1)[0]),
        lambda: lived.fleet.group("new", ["bed-03"]),
        lambda: lived.fleet.add("bed-09"),
    ):
        assert not news(hub)
        act()
        assert news(hub)
    hub.close()
    assert asked == [["bed-01"], [], [], [], ["bed-09"]], "only reports that are new are read again"
    assert hub.glances == lived.fleet.glances()
    assert lived.fleet.mark("bed-01") != marks[0]
    assert lived.fleet.mark("bed-02") == marks[1], "of a device that nothing has happened with"


@pytest.fixture
def small(sqlite_file):
    with Fleet(sqlite_file) as fleet:
        fleet.add("bed-01", "bed-02")
        fleet.group("garden", ["bed-01", "bed-02"])
        yield fleet


def test_a_page_that_is_read_only_changes_nothing(small):
    name = small.send("bed-01", "ping").name
    actions = Actions(small, read_only=True)
    for act in (
        lambda: actions.send(["bed-01"], "ping", [], None),
        lambda: actions.cancel(name),
        lambda: actions.cancel_update("x"),
        lambda: actions.set_group("garden", []),
        lambda: actions.change_rollout("x", "abort"),
    ):
        with pytest.raises(HostError, match="read-only"):
            act()
    assert small.ledger.counts() == {"queued": 1}
    assert small.groups() == {"garden": 2}


def test_a_ledger_that_cannot_be_read_is_said_and_read_again(small, monkeypatch):
    hub = Hub(small, Actions(small, read_only=False))
    assert news(hub)
    with monkeypatch.context() as patched:

        def broken():
            raise HostError("the ledger is busy: try again")

        patched.setattr(small, "mark", broken)
        small.add("bed-03")
        assert news(hub)
        assert hub.wrong == "the ledger is busy: try again"
        assert not news(hub)
    assert news(hub)
    assert hub.wrong is None
    hub.close()
