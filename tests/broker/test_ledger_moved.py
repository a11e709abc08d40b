"""A ledger that moves to another machine or database: with all it has, once, and nothing becomes unknown."""

import stat
import threading
import time
from pathlib import Path

import pytest
import typer.testing
from sqlalchemy import insert, select

from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.ledger import desk_schema, rows, schema, transfer
from dormouse_host.release import Release
from proofs.scale.prune import fill
from support.relays import Running, greet, make_device, say, statuses, until, until_sent, wake

ONE = {"BLOB": b"\0\xff", "TEXT": "{}", "INTEGER": 7, "BIGINT": 7, "DOUBLE": 1.5, "BOOLEAN": True}  # of each type


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request, tmp_path):
    """Where it moves to."""
    if request.param == "sqlite":
        yield str(tmp_path / "other.db")
    else:
        with request.getfixturevalue("postgresql_server").fresh() as url:
            yield url


def contents(fleet: Fleet) -> dict[str, list[tuple]]:
    with fleet.ledger.database.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in schema.metadata.sorted_tables
            if table not in (schema.moved, schema.relays, desk_schema.desk)
        }


def run(*words: str) -> str:
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def test_everything_goes_with_it_and_numbers_go_on(where, other, tmp_path):
    with Fleet(where) as fleet:
        fill(fleet.ledger, 1500)
        fleet.add("new", "signed")
        fleet.ledger.set_key("signed", "ab" * 32)
        fleet.group("north", ["new"])
        fleet.send_many(["new", "signed"], "say", {"text": "Café 📶\n\u2028"})
        of_bytes = Release({"app.py": b"", "table.bin": bytes(range(256)) * 9000})  # more than is read at once
        fleet.add("updated")
        fleet.update(["updated"], of_bytes)
        fleet.rollout(["signed"], [1], releases={"signed": of_bytes})
        before = contents(fleet)
        with fleet.ledger.database.writing() as connection:
            for table in schema.metadata.sorted_tables:
                if table.name in before and not before[table.name]:  # a row of any kind must go with it
                    connection.execute(insert(table).values({c.name: ONE[str(c.type)] for c in table.columns}))
        before = contents(fleet)
        assert all(before.values())
        before = {table: sorted(found, key=repr) for table, found in before.items()}
    file = tmp_path / "moved.jsonl"
    assert "1503 commands" in run("ledger", "export", str(file), "--db", where)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "1503 commands" in run("ledger", "import", str(file), "--db", other)
    with Fleet(other) as fleet:
        assert {table: sorted(found, key=repr) for table, found in contents(fleet).items()} == before
        highest = max(row[0] for row in before["commands"])
        name = fleet.send("new", "ping").name
        with fleet.ledger.database.reading() as connection:
            (row,) = rows.load(connection, rows.commands.name == name)
        assert (row.key, row.number) == (highest + 1, 2)
        assert fleet.ledger.counts().get("unknown", 0) == 0


def test_a_fleet_at_work_moves_and_nothing_becomes_unknown(where, other, tmp_path, mosquitto):
    """With a real relay and device: commands that are queued, at the broker, and done without the ledger's knowing."""
    device = make_device(tmp_path, mosquitto, "cpython")
    with Fleet(where) as fleet:
        fleet.add("dev")
        with Running(where, mosquitto, "main"):
            greet(fleet, device)
            done = say(fleet, "one")
            until_sent(fleet, done)
            wake(fleet, device)
            sent = say(fleet, "two", "three")
            until_sent(fleet, sent)
        device.wake()  # its results wait at the broker for the relay that is gone
        queued = say(fleet, "four")
        fleet.export_ledger(tmp_path / "moved.jsonl")
    with Fleet(other) as moved:
        assert moved.import_ledger(tmp_path / "moved.jsonl")["commands"] >= 4
        with Running(other, mosquitto, "main"):
            until(lambda: statuses(moved, sent) == ["succeeded"] * 2)
            until_sent(moved, queued)
            ran = wake(moved, device)
            until(lambda: statuses(moved, done + sent + queued) == ["succeeded"] * 4)
        assert ran == ["four"], "and nothing was done twice"
        assert "unknown" not in moved.ledger.counts()
        assert moved.ledger.name("dev") == _name(where)


def _name(where: str) -> str | None:
    with Fleet(where) as fleet:
        return fleet.ledger.name("dev")


