"""Fleet.on: each event once, whatever commits first, whoever restarts, on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import json
import threading
import time

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import insert, text

from dormouse_host import AsyncFleet, Fleet
from dormouse_host.errors import HostError
from dormouse_host.fleet import KINDS, START
from dormouse_host.ledger import events, schema, watch
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.events import CommandEvent, Event, ResultEvent, TelemetryEvent, WakeEvent
from dormouse_host.ledger.store import Incoming, Ledger
from support.reports import NOW, Clock, answer, records, report


def name_of(event: Event) -> str:
    assert isinstance(event, CommandEvent)
    return event.name


@pytest.fixture
def fleet(where):
    with Fleet(where, clock=Clock()) as opened:
        opened.add("dev")
        yield opened


def said(fleet: Fleet, *messages: Incoming) -> None:
    assert fleet.ledger.take(messages, "c") == []


def life(fleet: Fleet) -> str:
    """A wake with telemetry, a command and its answer. Returns the command's name."""
    said(fleet, report(1), records(1, 2))
    name = fleet.send("dev", "ping").name
    (sent,) = fleet.ledger.claim("r", "c", 10)
    said(fleet, answer(sent, value={"ms": 5}))
    return name


def test_a_life_is_told_in_its_order_and_each_event_once(fleet):
    with fleet.on(timeout=0) as following:
        assert list(following) == []
        name = life(fleet)
        found = list(following)
        assert list(following) == []
    assert [each.kind for each in found] == [
        "command",
        "wake",
        "telemetry",
        "telemetry",
        "command",
        "command",
        "result",
    ]
    wake, first = found[1], found[2]
    assert isinstance(wake, WakeEvent)
    assert (wake.device, wake.at, wake.state, wake.wake, wake.report["next"]) == ("dev", NOW, "s1", 1, 900)
    assert isinstance(first, TelemetryEvent)
    assert (first.number, first.time, first.values) == (1, NOW, {"v": 1})
    commands = [each for each in found if isinstance(each, CommandEvent)]
    assert [(each.name, each.status, each.final) for each in commands] == [
        (name, "queued", False),
        (name, "publishing", False),
        (name, "succeeded", True),
    ]
    result = found[-1]
    assert isinstance(result, ResultEvent)
    assert (result.command, result.do, result.status, result.value) == (name, "ping", "succeeded", {"ms": 5})


def test_a_repetition_is_no_event(fleet):
    life(fleet)
    with fleet.on(timeout=0) as following:
        said(fleet, report(1), records(1, 2))
        assert list(following) == []
        said(fleet, records(2, 3))
        assert [each.number for each in following] == [3]


def test_any_cursor_goes_on_behind_its_event_after_a_restart(where):
    with Fleet(where, clock=Clock()) as fleet:
        fleet.add("dev")
        life(fleet)
        whole = list(fleet.on(after=START, timeout=0))
        assert len(whole) == 7
    for n, each in enumerate(whole):
        with Fleet(where) as again, again.on(after=each.cursor, timeout=0) as following:
            assert list(following) == whole[n + 1 :]
            place = following.cursor
        with Fleet(where) as again:
            assert list(again.on(after=place, timeout=0)) == []


def test_filters(fleet):
    fleet.add("other")
    fleet.group("field", ["other"])
    with (
        fleet.on("telemetry", "wake", timeout=0) as some,
        fleet.on(device="other", timeout=0) as one,
        fleet.on(group="field", timeout=0) as group,
    ):
        life(fleet)
        name = fleet.send("other", "ping").name
        assert [each.kind for each in some] == ["wake", "telemetry", "telemetry"]
        assert [(each.kind, each.name) for each in one] == [("command", name)]
        assert [(each.kind, each.name) for each in group] == [("command", name)]
        fleet.group("field", ["dev"])
        fleet.send("other", "ping")
        assert list(group) == [], "a group is what it is when an event is read"


@pytest.mark.parametrize(
    "cursor", ["", "1", "2.0.0.0.0.0.0", "1.0.0.0.0.0.x", "1.0.0.0.0.0.-1", "1.0.0.0.0.0.٣", "9" * 99]
)
def test_what_is_wrong_is_one_line(sqlite_file, cursor):
    with Fleet(sqlite_file) as fleet:
        for wrong, match in (
            (lambda: fleet.on(after=cursor), "malformed cursor"),
            (lambda: fleet.on("wakes"), f"no events called wakes: there are {', '.join(KINDS)}"),
            (lambda: fleet.on(device="nobody"), "nobody is not known"),
            (lambda: fleet.on(group="nobody"), "no group nobody"),
        ):
            with pytest.raises(HostError, match=match) as caught:
                wrong()
            assert caught.value.code == 2


