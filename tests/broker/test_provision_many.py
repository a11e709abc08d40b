"""Many devices at once: named, listed or numbered; their credentials, the ledger, and one word to the broker."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing

from dormouse_host import Fleet, names
from dormouse_host.broker import credentials, folder
from dormouse_host.broker_check.probe import Client
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from support import made_broker


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A project with the folder of a broker, as its owner stands in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("DORMOUSE_DB", "DORMOUSE_BROKER", "DORMOUSE_ROOT", "DORMOUSE_BROKER_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dormouse.toml").write_text("")
    return made_broker.make(tmp_path / "broker")


def run(*words: str) -> str:
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def refused(*words: str) -> str:
    with pytest.raises(HostError) as caught:
        run(*words)
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def devices() -> list[str]:
    """Those that the broker takes with a password."""
    return folder.users(Path("broker/broker/passwd"))[1:]


def test_fifty_devices_are_let_in_and_known_after_one_command_and_one_reload(made, tmp_path, monkeypatch):
    told: list[bool] = []
    reload = folder.BrokerFolder.reload

    def counted(self: folder.BrokerFolder) -> bool:
        told.append(reload(self))
        return told[-1]

    monkeypatch.setattr(folder.BrokerFolder, "reload", counted)
    with made_broker.MadeBroker(made):
        assert run("provision", "field", "--count", "50", "--group", "north") == (
            "50 devices: their files are in devices\n"
        )
        assert told == [True]
        wanted = [f"field-{n:02}" for n in range(1, 51)]
        assert devices() == wanted
        for name in (wanted[0], wanted[-1]):
            said = json.loads((tmp_path / "devices" / name / "secrets.json").read_text())
            address = made_broker.BrokerAddress("127.0.0.1", made.ports[0], name, said["password"], True, str(made.ca))
            with Client(address, name) as client:
                client.connect().close()
    with Fleet("ledger.db") as fleet:
        assert fleet.members() == fleet.members("north") == wanted


def test_a_table_of_a_spreadsheet_names_the_devices(made, tmp_path):
    (tmp_path / "field.csv").write_bytes(
        "﻿place;device;note\r\nnorth;pump-a;\r\n\r\nsouth;pump-b;x\r\nx;pump-a;\r\n".encode()
    )
    lines = list(map(json.loads, run("provision", "--from", "field.csv", "--cert", "--json").splitlines()))
    assert [line["device"] for line in lines] == ["pump-a", "pump-b"]
    assert lines[0]["files"] == ["ca.der", "cert.der", "config.json", "key.der", "secrets.json"]
    assert sorted(credentials._issued(made)) == ["pump-a", "pump-b"]
    assert run("devices", "add", "--from", "field.csv") == "0 added\n"


@pytest.mark.parametrize(
    "content, why",
    [
        (b"a\nb c\nd\n", r"list.txt, line 2: id: 1 to 64"),
        (b"place,device\nnorth\n", r"list.txt, line 2: id: 1 to 64"),
        (b"device\n../x\n", r"list.txt, line 2: id: 1 to 64"),
        (b"\n# nothing\n", "no devices in it"),
        (b"device\n", "no devices in it"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'a\n"' + b"x" * 200_000, "line"),
    ],
)
def test_a_list_with_what_is_no_device_is_refused_before_anything_is_written(made, tmp_path, content, why):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(HostError, match=why):
        run("provision", "--from", "list.txt")
    assert devices() == []
    assert not (tmp_path / "devices").exists()


def test_all_or_none_unless_those_that_have_one_are_to_be_passed_over(made, tmp_path):
    run("provision", "b")
    before = (tmp_path / "devices" / "b" / "secrets.json").read_bytes()
    why = refused("provision", "a", "b", "c")
    assert why.startswith(
        "b has a credential already: first dormouse revoke b, or pass over such devices with --missing"
    )
    assert devices() == ["b"]
    assert run("provision", "a", "b", "c", "--missing") == "2 devices: their files are in devices; 1 had a credential\n"
    assert devices() == ["b", "a", "c"]
    assert (tmp_path / "devices" / "b" / "secrets.json").read_bytes() == before
    assert run("provision", "a", "b", "--missing").startswith("0 devices")


def test_a_call_that_was_killed_is_repeated_with_the_same_names(made, tmp_path, monkeypatch):
    """The broker's file takes the passwords last: before, nobody has a credential without its files."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(credentials, "put_passwords", killed)
        with pytest.raises(KeyboardInterrupt):
            credentials.provision_all(made, ["a", "b"], tmp_path)
    assert devices() == []
    credentials.provision_all(made, ["a", "b"], tmp_path)
    assert devices() == ["a", "b"]


