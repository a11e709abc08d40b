"""AsyncFleet is Fleet, awaited: the same calls, and an event loop that goes on meanwhile."""

import asyncio
import contextlib
import inspect
import threading
import time
from typing import Any

import pytest
from sqlalchemy import QueuePool

from dormouse_host import AsyncFleet, Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger import schema
from dormouse_host.release import Release
from support.relays import WITHIN, make_device, until


def arguments(call) -> list[tuple]:
    """Name, kind, type and default of each; of a default that is a function, that it is one."""
    found = inspect.signature(call).parameters.values()
    return [(p.name, p.kind, p.annotation, "..." if inspect.isfunction(p.default) else p.default) for p in found]


def calls(kind: type) -> dict[str, list[tuple]]:
    public = inspect.getmembers(kind, inspect.isfunction)
    return {name: arguments(call) for name, call in public if not name.startswith("_") and name != "close"}


def test_every_call_of_fleet_is_there_with_the_same_arguments():
    """A new call of Fleet's that nobody added here, or another default, fails this."""
    assert calls(AsyncFleet) == calls(Fleet)
    assert arguments(AsyncFleet.__init__) == arguments(Fleet.__init__)


def test_many_calls_at_once_leave_nothing_out(where):
    """More calls than threads, in one ledger: each order has a number of its own."""

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("dev")
            sent = await asyncio.gather(*(fleet.send("dev", "ping") for _ in range(30)))
            views = await fleet.results([one.name for one in sent])
            assert len({view.name for view in views}) == 30
            assert [view.pending for view in await fleet.status()] == [30]
            assert (await fleet.cancel(sent[0].name)).status == "cancelled"
            told: list[int] = []
            await fleet.send_many(["dev"] * 3, "ping", on_progress=told.append)
            await asyncio.sleep(0)
            assert told == [1, 2, 3]

    asyncio.run(work())


def test_the_loop_goes_on_while_a_command_is_waited_for_and_a_cancelled_wait_ends(where):
    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            sent = await fleet.send("dev", "ping", create=True)
            seen: list[tuple[str, int]] = []
            waiting = asyncio.create_task(
                fleet.wait(sent.name, None, lambda view: seen.append((view.status, threading.get_ident())))
            )
            turns, until = 0, time.monotonic() + WITHIN
            while (turns < 50 or not seen) and time.monotonic() < until:
                await asyncio.sleep(0.01)
                turns += 1
            assert turns >= 50
            assert seen == [("queued", threading.get_ident())]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await fleet.wait(sent.name, 0)).status == "queued"
            (view,) = await fleet.wait_all([sent.name], 0)
            assert not view.final

    asyncio.run(work())


def test_errors_are_those_of_fleet(tmp_path, where):
    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            with pytest.raises(HostError, match="device nobody is not known"):
                await fleet.send("nobody", "ping")
        with pytest.raises(RuntimeError):
            await fleet.members()
        with pytest.raises(HostError, match="no ledger at"):
            async with AsyncFleet(str(tmp_path / "none.db"), make=False):
                pass

    asyncio.run(work())


def test_a_relay_and_a_device_the_whole_way(tmp_path, where, mosquitto):
    """The relay runs until its task is cancelled, and ends in order: its name is free again."""
    device = make_device(tmp_path, mosquitto, "cpython")

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("dev")
            sent = await fleet.send("dev", "say", {"text": "a"})
            relay = asyncio.create_task(fleet.relay(mosquitto.address, "async"))
            while not await fleet.relays():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(device.wake)
            while (await fleet.result(sent.name)).status == "queued":
                await asyncio.sleep(0.05)
            await asyncio.to_thread(device.wake)
            view = await fleet.wait(sent.name, WITHIN)
            assert (view.status, view.value) == ("succeeded", {"said": "a"})
            assert [row["wake"] async for row in fleet.export("wakes")] == [1, 2]
            relay.cancel()
            with pytest.raises(asyncio.CancelledError):
                await relay
            assert await fleet.relays() == []

    asyncio.run(work())
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("dormouse-fleet")])


WAKES = 2500  # more than a thread fetches at once


def store_wakes(fleet: AsyncFleet) -> None:
    """So many of one device."""
    with fleet.fleet.ledger.database.writing() as connection:
        wakes = [
            {"device": "dev", "state": "s1", "wake": wake, "seq": wake, "at": wake, "report": f'{{"wake":{wake}}}'}
            for wake in range(1, WAKES + 1)
        ]
        connection.execute(schema.reports.insert(), wakes)


async def let_go(fleet: AsyncFleet) -> bool:
    """Has every connection to the database been given back, after a moment at most?"""
    pool = fleet.fleet.ledger.database.engine.pool
    assert isinstance(pool, QueuePool)
    deadline = time.monotonic() + WITHIN
    while pool.checkedout() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return pool.checkedout() == 0


def test_an_export_that_is_left_early_lets_the_ledger_go(where):
    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            store_wakes(fleet)
            async for row in fleet.export("wakes"):
                assert row["wake"] == 1
                break
            assert await let_go(fleet)
            assert len([row async for row in fleet.export("wakes")]) == WAKES

    asyncio.run(work())


def test_devices_one_after_the_other_that_are_left_early_let_the_ledger_go(where):
    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("a", "b", "c")
            async for view in fleet.each_status():
                assert view.id == "a"
                break
            assert await let_go(fleet)
            assert [view async for view in fleet.each_status()] == await fleet.status()
            with pytest.raises(HostError, match="no group nosuch"):
                await anext(fleet.each_status("nosuch"))

    asyncio.run(work())