def test_many_are_read_in_pieces_and_in_the_order_of_time(fleet, monkeypatch):
    """Of each table only so many are in memory; what a table has later than that waits for the others."""
    monkeypatch.setattr(events, "ROWS", 7)
    clock = fleet.clock
    for wake in range(1, 31):
        clock.now = NOW + wake
        said(fleet, report(wake), records(3 * wake, 3 * wake + 1, 3 * wake + 2))
    found = list(fleet.on(after=START, timeout=0))
    assert [each.number for each in found if isinstance(each, TelemetryEvent)] == list(range(3, 93))
    assert [each.wake for each in found if isinstance(each, WakeEvent)] == list(range(1, 31))
    assert [each.at for each in found] == sorted(each.at for each in found)
    for each in found[::9]:
        assert list(fleet.on(after=each.cursor, timeout=0)) == found[found.index(each) + 1 :]


def test_whoever_waits_is_told(fleet, where, monkeypatch):
    """On PostgreSQL by the database: nobody asks it here. SQLite is asked once a second. Then `timeout` counts anew."""
    if "://" in where:
        monkeypatch.setattr(watch, "EVERY", 60.0)
    following = fleet.on("command", timeout=30)

    def send() -> None:
        time.sleep(1.2)
        with Fleet(where) as other:
            other.send("dev", "ping")

    sender = threading.Thread(target=send)
    began = time.monotonic()
    sender.start()
    assert next(following).status == "queued"
    assert time.monotonic() - began < 20, "it came only when the time was up"
    sender.join()
    following.close()
    began = time.monotonic()
    assert list(fleet.on("command", timeout=0.3)) == []
    assert 0.3 <= time.monotonic() - began < 20


def test_a_quiet_ledger_is_looked_at_once_a_second(fleet):
    """Counted, not timed: of SQLite nothing is read but its number."""
    statements: list[str] = []
    engine = fleet.ledger.database.engine
    following = fleet.on(timeout=2.5)
    hooks.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    assert list(following) == []
    looks = [said for said in statements if "max(" in said]
    assert len(looks) <= (4 if "://" in str(engine.url) else 1), statements


def test_after_a_prune_of_everything_the_next_event_is_still_told(where):
    """SQLite would give the keys again that it has deleted."""
    clock = Clock()
    with Fleet(where, clock=clock) as fleet:
        fleet.add("dev")
        life(fleet)
        fleet.remove("dev", None)
        following = fleet.on(timeout=0)
        clock.now += 1e6
        assert fleet.prune(clock.now - 1)["telemetry"] == 1
        fleet.add("dev")
        said(fleet, report(1, "s9"), records(1, state="s9"))
        fleet.send("dev", "ping")
        assert [each.kind for each in following] == ["command", "wake", "telemetry"]


def test_a_cursor_of_a_ledger_that_was_put_back_goes_on_from_where_that_is(fleet, backup, where):
    where_copied = backup()
    life(fleet)
    (*_, last) = fleet.on(after=START, timeout=0)
    with Fleet(where_copied) as copy, copy.on(after=last.cursor, timeout=0) as following:
        copy.send("dev", "ping")
        assert [each.kind for each in following] == ["command"]


def test_what_commits_late_below_a_higher_key_is_not_lost(fleet, where):
    """The first transaction has its keys when the second commits. On SQLite there is no second one."""
    if "://" not in where:
        pytest.skip("SQLite has one writer at a time")
    new = {"device": "dev", "at": NOW, "status": "succeeded", "id": None}
    with Ledger(where) as one, Ledger(where) as two, fleet.on("result", timeout=0) as following:
        with one.database.writing() as first:
            first.execute(insert(schema.results).values(digest="first", why="first", **new))
            with two.database.writing() as second:
                second.execute(insert(schema.results).values(digest="second", why="second", **new))
            early = [each.why for each in following]
            begun_meanwhile = threading.Thread(target=lambda: began.append(fleet.on("result", timeout=0)))
            began: list = []
            begun_meanwhile.start()
            time.sleep(0.3)
            assert not began, "a beginning waits for what is under way"
        begun_meanwhile.join()
        assert early + [each.why for each in following] == ["first", "second"]
        assert list(began[0]) == []
        with contextlib.suppress(ZeroDivisionError), one.database.writing() as first:
            first.execute(insert(schema.results).values(digest="third", why="third", **new))
            with two.database.writing() as second:
                second.execute(insert(schema.results).values(digest="fourth", why="fourth", **new))
            assert list(following) == []
            raise ZeroDivisionError
        assert [each.why for each in following] == ["fourth"], "what is rolled back holds nothing up"


def what(event: Event) -> str:
    """All of it but its cursor: what stands between two events depends on when they are read."""
    return str(event).partition("device=")[2]