@pytest.mark.parametrize(
    "words, why",
    [
        (["provision"], "expected DEVICE..., --from FILE, or DEVICE --count N"),
        (["provision", "a", "b", "--count", "2"], "--count takes one DEVICE"),
        (["provision", "--from", "nowhere.csv"], "nowhere.csv: No such file"),
        (["provision", "--from", "places.csv"], "places.csv, line 1: several columns, and none is called `device`"),
        (["provision", "a", "--group", "a b"], "group id"),
        (["devices", "add"], "expected DEVICE"),
    ],
)
def test_a_call_that_names_no_devices_is_refused(made, words, why):
    Path("places.csv").write_text("name,place\nfield-53,north\n")
    assert why in refused(*words)
    assert devices() == []


def test_names_of_one_length():
    assert names.numbered("a-", 2) == ["a-01", "a-02"]
    assert names.numbered("a", 2, 99) == ["a-099", "a-100"]


def test_a_revoked_device_is_shown_as_such_until_it_is_provisioned_again(made):
    run("provision", "a")
    run("revoke", "a")
    assert "revoked" in run("status")
    run("provision", "a")
    assert "revoked" not in run("status")


# ---- the project's ledger, and its secrets


def test_a_group_needs_the_ledger_that_the_project_names(made, tmp_path):
    """As `dormouse init` writes it: the path was typed, so that no ledger is made there by the way."""
    (tmp_path / "dormouse.toml").write_text('db = "ledger.db"\n')
    with pytest.raises(HostError) as caught:
        run("provision", "pump", "--group", "north")
    said = "no ledger at ledger.db: dormouse relay makes one, or dormouse devices add DEVICE"
    assert (str(caught.value), caught.value.code) == (said, 1)
    assert devices() == []
    run("devices", "add", "pump")
    run("provision", "pump", "--group", "north")
    assert run("devices", "group", "north").split() == ["pump"]


def test_a_project_has_a_ledger_of_its_own(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    run("devices", "add", "a")
    assert (tmp_path / "ledger.db").exists()
    assert not (tmp_path / "user").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run("devices", "add", "b")
    assert (tmp_path / "user" / "dormouse" / "ledger.db").exists()
    monkeypatch.setenv("DORMOUSE_DB", "mine.db")
    monkeypatch.chdir(tmp_path)
    run("devices", "add", "c")
    with Fleet("mine.db") as fleet:
        assert fleet.members() == ["c"]


def test_nothing_that_is_secret_can_be_taken_by_git(made, tmp_path):
    """Not even where the owner never wrote a .gitignore."""
    run("provision", "a")
    run("provision", "b", "--cert")
    subprocess.run(["git", "init", "--quiet", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    argv = ["git", "ls-files"]
    found = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in found if not name.startswith("ledger.db")] == ["dormouse.toml"]


@pytest.mark.parametrize("how", [[], ["--cert"]], ids=["password", "certificate"])
def test_a_device_of_this_machine_takes_its_files_from_where_provision_put_them(made, tmp_path, how):
    (tmp_path / "app.py").write_text("")
    argv = [sys.executable, "-m", "dormouse_host.cli", "agent", "run", "app.py", "--device", "a", "--state", "state"]
    with made_broker.MadeBroker(made):
        run("provision", "a", *how)
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dormouse" in done.stdout
    assert " connected " in done.stdout
