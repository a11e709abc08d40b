"""The broker's folder and devices' credentials, on a real mosquitto: who is let in and who no more."""

import json
import os
import pwd
import shlex
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.broker import access, credentials, setup
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.folder import BrokerFolder, handles, put_password, remove_password, users
from dormouse_host.broker_check.probe import Client, NoAnswer
from dormouse_host.errors import HostError
from support import made_broker
from support.another_user import NAME, does, needs_root, open_folder
from support.needs import need_mosquitto
from support.waiting import until

SECRET = ("ca.key", "broker.key", "passwd", "secrets.json", "key.der", "relay-main.env", "acl")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One broker of `broker init` for the whole file; each test has devices of its own."""
    made = made_broker.make(tmp_path_factory.mktemp("door") / "b")
    with made_broker.MadeBroker(made) as broker:
        yield broker


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dormouse_host.cli", *words]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DORMOUSE", "MQTT"))}
    return subprocess.run(
        argv, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def address(made: BrokerFolder, device: str, project: Path) -> BrokerAddress:
    """What the device's own files say."""
    said = json.loads((project / "devices" / device / "secrets.json").read_text())
    return BrokerAddress("127.0.0.1", made.ports[0], said["user"], said["password"], True, str(made.ca))


def lets_in(made: BrokerFolder, device: str, project: Path) -> bool:
    """Does the broker take the device's certificate, as its files have it?"""
    files = project / "devices" / device
    return made_broker.lets_in(made, (files / "cert.der").read_bytes(), (files / "key.der").read_bytes())


def test_secrets_are_their_owners_alone_and_the_ca_is_not_the_brokers(tmp_path):
    made = made_broker.make(tmp_path / "b")
    credentials.provision(made, "a", tmp_path)
    credentials.provision(made, "b", tmp_path, cert=True)
    found = [path for path in tmp_path.rglob("*") if path.name in SECRET]
    assert len(found) == len(SECRET) + 1  # two devices
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0 or path.name.endswith(".env"), path
    assert (tmp_path / "devices" / ".gitignore").read_text() == "*\n"
    assert made.broker not in [path.parent for path in tmp_path.rglob("ca.key")]


def test_no_password_stands_anywhere_but_where_its_owner_reads_it(tmp_path):
    made = made_broker.make(tmp_path / "b")
    credentials.provision(made, "a", tmp_path)
    relay = made.relay_file("main").read_text().partition("MQTT_PASSWORD=")[2].splitlines()[0]
    device = json.loads((tmp_path / "devices" / "a" / "secrets.json").read_text())["password"]
    places: dict[str, list[str]] = {relay: [], device: []}
    for path in tmp_path.rglob("*"):
        for secret, where in places.items():
            if path.is_file() and secret in path.read_text(errors="replace"):
                where.append(path.name)
    assert places == {relay: ["relay-main.env"], device: ["secrets.json"]}


@pytest.mark.parametrize("how", [{}, {"cert": True}, {"psk": True}])
def test_a_new_credential_leaves_the_key_of_signed_commands(tmp_path, how):
    """The ledger goes on signing with it: without it the device would take nothing any more, and say nothing of it."""
    made = made_broker.make(tmp_path / "b", psk_port=made_broker.free_port())
    credentials.provision(made, "a", tmp_path, **how)
    _, key = credentials.sign("a", tmp_path)
    credentials.revoke(made, "a")
    credentials.provision(made, "a", tmp_path, **how)
    assert json.loads((tmp_path / "devices" / "a" / "secrets.json").read_text())["command_key"] == key


@pytest.mark.parametrize(
    "names, why",
    [((), "--name"), (("a b",), "not a host name"), (("-" * 300,), "not a host name"), (("a\0",), "not a host name")],
)
def test_broker_needs_names_that_are_names(tmp_path, names, why):
    with pytest.raises(HostError, match=why) as caught:
        made_broker.make(tmp_path / "b", names)
    assert caught.value.code == 2
    assert not (tmp_path / "b").exists()


def test_certificates_begin_when_their_ca_does(tmp_path):
    """A board without a clock sets it to the CA's first day: what began later would cost it a second handshake."""
    authority = made_broker.make(tmp_path / "b").authority
    begun = x509.load_pem_x509_certificate(authority.pem).not_valid_before_utc
    assert authority.server(["x"]).certificate.not_valid_before_utc == begun
    assert authority.client("x").certificate.not_valid_before_utc == begun


