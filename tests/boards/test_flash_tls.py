"""A CA as people have it goes onto a board: the first wake is over TLS; what cannot work ends before the first byte."""

import json

import pytest

from boards.test_flash import bench
from dormouse_host.broker.local import Mosquitto, free_port
from dormouse_host.errors import HostError
from dormouse_host.virtual.board import VirtualBoard, Wifi
from support.board_device import fields, install
from support.certificates import Authority, listener
from support.needs import need_micropython, need_mosquitto

__all__ = ["bench"]
pytestmark = pytest.mark.timeout(200)


def test_a_bundle_of_public_cas_is_flashed_as_the_one_that_certifies_the_broker(bench, tmp_path):
    """`ca = "r4.pem"` beside dormouse.toml; before, the first wake said that the file r4.der is missing."""
    root = Authority(tmp_path, "root", key="RSA-4096")
    middle = Authority(tmp_path, "R3", key="RSA-2048", issuer=root)
    other = Authority(tmp_path, "other")
    here = bench("RPI_PICO_W")
    (here.folder / "r4.pem").write_bytes(other.pem.read_bytes() + root.pem.read_bytes())
    port = free_port()
    with Mosquitto(need_mosquitto(), listener(port, middle.sign("127.0.0.1", kind="RSA-2048"))):
        here.broker = f"mqtts://127.0.0.1:{port}"
        done = here.flash(ca="r4.pem", connect_every=3600)
        assert done.wake.succeeded, here.text()
        assert here.board.read_file("ca.der") == root.der
        assert json.loads(here.board.read_file("config.json"))["ca"] == "ca.der"
        assert "is certified by root" in here.text()
        assert here.flash(ca="r4.pem", connect_every=3600).written == []


def test_a_broker_that_no_board_can_speak_with_leaves_the_board_blank(bench, tmp_path):
    here = bench("ESP32_GENERIC")
    authority = Authority(tmp_path)
    (here.folder / "ca.pem").write_bytes(authority.pem.read_bytes())
    port = free_port()
    with Mosquitto(need_mosquitto(), listener(port, authority.sign("127.0.0.1"), "tls_version tlsv1.3")):
        here.broker = f"mqtts://127.0.0.1:{port}"
        with pytest.raises(HostError, match="TLS 1.3 only"):
            here.flash(ca="ca.pem")
    assert "main.py" not in here.board.files()


@pytest.mark.parametrize(
    "host, why",
    [("fleet.broker.example", None), ("broker.example", "expected CN"), ("a.fleet.broker.example", "expected CN")],
)
def test_a_wildcard_counts_for_one_level_of_the_name(tmp_path, host, why):
    """As rented brokers have it: the name is resolved as on the board, the certificate is `*.broker.example`."""
    need_micropython()
    root = Authority(tmp_path, "root", key="RSA-4096")
    middle = Authority(tmp_path, "R3", key="RSA-2048", issuer=root)
    port = free_port()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "ca.der").write_bytes(root.der)
    wifi = Wifi(names={f"{host}:8883": ("127.0.0.1", port)})
    with (
        Mosquitto(need_mosquitto(), listener(port, middle.sign("*.broker.example", kind="RSA-2048"))),
        VirtualBoard("RPI_PICO_W", tmp_path / "board", wifi=wifi, speed=600) as board,
    ):
        board.wait_boot()
        said = install(board, tmp_path / "files", f"mqtts://{host}", ca="ca.der", connect_every=3600)
        board.wait_console(" asleep ", 60, after=said)
        if why:
            (error,) = fields(board, "error", said)
            assert (error["stage"], why in error["why"]) == ("tls", True), error
        assert fields(board, "asleep", said)[0]["drained"] is (why is None)
