"""What flash knows before its first write: whose board it is, which settings it replaces, what the broker says."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from boards.test_flash import bench
from dormouse_host.errors import HostError
from dormouse_host.flash import before, doctor, kinds, project
from dormouse_host.flash.board import hand_back
from dormouse_host.flash.first_wake import monitor
from dormouse_host.flash.ports import Place, check_free
from dormouse_host.flash.wire import catch
from dormouse_host.virtual.board import Wifi
from support.certificates import Authority
from support.device_folder import Device, DeviceInterpreter, Host, say

__all__ = ["bench"]
pytestmark = pytest.mark.timeout(200)


def on_board(here, name, data):
    """Write a file at the board's prompt."""
    with catch(Place(here.board.port), 60, lambda left: None, afresh=False) as wire:
        wire.write_file(name, data)
        hand_back(wire)


def test_a_board_that_is_another_device_is_left_as_it_is_or_becomes_a_new_one(bench):
    """Its config.json used to be overwritten, and the device stayed off the broker."""
    here = bench("ESP32_GENERIC")
    first = here.flash(connect_every=3600)
    assert first.wake.succeeded, here.text()
    kept = {name: here.board.read_file(name) for name in ("config.json", "state/cmd.t0")}
    here.device = "oak"
    with pytest.raises(HostError, match="the board is pine: it would refuse to be oak.*--new-device") as caught:
        here.flash(connect_every=3600)
    assert caught.value.code == 2
    assert {name: here.board.read_file(name) for name in kept} == kept
    here.more = {"new_device": True}
    done = here.flash(connect_every=3600)
    assert done.wake.succeeded, here.text()
    assert done.state not in (None, first.state), "a new device has a new state"
    assert json.loads(here.board.read_file("config.json"))["id"] == "oak"
    assert here.flash(connect_every=3600).state is None, "it is oak already"


def test_flash_says_which_settings_it_replaces_and_a_key_of_the_command_line_always_holds(bench):
    here = bench("ESP32_GENERIC")
    assert here.flash(connect_every=900, linger=0).wake.succeeded, here.text()
    on_board(here, "/state/kept", b'{"connect_every":[3600,900],"budget":[30,null],"patience":[900,800]}')
    assert here.flash(connect_every=60).wake.succeeded
    assert "connect_every: 3600, which a command has set, becomes 60" in here.said
    assert "budget: 30 stays, which a command has set" in here.said
    assert "linger: 0 becomes the default" in here.said
    assert json.loads(here.board.read_file("state/kept")) == {"budget": [30, None]}
    on_board(here, "/state/kept", b'{"connect_every":[3600,60]}')
    on_board(here, "/state/trial", b'0{"connect_every":[300,60],"linger":[1,null]}')
    here.more = {"named": frozenset(["connect_every"])}
    again = here.flash(connect_every=60)
    assert "connect_every: 3600, which a command has set, becomes 60" in here.said
    assert "connect_every: the value that a command has put on trial is dropped" in here.said
    assert again.written == ["state/kept", "state/trial"]
    assert 55 < again.wake.asleep["next"] < 65


def test_a_network_of_any_name_is_joined(bench):
    """Python's JSON writes a surrogate pair for a character like 📶, which MicroPython does not read."""
    here = bench("RPI_PICO_W", wifi=Wifi(ssid="Café 📶", password="päss wörd"))
    here.environment = {"WIFI_PASSWORD": "päss wörd"}
    done = here.flash(ssid="Café 📶", connect_every=3600)
    assert done.wake.succeeded, here.text()


def test_a_network_without_a_name_is_refused_and_nothing_is_touched(bench):
    here = bench("RPI_PICO_W")
    with pytest.raises(HostError, match="ssid is missing") as caught:
        here.flash(ssid="")
    assert caught.value.code == 2
    assert "main.py" not in here.board.files()


# ---- the broker, without a board


def files(tmp_path, url, **device):
    text = f"broker = '{url}'\n[wifi]\nssid = 'x'\n[device]\n" + "".join(f"{k} = '{v}'\n" for k, v in device.items())
    (tmp_path / "dormouse.toml").write_text(text)
    return project.device_files(project.read(tmp_path), kinds.load("RPI_PICO_W"), "dev", {}, {})


def warned(device):
    said: list[str] = []
    before.broker(device, said.append)
    return said


def test_a_broker_that_is_not_reached_is_a_warning(tmp_path, mosquitto):
    assert warned(files(tmp_path, mosquitto.address.url)) == []
    (said,) = warned(files(tmp_path, "mqtt://127.0.0.1:9"))
    assert "broker 127.0.0.1:9 is not reached from here (Connection refused)" in said


def test_the_question_leaves_the_device_s_session_as_it_is(tmp_path, mosquitto):
    """One that was there keeps what waits in it; none stays that was not."""
    device = Device(tmp_path / "device", DeviceInterpreter("cpython"), mosquitto.address.url)
    asked = files(tmp_path, mosquitto.address.url)
    assert warned(asked) == []
    assert device.wake().one("connected")["present"] is False
    with Host(mosquitto.address) as host:
        host.send(say("waits"))
    assert warned(asked) == []
    ran = device.wake()
    assert (ran.one("connected")["present"], ran.said) == (True, ["waits"])


@contextlib.contextmanager
def served(pair, answer):
    """A TLS server with this certificate that answers once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as stream:
                stream.recv(100)
                stream.sendall(answer)
                stream.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_certificate_that_the_device_would_refuse_ends_the_flash_and_a_refusal_is_said(tmp_path):
    """The device checks it against its own CA, and so does flash."""
    mine, other = Authority(tmp_path, "mine"), Authority(tmp_path, "other")
    (tmp_path / "devices" / "dev").mkdir(parents=True)
    (tmp_path / "devices" / "dev" / "ca.der").write_bytes(mine.der)
    refused = b"\x20\x02\0\x05"
    with served(other.sign("127.0.0.1"), refused) as port:
        with pytest.raises(HostError, match=r"its certificate is refused by devices/dev/ca\.der: ") as caught:
            warned(files(tmp_path, f"mqtts://127.0.0.1:{port}", ca="ca.der"))
        assert caught.value.code == 2
    with served(mine.sign("127.0.0.1"), refused) as port:
        (said,) = warned(files(tmp_path, f"mqtts://127.0.0.1:{port}", ca="ca.der"))
        assert said == f"broker 127.0.0.1:{port} refuses user and password"


def test_a_port_that_another_program_holds_is_named_with_its_pid(bench):
    """Flash, monitor and doctor say so at once; the virtual board's own process is no holder."""
    here = bench("ESP32_GENERIC")
    check_free(Place(here.board.port))
    with Path(here.board.port).open("rb+", buffering=0) as port, subprocess.Popen(["sleep", "60"], stdin=port) as held:
        try:
            said = rf"/dev/pts/\d+ is held by sleep \(pid {held.pid}\): end it first"
            with pytest.raises(HostError, match=said):
                here.flash()
            with pytest.raises(HostError, match=said):
                monitor(Place(here.board.port), 1, print)
            (found,) = [one for one in doctor.examine([], port=here.board.port) if "held" in one.what]
            assert found.fix == f"end that program: kill {held.pid}"
        finally:
            held.kill()
