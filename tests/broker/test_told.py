"""What is said of a broker that was not told, or must not be asked so: a stale id of its process, a relay's login."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.testing

from dormouse_host import Fleet
from dormouse_host.address import BrokerAddress
from dormouse_host.broker import access
from dormouse_host.broker.client import Publisher
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from support import made_broker
from support.relays import Running, until


class Of(NamedTuple):
    """A broker as one client sees it."""

    address: BrokerAddress


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a ledger, and a broker that runs from its folder."""
    for name in ("DORMOUSE_DB", "DORMOUSE_BROKER", "MQTT_USERNAME", "MQTT_PASSWORD", "DORMOUSE_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dormouse.toml").write_text("")
    Fleet("ledger.db").close()
    with made_broker.MadeBroker(made_broker.make(tmp_path / "broker")) as broker:
        yield broker


def run(*words: str):
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_a_broker_whose_process_id_a_second_start_has_overwritten_is_told_all_the_same(project):
    run("provision", "a")
    login = access.as_device(project.of_relay(), Path(), "a")
    with Publisher(login):
        pass
    second = subprocess.Popen(["mosquitto", "-c", str(project.made.configuration)], stderr=subprocess.DEVNULL)
    assert second.wait(30) != 0, "the port is taken"
    said = project.made.pid.read_text() if project.made.pid.exists() else ""
    assert said in ("", str(second.pid)), "the file is not the first one's any more"
    told = run("revoke", "a")
    assert (told.stdout, told.stderr) == ("a: credential revoked\n", "")
    with pytest.raises(HostError, match="refused"):
        Publisher(login).start()


def test_a_broker_that_goes_by_its_old_files_makes_a_change_fail(project, monkeypatch):
    run("provision", "a")
    monkeypatch.setattr("dormouse_host.broker.folder.BrokerFolder.reload", lambda made: False)
    for words in (("revoke", "a"), ("provision", "b"), ("broker", "add-relay", "second")):
        with pytest.raises(HostError, match=r"process (\d+).*goes by the old ones: kill -HUP \1") as caught:
            run(*words)
        assert caught.value.code == 1


def test_where_no_broker_runs_there_is_nobody_to_signal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = made_broker.make(tmp_path / "broker")
    told = run("provision", "a")
    assert f"no broker runs here from {made.path}: it reads this when it starts" in told.stderr


def test_a_device_is_removed_with_its_own_login_and_the_relay_goes_on(project, monkeypatch):
    """The broker takes the user's name for the client id: as the relay one would end the relay's session."""
    run("provision", "--count", "2", "a")
    relay = project.of_relay()
    for name, value in (("MQTT_USERNAME", relay.user), ("MQTT_PASSWORD", relay.password), ("DORMOUSE_CA", relay.ca)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DORMOUSE_BROKER", relay.url)
    first, second = sorted(path.name for path in Path("devices").iterdir() if path.is_dir())
    with Running("ledger.db", Of(relay), "main") as running, Fleet("ledger.db") as fleet:
        with Publisher(access.as_device(relay, Path(), first), first) as device:
            device.publish(f"dormouse/{first}/up/wake", [b'{"wake":1,"state":"s1","next":900}'], retain=True)
        until(lambda: fleet.status(first)[0].seen)
        assert run("devices", "remove", first).stdout == f"{first} removed\n"
        Path("devices", second, "secrets.json").unlink()
        with pytest.raises(HostError, match="dormouse-relay-main is a relay's login, whose session would end"):
            run("devices", "remove", second)
        fleet.send(fleet.members()[0], "ping")
        assert fleet.members() == [second]
        run("devices", "remove", second, "--offline")
        assert "disconnected" not in running.events