def test_an_export_that_is_cancelled_while_a_thread_fetches_ends_after_it(where, monkeypatch):
    """Cancelled twice, as by who is impatient; the thread is in the middle of a row."""
    fetching, go_on = threading.Event(), threading.Event()

    def slowly(rows):
        with contextlib.closing(rows):
            for row in rows:
                fetching.set()
                assert go_on.wait(WITHIN)
                yield row

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            store_wakes(fleet)
            export = fleet.fleet.export
            monkeypatch.setattr(fleet.fleet, "export", lambda *which, **of: slowly(export(*which, **of)))
            reading = asyncio.ensure_future(anext(fleet.export("wakes")))
            await asyncio.to_thread(fetching.wait, WITHIN)
            for _ in range(2):
                reading.cancel()
                await asyncio.sleep(0.05)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert await let_go(fleet)

    asyncio.run(work())


def test_names_may_come_from_anything_that_gives_them(where):
    """A generator was used up by the first look: no command was waited for, and a group lost its devices."""

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("a", "b")
            await fleet.group("both", (name for name in ("a", "b")))
            assert await fleet.members("both") == ["a", "b"]
            names = [one.name for one in await fleet.send_many((name for name in ("a", "b")), "ping")]
            assert [view.name for view in await fleet.results(iter(names))] == names
            assert [view.name for view in await fleet.wait_all(iter(names), 0.3)] == names
            assert [view.name for view in fleet.fleet.results(iter(names))] == names
            assert [view.name for view in fleet.fleet.wait_all(iter(names), 0.3)] == names
            updates = await fleet.update(iter(["a", "b"]), Release({"app.py": b"x = 1\n"}))
            assert [view.name for view in await fleet.wait_updates(iter(updates), 0.3)] == updates
            assert [view.name for view in fleet.fleet.wait_updates(iter(updates), 0.3)] == updates

    asyncio.run(work())


def test_a_path_is_a_text_or_a_path(tmp_path):
    """A test's `tmp_path` ended in a TypeError, and the name of a backup in an AttributeError."""
    with Fleet(tmp_path / "ledger.db") as fleet:
        fleet.add("dev")
        fleet.backup(str(tmp_path / "copy.db"))
        fleet.export_ledger(str(tmp_path / "moved"))

    async def work() -> None:
        async with AsyncFleet(tmp_path / "copy.db") as fleet:
            assert await fleet.members() == ["dev"]
        async with AsyncFleet(tmp_path / "new.db") as fleet:
            await fleet.import_ledger(str(tmp_path / "moved"))
            assert await fleet.members() == ["dev"]

    asyncio.run(work())


def test_it_is_opened_again_and_once_at_a_time(tmp_path):
    """The second `async with` said that its threads had been shut down."""

    async def work() -> None:
        fleet = AsyncFleet(tmp_path / "ledger.db")
        for new in (1, 0):
            async with fleet:
                assert await fleet.add("dev") == new
                with pytest.raises(RuntimeError, match="open already"):
                    await fleet.__aenter__()
            with pytest.raises(RuntimeError, match="inside `async with` only"):
                await fleet.status()

    asyncio.run(work())


def test_an_opening_that_fails_leaves_no_thread(tmp_path):
    async def work() -> None:
        fleet = AsyncFleet(tmp_path / "nowhere" / "ledger.db")
        with pytest.raises(HostError, match="there is no folder"):
            await fleet.__aenter__()
        await asyncio.to_thread(until, lambda: not any("dormouse-fleet" in each.name for each in threading.enumerate()))

    asyncio.run(work())


def test_an_opening_that_is_cancelled_leaves_no_ledger_open(tmp_path, monkeypatch):
    closed = []

    def slow(*_: Any, **__: Any) -> Fleet:
        time.sleep(0.3)
        return Fleet(tmp_path / "ledger.db")

    async def work() -> None:
        fleet = AsyncFleet(tmp_path / "ledger.db")
        monkeypatch.setattr(fleet, "_open", slow)
        monkeypatch.setattr(Fleet, "close", lambda self: closed.append(self.ledger.close()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fleet.__aenter__(), 0.05)
        assert closed == [None]

    asyncio.run(work())


def test_a_text_is_no_list_of_its_letters(where):
    with Fleet(where) as fleet:
        fleet.add("a", "b")
        calls = (fleet.results, fleet.wait_all, fleet.wait_updates)
        for call in (*calls, lambda names: fleet.send_many(names, "ping"), lambda names: fleet.group("g", names)):
            with pytest.raises(HostError, match=r"ab: expected a list of names, \['ab'\] for one"):
                call("ab")
        assert fleet.recent() == []


def test_what_was_sent_alone_is_no_batch(where):
    """None is the batch of each of them: cancelling that cancelled all that was ever sent alone."""

    async def work() -> None:
        async with AsyncFleet(where) as fleet:
            await fleet.add("a", "b")
            batch: Any = (await fleet.send("a", "ping")).batch
            await fleet.send("b", "ping")
            for call in (fleet.batch, fleet.cancel_batch):
                with pytest.raises(HostError, match="what was sent alone is in no batch"):
                    await call(batch)
            assert [view.pending for view in await fleet.status()] == [1, 1]

    asyncio.run(work())