def test_a_folder_that_is_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(HostError, match="not empty"):
        made_broker.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's mosquitto becomes another user")
def test_mosquitto_started_by_root_becomes_its_own_user(tmp_path_factory):
    """And reads what root has written, at the start and when it is told to read again."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="dormouse-door-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        pwd.getpwnam("mosquitto")
        made = setup.init(folder / "b", ["127.0.0.1"], port=made_broker.free_port(), cert_port=made_broker.free_port())
        broker = made_broker.MadeBroker(made)
        log = (folder / "log").open("wb")
        child = subprocess.Popen([need_mosquitto(), "-c", made.configuration], stdout=log, stderr=log)
        try:
            until(made.pid.read_bytes)
            done = credentials.provision(made, "late", folder)
            assert done.told
            assert Path(f"/proc/{child.pid}").stat().st_uid == pwd.getpwnam("mosquitto").pw_uid
            with Client(address(made, "late", folder), "late") as client:
                client.connect().close()
            with Publisher(broker.of_relay()) as publisher:
                assert publisher.publish("dormouse/late/down/cmd", [b"x"]) == 1
        finally:
            child.kill()
            child.wait()
            log.close()
            broker.close()
    finally:
        shutil.rmtree(folder)


def test_device_with_a_password_comes_in_and_is_who_it_is(running, tmp_path):
    made = running.made
    assert credentials.provision(made, "pump", tmp_path).told
    config = json.loads((tmp_path / "devices" / "pump" / "config.json").read_text())
    assert config == {"id": "pump", "broker": f"mqtts://127.0.0.1:{made.ports[0]}", "ca": "ca.der"}
    with Client(address(made, "pump", tmp_path), "somebody-else") as client:
        client.connect().subscribe("dormouse/pump/down/#")
        with Publisher(running.of_relay()) as relay:
            relay.publish("dormouse/pump/down/cmd", [b"for pump"])
        assert client.work(lambda: bool(client.came), 30)


def test_revoked_password_is_out_at_once_though_connected(running, tmp_path):
    made = running.made
    credentials.provision(made, "lost", tmp_path)
    credential = address(made, "lost", tmp_path)
    with Client(credential, "lost") as thief:
        thief.connect().subscribe("dormouse/lost/down/#")
        assert credentials.revoke(made, "lost")
        with Publisher(running.of_relay()) as relay:
            relay.publish("dormouse/lost/down/cmd", [b"secret"])
        thief.rest(1)
        assert thief.came == []
    with pytest.raises(NoAnswer, match="refused"), Client(credential, "lost") as again:
        again.connect()


def test_certificate_comes_in_and_a_revoked_one_does_not(running, tmp_path):
    made = running.made
    credentials.provision(made, "cert-a", tmp_path, cert=True)
    credentials.provision(made, "cert-b", tmp_path, cert=True)
    assert json.loads((tmp_path / "devices" / "cert-a" / "secrets.json").read_text()) == {}
    assert lets_in(made, "cert-a", tmp_path)
    credentials.revoke(made, "cert-a")
    assert not lets_in(made, "cert-a", tmp_path)
    assert lets_in(made, "cert-b", tmp_path)


def test_who_was_revoked_can_be_let_in_again_but_not_with_the_old_credential(running, tmp_path):
    made = running.made
    credentials.provision(made, "back", tmp_path)
    old = address(made, "back", tmp_path)
    credentials.revoke(made, "back")
    credentials.provision(made, "back", tmp_path)
    with pytest.raises(NoAnswer, match="refused"), Client(old, "back") as client:
        client.connect()
    with Client(address(made, "back", tmp_path), "back") as client:
        client.connect().subscribe("dormouse/back/down/#")
        with Publisher(running.of_relay()) as relay:
            relay.publish("dormouse/back/down/cmd", [b"x"])
        assert client.work(lambda: bool(client.came), 30)


def test_a_broker_that_was_started_by_a_relative_path_is_told(tmp_path):
    """As somebody types it in the project's folder."""
    made = made_broker.make(tmp_path / "broker")
    with subprocess.Popen([need_mosquitto(), "-c", "broker/mosquitto.conf"], cwd=tmp_path) as child:
        try:
            until(lambda: made.pid.is_file() and made.pid.read_text() == str(child.pid) and handles(child.pid))
            assert credentials.provision(made, "pump", tmp_path).told
        finally:
            child.terminate()


