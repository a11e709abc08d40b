"""`dormouse broker run`: a broker for trying things out that keeps what sleepers are owed, and ends when told to."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dormouse_host import address
from dormouse_host.broker import local
from dormouse_host.broker.client import Publisher
from support.needs import need_mosquitto
from support.waiting import until

PROGRAM = Path(sys.executable).with_name("dormouse")


@contextlib.contextmanager
def running(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """The command, once it has said where it listens."""
    need_mosquitto()
    argv = [str(PROGRAM), "broker", "run", "--json", *words]
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdout
        try:
            said = child.stdout.readline()
            yield child, json.loads(said) if said else {}
        finally:
            child.kill()


def sub(port: int, *words: str) -> str:
    argv = ["mosquitto_sub", "-p", str(port), "-i", "sleeper", "-c", "-q", "1", "-t", "dormouse/dev/down/#", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout


def until_saved(file: Path, text: bytes) -> None:
    """The broker saves once a second."""
    until(lambda: file.exists() and text in file.read_bytes(), what=f"{text!r} was not saved")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_a_sleeper_is_owed_outlives_the_end_of_the_broker(tmp_path, number):
    """With mosquitto's stock settings a kill loses session and messages, though each was acknowledged."""
    port = local.free_port()
    with running(tmp_path, "--port", str(port)) as (child, said):
        assert said["urls"] == [f"mqtt://127.0.0.1:{port}"]
        sub(port, "-E")
        with Publisher(address.parse(said["urls"][0], {})) as publisher:
            publisher.publish("dormouse/dev/down/cmd", [b"one", b"two"])
        if number == signal.SIGKILL:
            until_saved(Path(said["folder"], "mosquitto.db"), b"two")
        child.send_signal(number)
        assert child.wait(30) == (0 if number != signal.SIGKILL else -number)
    with running(tmp_path, "--port", str(port)):
        assert sub(port, "-C", "2", "-W", "30").split() == ["one", "two"]


def test_only_with_lan_it_is_heard_beyond_this_machine(tmp_path):
    port = local.free_port()
    outside = [ip for ip in address.own_addresses() if not ip.startswith("127.")]
    if not outside:
        pytest.skip("this machine has no address but its own")
    with running(tmp_path, "--port", str(port)), pytest.raises(OSError, match="refused"):
        socket.create_connection((outside[0], port), 30)
    with running(tmp_path, "--port", str(port), "--lan") as (_, said):
        assert f"mqtt://{outside[0]}:{port}" in said["urls"]
        socket.create_connection((outside[0], port), 30).close()


def test_a_port_that_is_taken_is_said_and_nothing_is_started(tmp_path):
    with socket.create_server((local.HOST, 0)) as taken:
        with running(tmp_path, "--port", str(taken.getsockname()[1])) as (child, said):
            _, err = child.communicate(timeout=60)
        assert said == {}
        assert child.returncode == 1
        assert err == f"dormouse: port {taken.getsockname()[1]}: Address already in use; choose another --port\n"


def test_a_broker_that_dies_ends_the_command_with_its_last_words(tmp_path):
    port = local.free_port()
    with running(tmp_path, "--port", str(port)) as (child, said):
        (mosquitto,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        os.kill(int(mosquitto), signal.SIGKILL)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert err.startswith(f"dormouse: {said['broker']} ended: ")