def _write(where: str, relay: str, devices: list[str], times: int) -> None:
    with Ledger(where) as mine:
        for number in range(1, times + 1):
            batch = {"state": "s1", "records": [[3 * number + n, 0, {"v": number}] for n in range(3)]}
            wake = {"state": "s1", "wake": number, "next": 60}
            mine.take([Incoming(device, "up/wake", json.dumps(wake).encode()) for device in devices], relay)
            mine.take([Incoming(device, "up/telemetry", json.dumps(batch).encode()) for device in devices], relay)
            mine.enter([Order(device, "ping") for device in devices])
            mine.claim(relay, relay, 100)


def test_two_relays_that_write_at_once_lose_and_double_nothing(fleet, where):
    """One that follows, and one that starts anew from its cursor again and again."""
    names = [[f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)]]
    fleet.add(*names[0], *names[1])
    times = 12 if "://" in where else 4
    following = fleet.on(timeout=3)
    place = following.cursor
    found: list = []
    reader = threading.Thread(target=lambda: found.extend(following))
    writers = [threading.Thread(target=_write, args=(where, f"r{n}", names[n], times)) for n in range(2)]
    for thread in (reader, *writers):
        thread.start()
    again: list = []
    while any(writer.is_alive() for writer in writers):
        with Fleet(where) as anew, anew.on(after=place, timeout=0) as some:
            again += [each for _, each in zip(range(40), some, strict=False)]
            place = some.cursor
    again += fleet.on(after=place, timeout=0)
    for thread in (reader, *writers):
        thread.join()
    whole = list(fleet.on(after=START, timeout=0))
    with fleet.ledger.database.reading() as connection:
        tables = ("commands", "command_events", "telemetry", "reports", "results")
        count = sum(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() or 0 for table in tables)
    assert len(whole) == count >= times * 10 * 3
    assert sorted(map(what, found)) == sorted(map(what, whole)) == sorted(map(what, again))


def test_it_goes_on_after_the_server_was_away(where, fleet):
    if "://" not in where:
        pytest.skip("SQLite has no server")
    following = fleet.on("command", timeout=0)
    assert list(following) == []
    fleet.send("dev", "ping")
    with Ledger(where) as other, other.database.writing() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                                " AND datname = current_database()"))  # fmt: skip
    with pytest.raises(HostError) as caught:
        next(following)
    assert "\n" not in str(caught.value)
    assert next(following).status == "queued"
    following.close()


def test_without_a_listener_nobody_is_told(where, fleet):
    """A NOTIFY makes commits wait for one another, so there is none unless somebody listens."""
    if "://" not in where:
        pytest.skip("SQLite tells nobody")
    import psycopg

    with psycopg.connect(where, autocommit=True) as other:
        other.execute("LISTEN dormouse_ledger")
        fleet.send("dev", "ping")
        assert list(other.notifies(timeout=0.5)) == []
        with fleet.on(timeout=0) as following:
            list(following)
            fleet.send("dev", "ping")
            assert len(list(other.notifies(timeout=5, stop_after=1))) == 1


def test_asyncio(where):
    """No thread waits, and the loop goes on; a cancelled wait loses nothing."""

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("dev")
            async with fleet.on("command", timeout=20) as following:
                first = asyncio.create_task(anext(following))
                await asyncio.sleep(0.4)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                names = [(await fleet.send("dev", "ping")).name for _ in range(3)]
                assert [name_of(await anext(following)) for _ in names] == names
                place = following.cursor
                waiting = [fleet.on("command", timeout=20) for _ in range(8)]  # more than there are threads
                tasks = [asyncio.create_task(anext(each)) for each in waiting]
                await asyncio.sleep(0.5)
                last = (await fleet.send("dev", "ping")).name
                assert [name_of(each) for each in await asyncio.gather(*tasks)] == [last] * 8
                for each in waiting:
                    await each.close()
            assert [name_of(each) async for each in fleet.on("command", after=place, timeout=0)] == [last]

    asyncio.run(work())


def test_a_cursor_goes_with_the_ledger_when_it_moves(fleet, tmp_path, where, postgresql_url):
    """To the other kind of database, where the next keys are above those that came."""
    life(fleet)
    (*_, last) = fleet.on(after=START, timeout=0)
    fleet.export_ledger(tmp_path / "moved.jsonl")
    other = str(tmp_path / "other.db") if "://" in where else postgresql_url
    with Fleet(other, clock=Clock()) as there:
        there.import_ledger(tmp_path / "moved.jsonl")
        with there.on(after=last.cursor, timeout=0) as following:
            assert list(following) == []
            said(there, report(2), records(3))
            there.send("dev", "ping")
            assert [each.kind for each in following] == ["command", "wake", "telemetry"]