def test_of_the_two_only_one_takes_commands(where, other, tmp_path, mosquitto):
    with Fleet(where) as fleet:
        fleet.add("dev")
        name = fleet.send("dev", "ping").name
        fleet.export_ledger(tmp_path / "moved.jsonl")
        why = rf"was moved to {tmp_path / 'moved.jsonl'}: use it there, or dormouse ledger reopen if nobody"
        for change in (
            lambda: fleet.send("dev", "ping"),
            lambda: fleet.cancel(name),
            lambda: fleet.add("new"),
            lambda: fleet.relay(mosquitto.address, "main").run(),
        ):
            with pytest.raises(HostError, match=why) as caught:
                change()
            assert caught.value.code == 2
        assert fleet.result(name).status == "queued", "it is read as before"
        assert fleet.moved() == str(tmp_path / "moved.jsonl")
        with pytest.raises(HostError, match="was moved to .* already"):
            fleet.export_ledger(tmp_path / "again.jsonl")
        assert not (tmp_path / "again.jsonl").exists()
        shown = typer.testing.CliRunner().invoke(app.app, ["status", "--db", where]).stderr
        assert f"moved to {tmp_path / 'moved.jsonl'}" in shown.replace("\n", "")
        assert "dormouse relay" not in shown
        assert run("ledger", "reopen", "--db", where) == "it takes commands again\n"
        assert fleet.moved() is None
        fleet.send("dev", "ping")
        assert run("ledger", "reopen", "--db", where) == "it was not exported\n"


def test_a_command_is_in_the_file_or_refused_whoever_sends_it_meanwhile(where, other, tmp_path, monkeypatch):
    """From a process that has had the ledger open since before."""
    write, began = transfer._write, threading.Event()

    def slowly(*how):
        began.set()
        time.sleep(1)
        return write(*how)

    monkeypatch.setattr(transfer, "_write", slowly)
    sent: list[str] = []
    refused: list[str] = []
    with Fleet(where) as fleet, Fleet(where) as sender:
        fleet.add("dev")

        def send() -> None:
            while not refused:
                try:
                    sent.append(sender.send("dev", "ping").name)
                except HostError as error:
                    refused.append(str(error))

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        until(lambda: len(sent) > 3)
        fleet.export_ledger(tmp_path / "moved.jsonl")
        thread.join(40)
    assert began.is_set()
    assert "was moved to" in refused[0]
    with Fleet(other) as moved:
        moved.import_ledger(tmp_path / "moved.jsonl")
        assert moved.ledger.counts() == {"queued": len(sent)}


def test_a_ledger_with_a_relay_stays(where, tmp_path, mosquitto):
    with Fleet(where) as fleet:
        fleet.add("dev")
        with (
            Running(where, mosquitto, "main"),
            pytest.raises(HostError, match="relay main is alive: stop it first"),
        ):
            fleet.export_ledger(tmp_path / "moved.jsonl")
        assert not (tmp_path / "moved.jsonl").exists()
        fleet.send("dev", "ping")


def test_what_is_there_is_not_written_over(where, other, tmp_path):
    with Fleet(where) as fleet, Fleet(other) as full:
        fleet.add("dev")
        full.add("other")
        (tmp_path / "mine").write_text("precious")
        with pytest.raises(HostError, match="exists already"):
            fleet.export_ledger(tmp_path / "mine")
        assert (tmp_path / "mine").read_text() == "precious"
        fleet.export_ledger(tmp_path / "moved.jsonl")
        with pytest.raises(HostError, match="is not empty: give a new one with --db"):
            full.import_ledger(tmp_path / "moved.jsonl")
        assert full.members() == ["other"]


def test_a_file_that_is_cut_off_or_changed_is_not_read(where, other, tmp_path):
    with Fleet(where) as fleet:
        fleet.add("dev")
        fleet.send("dev", "ping")
        fleet.export_ledger(tmp_path / "moved.jsonl")
    whole = (tmp_path / "moved.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    bad = [b"".join(lines[:n]) for n in range(len(lines))]
    bad += [whole[: len(whole) * n // 40] for n in range(1, 40)]
    bad += [whole.replace(b"ping", b"pong"), whole.replace(b'"dev"', b'"dew"', 1), b"[" * 100_000, b"\xff\n", b"5\n"]
    bad += [b"".join(lines[: n + 1] + lines[n:]) for n in range(len(lines))]
    bad.append(whole.replace(schema.HEAD.encode(), b"9999"))
    with Fleet(other) as fleet:
        for data in bad:
            (tmp_path / "bad").write_bytes(data)
            with pytest.raises(HostError, match="bad") as caught:
                fleet.import_ledger(tmp_path / "bad")
            assert caught.value.code == 2
            assert "\n" not in str(caught.value)
            assert fleet.members() == []
        with pytest.raises(HostError, match="No such file"):
            fleet.import_ledger(Path("/nowhere"))
        fleet.import_ledger(tmp_path / "moved.jsonl")
        assert fleet.members() == ["dev"]