def test_a_credential_is_not_replaced_by_accident(running, tmp_path):
    credentials.provision(running.made, "once", tmp_path)
    before = (tmp_path / "devices" / "once" / "secrets.json").read_text()
    with pytest.raises(HostError, match="has a credential already"):
        credentials.provision(running.made, "once", tmp_path)
    assert (tmp_path / "devices" / "once" / "secrets.json").read_text() == before


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "+", "#", "", ".", "..", "x" * 300, "a\nuser b", "a:b", "dormouse-relay-x"]
)
def test_a_name_that_is_no_device_id_writes_nothing(tmp_path, name):
    made = made_broker.make(tmp_path / "b")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(HostError) as caught:
        credentials.provision(made, name, tmp_path / "project")
    assert caught.value.code == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_users_lines_are_left_as_they_are(tmp_path):
    path = tmp_path / "passwd"
    path.write_text("by-hand:$6$abc$def\n")
    put_password(path, "a", "one")
    put_password(path, "a", "two")
    assert users(path) == ["by-hand", "a"]
    assert path.read_text().startswith("by-hand:$6$abc$def\n")
    assert remove_password(path, "a")
    assert path.read_text() == "by-hand:$6$abc$def\n"


def test_commands_say_what_they_did_and_no_secret(tmp_path):
    folder = tmp_path / "b"
    user = ["--user", "root"] if os.geteuid() == 0 else []
    done = run("broker", "init", "b", "--name", "broker.local", "--name", "192.168.1.10", *user, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"start it:   mosquitto -c {folder}/mosquitto.conf\n" in done.stdout
    served = x509.load_pem_x509_certificate((folder / "broker" / "broker.crt").read_bytes())
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["broker.local", "192.168.1.10"]
    let_in = run("provision", "greenhouse", "--folder", "b", folder=tmp_path)
    assert (let_in.returncode, let_in.stdout) == (
        0,
        "greenhouse: ca.der, config.json, secrets.json in devices/greenhouse\n",
    )
    assert "no broker runs here" in let_in.stderr, "nothing runs that could be told"
    locked_out = run("revoke", "greenhouse", folder=tmp_path, DORMOUSE_BROKER_FOLDER="b")
    assert locked_out.returncode == 0, locked_out.stderr
    wrong = run("revoke", "greenhouse", "--folder", "b", folder=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "dormouse: greenhouse has no credential here\n")
    secret = json.loads((tmp_path / "devices" / "greenhouse" / "secrets.json").read_text())["password"]
    assert secret not in done.stdout + done.stderr + let_in.stdout + let_in.stderr + locked_out.stdout


@needs_root
@pytest.mark.parametrize(
    "modes, owners, groups, why",
    [
        ((0o755, 0o755), (0, 0), [], ""),
        ((0o700, 0o755), (0, 0), [], "can't enter {0}: use another folder, or chmod o+x {0}"),
        ((0o755, 0o750), (0, 0), [], "can't enter {1}: use another folder, or chmod o+x {1}"),
        ((0o700, 0o700), (0, 0), [], "can't enter {0}: use another folder, or chmod o+x {0}; chmod o+x {1}"),
        ((0o700, 0o710), (None, 0), [0], ""),
        ((0o755, 0o701), (0, 0), [0], "can't enter {1}: use another folder, or chmod g+x {1}"),
        ((0o755, 0o611), (0, None), [0], "can't enter {1}: use another folder, or chmod u+x {1}"),
    ],
)
def test_a_folder_that_the_brokers_user_cannot_enter_is_told_of(monkeypatch, modes, owners, groups, why):
    """As the kernel decides it for that user: mosquitto ends at once where it can't write its process id there."""
    user = pwd.getpwnam(NAME)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, group: [group, *groups])
    with open_folder() as folder:
        made = setup.init(folder / "far" / "b", ["127.0.0.1"], user=NAME, port=9, cert_port=10)
        places = (folder / "far", made.path)
        for path, mode, owner in zip(places, modes, owners, strict=True):
            os.chown(path, user.pw_uid if owner is None else owner, -1)
            path.chmod(mode)
        said = setup.shut_out(made)
        assert said == (why and f"mosquitto becomes user {NAME}, who " + why.format(*places))
        if not groups:
            assert does(partial(os.stat, made.broker)) == (not said)


