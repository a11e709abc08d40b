"""A broker's folder under several hands, or half made: nobody who was revoked comes in again, nobody is forgotten.

Must stay true: the hands are processes or threads that take the lock as two commands do.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dormouse_host import Fleet, files
from dormouse_host.broker import credentials, folder, setup
from dormouse_host.errors import HostError
from dormouse_host.rotation import rotate
from support import made_broker


def denied(made, device: str) -> bool:
    return f"\nuser {device}\ntopic deny" in (made.broker / "acl").read_text()


@pytest.mark.parametrize("cert", [False, True])
def test_commands_at_once_lose_neither_a_revocation_nor_a_credential(tmp_path, cert):
    made = made_broker.make(tmp_path / "b")
    first, second = ([f"{name}{n}" for n in range(8)] for name in ("a", "b"))
    with ThreadPoolExecutor(8) as hands:
        list(hands.map(lambda device: credentials.provision(made, device, tmp_path, cert=cert), first))
        assert {device for device in first if credentials.has_credential(made, device)} == set(first)
        out = [hands.submit(credentials.revoke, made, device) for device in first]
        back = [hands.submit(credentials.provision, made, device, tmp_path, cert=cert) for device in second]
        assert [each.result() for each in out] == [False] * 8, "no broker runs"
        assert [each.result().told for each in back] == [False] * 8
    assert [device for device in first if credentials.has_credential(made, device) or not denied(made, device)] == []
    assert [device for device in second if not credentials.has_credential(made, device) or denied(made, device)] == []


def test_one_device_is_provisioned_once_however_many_ask(tmp_path):
    made = made_broker.make(tmp_path / "b")

    def ask(_):
        try:
            credentials.provision(made, "pump", tmp_path)
        except HostError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as hands:
        said = sorted(hands.map(ask, range(4)))
    assert said[0] == ""
    assert ["has a credential already" in why for why in said[1:]] == [True] * 3


def test_a_process_that_was_killed_holds_the_folder_no_longer(tmp_path, monkeypatch):
    made = made_broker.make(tmp_path / "b")
    program = "import pathlib, sys, time; from dormouse_host import files\n"
    program += "with files.alone(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    monkeypatch.setattr(files, "_PATIENCE", 0.3)
    with subprocess.Popen([sys.executable, "-c", program, made.path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        with pytest.raises(HostError, match="is locked by another process"):
            credentials.provision(made, "pump", tmp_path)
        holder.kill()
        holder.wait()
    credentials.provision(made, "pump", tmp_path)
    assert folder.users(made.passwd) == ["dormouse-relay-main", "pump"]


def test_told_is_a_broker_that_has_read_its_files_and_no_other(tmp_path, monkeypatch):
    """One that is stopped takes the signal and reads nothing: a guessed pause would call it told."""
    made = made_broker.make(tmp_path / "b")
    with made_broker.MadeBroker(made) as broker:
        assert made.reload()
        assert broker.pid
        with monkeypatch.context() as patch:
            patch.setattr(folder, "_WITHIN", 1.0)
            patch.setattr(folder, "_ONE_TRY", 0.5)
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                assert not credentials.provision(made, "pump", tmp_path).told
            finally:
                os.kill(broker.pid, signal.SIGCONT)
        assert credentials.revoke(made, "pump")
    assert not credentials.provision(made, "pump", tmp_path).told
    assert folder.users(made.passwd) == ["dormouse-relay-main", "pump"], "the question leaves nothing behind"


# ---- a folder that can't be made


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"root": "#/x y"}, "root:"),
        ({"root": "a\nuser b"}, "root:"),
        ({"relay": "a b"}, "relay's name"),
        ({"user": "no-such-user"}, "no user no-such-user on this machine: name the one that mosquitto is to become"),
    ],
)
def test_what_cannot_be_made_leaves_no_folder(tmp_path, monkeypatch, wrong, why):
    """The first step of docs/brokers.md, as root and without mosquitto; then the same again with it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HostError, match=why) as caught:
        setup.init(tmp_path / "b", ["127.0.0.1"], **{"user": "root", **wrong})
    assert caught.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_init_that_fails_in_the_middle_can_be_called_again(tmp_path, monkeypatch):
    write = files.write

    def full(path: Path, *rest) -> None:
        if path.name == "mosquitto.conf":
            raise HostError("cannot write: No space left on device", 2)
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(HostError, match="No space"):
            made_broker.make(tmp_path / "b")
    assert made_broker.make(tmp_path / "b").root == "dormouse"


def test_a_file_is_no_folder_for_a_broker(tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(HostError, match="not a folder"):
        made_broker.make(tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', '{"a": ["x"]}', "[" * 100_000])
def test_damaged_list_of_certificates_is_one_line(tmp_path, text):
    made = made_broker.make(tmp_path / "b")
    (made.path / "ca" / "issued.json").write_text(text)
    with pytest.raises(HostError, match=r"issued\.json is damaged"):
        credentials.provision(made, "pump", tmp_path, cert=True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', '{"password": 3}', '{"cert": "AA==", "key": "AA=="}'])
@pytest.mark.parametrize("cert", [False, True])
def test_damaged_rotation_is_one_line_and_changes_nothing(tmp_path, cert, text):
    made = made_broker.make(tmp_path / "b")
    credentials.provision(made, "pump", tmp_path, cert=cert)
    path = credentials.rotation(made, "pump")
    path.parent.mkdir()
    path.write_text(text)
    before = made.passwd.read_text()
    with Fleet(str(tmp_path / "l.db")) as fleet, pytest.raises(HostError, match=r"pump\.json is damaged"):
        rotate(made, fleet, "pump", tmp_path, 0.0)
    assert (path.read_text(), made.passwd.read_text()) == (text, before)


def test_a_broker_that_is_not_ready_for_the_signal_does_not_get_it(tmp_path, monkeypatch):
    """mosquitto 2.0 writes its id down a moment before it handles SIGHUP, which would end it."""
    made = made_broker.make(tmp_path / "b")
    (made.broker / "mosquitto.pid").unlink(missing_ok=True)
    wait = "import signal, sys, time; print(flush=True); time.sleep(1)"
    code = f"{wait}; signal.signal(1, lambda *_: sys.exit(7)); time.sleep(60)"
    monkeypatch.setattr(folder, "_WITHIN", 5)
    with subprocess.Popen([sys.executable, "-c", code, str(made.configuration)], stdout=subprocess.PIPE) as slow:
        assert slow.stdout
        slow.stdout.readline()  # it is up, and in a second it handles the signal
        (made.broker / "mosquitto.pid").write_text(str(slow.pid))
        assert not made.reload(), "it serves nobody"
        assert slow.wait(60) == 7
