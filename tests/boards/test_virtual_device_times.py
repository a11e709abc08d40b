"""The agent on a board that takes a Pico W's times: what its wakes report, and when its watchdog ends one.

Measured on MicroPython's own firmware, emulated: docs/results.md. The emulator itself is run by `make pico`.
"""

from typing import Any

import pytest

from dormouse_host.broker.local import HOST, free_port
from support.certificates import Authority
from support.needs import need_micropython, need_mosquitto

APP = """
from dormouse import telemetry

@telemetry()
def level(wake):
    return {"level": 3}
"""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def secured(tmp_path, virtual_device):
    """A device of a kind whose broker proves who it is; flashed without a board's times."""
    need_micropython()
    need_mosquitto()

    def make(kind: str):
        authority = Authority(tmp_path)
        pair = authority.sign(HOST)
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "dormouse.toml").write_text('[app]\nfiles = ["ca.der"]\n')
        (tmp_path / "ca.der").write_bytes(authority.der)
        port = free_port()
        lines = [f"listener {port} {HOST}", f"certfile {pair.cert}", f"keyfile {pair.key}"]
        settings = {"broker": f"mqtts://{HOST}:{port}", "ca": "ca.der"}
        return virtual_device(kind, tmp_path / "app.py", settings=settings, broker_settings=lines)

    return make


def phases(device) -> Any:
    """Milliseconds of the wake before the last one, as the last one reported them."""
    return [wake["last"]["phases"] for wake in device.fleet.export("wakes") if wake.get("last")][-1]


def test_wakes_of_a_timed_pico_report_its_times_and_its_watchdog_counts_them(secured):
    """Wi-Fi start and handshake are in the phases that it reports; 9 s of handshake are more than 8.4 s of watchdog."""
    device = secured("RPI_PICO_W")
    assert device.run("ping").status == device.run("ping").status == "succeeded"
    quick = phases(device)
    assert max(quick["join"], quick["connect"]) < 600
    device.board.timed = True
    for _ in range(3):  # the board has booted already for the sleep before the first of them
        assert device.run("ping").status == "succeeded"
    timed, times = phases(device), device.board.kind.times
    assert times.radio <= timed["join"] + 10
    assert times.handshake <= timed["connect"] + 10
    assert timed["boot"] > quick["boot"] + 30  # what is imported after the port
    device.board.timed = {"handshake": 9000}
    assert "watchdog" in [device.wake().ended for _ in range(2)]  # the first may have booted before that
