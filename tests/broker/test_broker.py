"""The brokers that we start: they accept when `start` returns, keep what they should, and never outlive us."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse_host.broker import local
from dormouse_host.broker.client import Publisher
from dormouse_host.broker.local import Embedded, Mosquitto
from dormouse_host.errors import HostError
from support.needs import need_mosquitto
from support.waiting import until


def stock(*settings: str) -> Mosquitto:
    return Mosquitto(need_mosquitto(), settings)


def wake(address, expected=0, *, topic="to/sleeper"):
    """One connection of client `sleeper` with a persistent session: session_present and all that comes."""
    came: list[paho.MQTTMessage] = []
    state: dict[str, bool] = {}
    done = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, "sleeper", clean_session=False, protocol=paho.MQTTv311)

    def on_connect(client, _data, flags, reason, _more):
        assert not reason.is_failure
        state["present"] = flags.session_present
        client.subscribe(topic, 1)

    def on_subscribe(*_):
        if len(came) >= expected:
            done.set()

    def on_message(_client, _data, message):
        came.append(message)
        if len(came) >= expected:
            done.set()

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect(address.host, address.port)
    client.loop_start()
    assert done.wait(30)
    time.sleep(0.2)  # for what should not come
    connection = client.socket()
    assert isinstance(connection, socket.socket)
    with connection.dup() as held:  # until the broker closes it: then it has read DISCONNECT
        held.settimeout(30)
        client.disconnect()
        client.loop_stop()
        while held.recv(4096):
            pass
    return state["present"], came


@pytest.mark.parametrize("make", [stock, Embedded])
def test_messages_for_a_sleeper_are_kept_in_order_and_come_unretained(make):
    """amqtt's own code sets RETAIN on queued messages, and a device refuses a retained command without an id."""
    texts = [b"%d" % n for n in range(50)]
    with make() as broker:
        assert wake(broker.address) == (False, [])
        with Publisher(broker.address) as publisher:
            publisher.publish("to/sleeper", texts)
        present, came = wake(broker.address, len(texts))
    assert present
    assert [message.payload for message in came] == texts
    assert not any(message.retain for message in came)


@pytest.mark.parametrize("make", [stock, Embedded])
def test_stopped_broker_is_gone_with_its_folder(make):
    with make() as broker:
        address, folder = broker.address, broker.folder
        assert folder.is_dir()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port), timeout=1)
    assert not folder.exists()


def test_mosquitto_keeps_port_and_sessions_over_stop_and_start():
    """Persistence is on: without it a restart would forget every sleeping device."""
    with stock() as broker:
        address = broker.address
        wake(address)
        with Publisher(address) as publisher:
            publisher.publish("to/sleeper", [b"kept"])
        broker.stop()
        broker.start()
        assert broker.address == address
        present, came = wake(address, 1)
    assert present
    assert [message.payload for message in came] == [b"kept"]


def test_mosquitto_has_stock_limits_unless_told_otherwise():
    with stock("max_queued_messages 7") as broker:
        wake(broker.address)
        with Publisher(broker.address) as publisher:
            assert publisher.publish("to/sleeper", [b"x"] * 20) == 20
        assert len(wake(broker.address, 7)[1]) == 7


def test_broker_that_cannot_start_says_why_and_leaves_nothing():
    broker = stock("no_such_setting 1")
    with pytest.raises(HostError, match=r"did not start: .*no_such_setting") as caught, broker:
        pass
    assert "\n" not in str(caught.value)
    assert not broker.folder.exists()


def test_free_ports_are_all_different_and_none_that_the_system_gives_away():
    """Between the asking and the listening somebody else may ask, or the system give it to a connection.

    The three children look in the same place, as processes do whose ids are far enough apart.
    """
    ask = (
        "import os; os.getpid = lambda: 7\n"
        "from dormouse_host.broker.local import free_port\n"
        "print(*(free_port() for _ in range(50)), flush=True)\n"
        "input()"
    )
    argv = [sys.executable, "-c", ask]
    with contextlib.ExitStack() as living:
        children = [
            living.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        ports = [int(port) for child in children if child.stdout for port in child.stdout.readline().split()]
        for child in children:
            child.communicate("\n", timeout=60)
    assert len(set(ports)) == len(ports) == 150
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < port < lowest for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert local.free_port() != ports[0]


def test_no_free_port_is_an_error_and_not_an_endless_search(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(local, "_PORTS", range(taken, taken + 1))
        with pytest.raises(HostError, match=f"no free port from {taken} to {taken} "):
            local.free_port()


def test_taken_port_is_not_mistaken_for_ours(monkeypatch):
    """Whoever listens there would be spoken to as if it were the broker that we started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, taken])
        free = local.free_port
        monkeypatch.setattr(local, "free_port", lambda: next(ports, None) or free())
        with stock() as broker:
            assert broker.address.port != taken
            wake(broker.address)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("make", ["Mosquitto(need_mosquitto())", "Embedded()"])
def test_broker_dies_with_a_parent_that_was_killed(make):
    """SIGKILL runs no `finally`: without the kernel's help each crashed demo would leave a broker behind."""
    program = f"""
        import time
        from dormouse_host.broker.local import Embedded, Mosquitto
        from support.needs import need_mosquitto
        with {make} as broker:
            print(broker._child.pid, broker.folder, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert parent.stdout
    pid, folder = parent.stdout.readline().split()
    try:
        assert Path("/proc", pid).exists()
        parent.kill()
        parent.wait()
        until(lambda: not _runs(int(pid)))
    finally:
        parent.stdout.close()
        if _runs(int(pid)):
            os.kill(int(pid), signal.SIGKILL)
        for file in Path(folder).glob("*"):
            file.unlink()
        Path(folder).rmdir()


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie (whoever adopted it may be slow to reap)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
