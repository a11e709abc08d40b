"""Services of this machine: systemd judges the units, and what they would start is started as they say."""

import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer.testing
import yaml  # type: ignore[import-untyped]

from dormouse_host import Fleet
from dormouse_host.broker import access, services
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from support import made_broker
from support.device_folder import APP
from support.needs import need_mosquitto
from support.waiting import until


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose path has what is special in a unit, and the broker's folder."""
    for name in ("DORMOUSE_DB", "DORMOUSE_BROKER", "DORMOUSE_ROOT", "DORMOUSE_BROKER_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a 100% $HOME \"pot\" 'x'"
    folder.mkdir()
    (folder / "dormouse.toml").write_text("")
    (folder / "app.py").write_text(APP)
    monkeypatch.chdir(folder)
    made = made_broker.make(tmp_path / "broker")
    monkeypatch.setenv("DORMOUSE_BROKER_FOLDER", str(made.path))
    need_mosquitto()
    return made


def run(*words: str) -> str:
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def read(path: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read(path)
    return unit


def environment(path: Path) -> dict[str, str]:
    """Each `EnvironmentFile=` of a unit: a key that a parser of INI files would keep once."""
    found: dict[str, str] = {}
    for name in re.findall(r"^EnvironmentFile=(.*)$", path.read_text(), re.MULTILINE):
        found |= access.read_environment(Path(name.replace("%%", "%")).read_text())
    return found


@contextmanager
def started(path: Path, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit starts, as it says: its words, folder and environment."""
    service = read(path)["Service"]
    said = service["ExecStart"].replace("%S", str(state)).replace("%%", "%").replace("$$", "$")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DORMOUSE", "MQTT"))}
    folder = service.get("WorkingDirectory", "/").replace("%%", "%")
    with subprocess.Popen(shlex.split(said), cwd=folder, env={**kept, **environment(path)}) as child:
        try:
            yield child
        finally:
            child.terminate()
            assert child.wait(40) in (0, -15)


@pytest.mark.parametrize("how", [[], ["--user"]], ids=["system", "user"])
def test_systemd_takes_the_units_as_they_are(project, tmp_path, how):
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    access.add_relay(project, "second")
    run("provision", "here")
    told = run("service", "systemd", str(tmp_path / "units"), "--device", "here", *how)
    units = sorted((tmp_path / "units").glob("*.service"))
    assert [unit.name for unit in units] == [
        "dormouse-broker.service",
        "dormouse-device-here.service",
        "dormouse-relay-main.service",
        "dormouse-relay-second.service",
    ]
    assert "systemctl" in told
    argv = ["systemd-analyze", "verify", "--man=no", *(["--user"] if how else []), *units]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "dormouse" in line]
    assert ours == []


def test_a_unit_that_systemd_does_not_take_is_found(tmp_path):
    """The test above can fail."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    (tmp_path / "dormouse-x.service").write_text("[Service]\nExecStart=relative\nRestart=perhaps\n")
    argv = ["systemd-analyze", "verify", "--man=no", tmp_path / "dormouse-x.service"]
    assert "dormouse-x.service" in subprocess.run(argv, capture_output=True, text=True, check=False).stderr


def test_broker_relay_and_device_start_as_their_units_say(project, tmp_path):
    """The device's credential is taken from where `provision` put it; a second process of the owner sends."""
    run("provision", "here")
    run("service", "systemd", str(tmp_path / "units"), "--device", "here")
    unit = {path.stem: path for path in (tmp_path / "units").iterdir()}
    with (
        started(unit["dormouse-broker"], tmp_path),
        Fleet("ledger.db") as fleet,
        started(unit["dormouse-relay-main"], tmp_path),
    ):
        until(lambda: any(relay.alive for relay in fleet.relays()))
        assert run("relay", "check", "main") == "main alive\n"
        with started(unit["dormouse-device-here"], tmp_path):
            until(lambda: fleet.status("here")[0].seen)
    assert list((tmp_path / "dormouse" / "here").iterdir())
    result = typer.testing.CliRunner().invoke(app.app, ["relay", "check", "main"])
    assert (result.exit_code, result.stdout) == (1, "main unknown\n"), "it has ended in order"


@pytest.mark.parametrize(("number", "user"), [(65534, "nobody"), (54321, "54321"), (0, None)])
def test_the_broker_runs_as_the_user_whose_folder_it_is(project, tmp_path, number, user):
    """As root, mosquitto becomes the user `mosquitto`, who may not read what another one has made."""
    if os.geteuid():
        pytest.skip("only root can give a folder to somebody else")
    os.chown(project.path, number, -1)
    run("service", "systemd", str(tmp_path / "units"))
    assert read(tmp_path / "units" / "dormouse-broker.service")["Service"].get("User") == user
    run("service", "systemd", str(tmp_path / "own"), "--user")
    assert "User" not in read(tmp_path / "own" / "dormouse-broker.service")["Service"]


def test_no_secret_is_in_what_everybody_may_read(project, tmp_path):
    run("service", "systemd", str(tmp_path / "units"), "--db", "postgresql://ann:hunter22@db/ledger")
    run("service", "compose", str(tmp_path / "compose"), "--postgresql")
    password = access.read_environment((project.path / "postgresql.env").read_text())["POSTGRES_PASSWORD"]
    relay = access.read_environment(project.relay_file("main").read_text())["MQTT_PASSWORD"]
    for path in [*(tmp_path / "units").iterdir(), *(tmp_path / "compose").iterdir()]:
        assert not [secret for secret in ("hunter22", password, relay) if secret in path.read_text()], path
    for name in ("ledger.env", "postgresql.env"):
        assert stat.S_IMODE((project.path / name).stat().st_mode) == 0o600
    assert (project.path / ".gitignore").read_text() == "*\n"
    assert password in access.read_environment((project.path / "ledger.env").read_text())["DORMOUSE_DB"]
    run("service", "compose", str(tmp_path / "compose"), "--postgresql")
    assert password in (project.path / "postgresql.env").read_text(), "it is made once"


@pytest.mark.parametrize("postgresql", [False, True])
def test_the_compose_file_is_yaml_with_a_health_check_for_each_service(project, tmp_path, postgresql):
    wheel = tmp_path / "dormouse_mqtt-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    run("service", "compose", str(tmp_path / "c"), "--wheel", str(wheel), *(["--postgresql"] if postgresql else []))
    whole = yaml.safe_load((tmp_path / "c" / "compose.yaml").read_text())
    assert sorted(whole["services"]) == ["broker", *(["postgresql"] if postgresql else []), "relay-main"]
    assert set(whole) == {"services", *(["volumes"] if postgresql else [])}, "docker-compose 1 takes no `name`"
    assert not postgresql or whole["volumes"] == {"ledger": {"name": "dormouse_ledger"}}, (
        "whatever its folder is called"
    )
    assert all(one["healthcheck"]["test"][0] == "CMD" for one in whole["services"].values())
    relay = whole["services"]["relay-main"]
    assert relay["command"] == ["dormouse", "relay", "--name", "main"]
    for name in relay["env_file"]:
        assert Path(name).is_file()
    folder = str(Path.cwd()).replace("$", "$$")  # compose(5): $$ is a $
    assert (f"{folder}:{folder}" in relay["volumes"]) is not postgresql
    assert relay["depends_on"]["broker"] == {"condition": "service_healthy"}
    dockerfile = (tmp_path / "c" / "Dockerfile").read_text()
    assert f"COPY {wheel.name} /tmp/" in dockerfile
    assert (tmp_path / "c" / wheel.name).read_bytes() == b"wheel"


@pytest.mark.parametrize(
    "words, why",
    [
        (["systemd", "u", "--relay", "nobody"], "relay nobody has no credential: dormouse broker add-relay nobody"),
        (["systemd", "u", "--device", "../x"], "id:"),
        (["systemd", "u", "--device", "pump"], "pump has no credential in .*/devices: dormouse provision pump"),
        (["systemd", "u", "--device", "here", "--app", "nope.py"], "nope.py: no such program: give --app"),
        (["systemd", "u", "--folder", "/nowhere"], "is not a broker's folder"),
        (["compose", "u", "--postgresql", "--db", "x.db"], "not both"),
    ],
)
def test_what_cannot_be_a_service_is_refused_and_nothing_is_written(project, words, why):
    run("provision", "here")
    with pytest.raises(HostError, match=why) as caught:
        run("service", *words)
    assert caught.value.code == 2
    assert not Path("u").exists()


def test_nothing_in_a_path_becomes_a_setting(project):
    with pytest.raises(HostError, match="control characters"):
        services._path(Path("a\nUser=root"))
    assert services._words(["/a b", "$x", "100%", 'q"']) == '"/a b" $$x 100%% "q\\""'