@needs_root
def test_init_below_a_private_folder_warns_and_says_what_to_do():
    with open_folder() as folder:
        folder.chmod(0o700)
        done = run("broker", "init", "b", "--name", "broker.local", "--user", NAME, "--json", folder=folder)
        chmod = f"use another folder, or chmod o+x {folder}"
        assert done.stderr == f"dormouse: mosquitto becomes user {NAME}, who can't enter {folder}: {chmod}\n"
        assert (done.returncode, json.loads(done.stdout)["names"]) == (0, ["broker.local"])


def test_every_command_of_the_door_says_the_same_as_json(tmp_path):
    user = ["--user", "root"] if os.geteuid() == 0 else []
    told = []
    for words in (
        ["broker", "init", "b", "--name", "broker.local", *user],
        ["provision", "greenhouse", "--folder", "b"],
        ["revoke", "greenhouse", "--folder", "b"],
    ):
        done = run(*words, "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0]["url"] == "mqtts://broker.local:8883"
    assert told[1]["files"] == ["ca.der", "config.json", "secrets.json"]
    assert told[2] == {"device": "greenhouse", "broker_told": False}
    assert "password" not in json.dumps(told)


@pytest.mark.parametrize(
    "name",
    [
        "fe80::1%$(touch PWNED)",
        "fe80::1%`touch PWNED`",
        "fe80::1%a;touch PWNED",
        "fe80::1%a\ntouch PWNED",
        "fe80::1%" + "a" * 16,
        "fe80::1%",
        "10.0.0.1%eth0",
        "$(touch PWNED).example",
        "＄（touch）.example",  # what IDNA makes of it is $(touch)
        "a'b.example",
        "a..b",
        "a." * 127 + "aa",
        "10.0.0.300",
        "[broker.example]",
        "",
    ],
)
def test_what_is_neither_a_name_nor_an_address_makes_no_broker(tmp_path, name):
    with pytest.raises(HostError, match="not a host name or address") as caught:
        made_broker.make(tmp_path / "b", (name,))
    assert caught.value.code == 2
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "name, host, url",
    [
        ("bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("fe80::1%eth0.7", "fe80::1%eth0.7", "[fe80::1%eth0.7]"),
        ("[FD00:0::7]", "fd00::7", "[fd00::7]"),
        ("under_score.local", "under_score.local", "under_score.local"),
        ("192.168.1.10", "192.168.1.10", "192.168.1.10"),
    ],
)
def test_names_are_written_as_clients_read_them(tmp_path, name, host, url):
    made = made_broker.make(tmp_path / "b", (name, "localhost"))
    assert made.names == [host, "localhost"]
    assert made.url() == f"mqtts://{url}:{made.ports[0]}"
    said = access.read_environment(made.relay_file("main").read_text())
    assert parse(said["DORMOUSE_BROKER"], said).host == host
    served = x509.load_pem_x509_certificate((made.broker / "broker.crt").read_bytes())
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in names] == [host.partition("%")[0], "localhost"]


@pytest.mark.parametrize("folder", ["plain", "$(touch${IFS}PWNED)", "a'b;touch${IFS}PWNED", '"`touch${IFS}PWNED`"'])
def test_a_shell_that_reads_a_relays_file_runs_nothing_of_it(tmp_path, folder):
    made = made_broker.make(tmp_path / folder, ("fe80::1%eth0", "bücher.example"))
    path = tmp_path / "relay.env"
    path.write_bytes(made.relay_file("main").read_bytes())
    for shell in ("sh", "bash"):
        argv = [shell, "-c", 'set -a; . "$1"; set +a; exec env -0', "x", path]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
        got = dict(word.split("=", 1) for word in done.stdout.split("\0") if "=" in word)
        assert {key: got[key] for key in ("DORMOUSE_BROKER", "DORMOUSE_CA")} == {
            "DORMOUSE_BROKER": made.url(user="dormouse-relay-main"),
            "DORMOUSE_CA": str(made.ca),
        }
    assert shlex.split(made.command) == ["mosquitto", "-c", str(made.configuration)]
    assert list(tmp_path.rglob("PWNED")) == []
