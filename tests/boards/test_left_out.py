"""Commands for a program that is left out wait until it is back: nothing of them is lost, and each is done once."""

import pytest

pytestmark = pytest.mark.timeout(300)

APP = """
from dormouse import command

@command("spoil")
def spoil(wake):
    open("/spoilt", "w").close()

if SPOILS:
    try:
        open("/spoilt").close()
    except OSError:
        pass
    else:
        raise ValueError("spoilt")

@command("water")
def water(wake):
    with open("/watered", "a") as f:
        f.write("x")
"""


@pytest.mark.parametrize("kind", ["RPI_PICO_W", "ESP32_GENERIC"])
def test_a_command_waits_for_its_program_and_is_done_once(virtual_device, tmp_path, kind):
    """Sent before the device has said that the program is gone, and after it."""
    app = tmp_path / "app.py"
    app.write_text(APP.replace("SPOILS", "True"))
    device = virtual_device(kind, app)
    assert device.run("spoil").status == "succeeded"
    before = device.send("water")
    device.wake()
    assert "ValueError: spoilt at app.py:" in device.fleet.status(device.id)[0].report["app"]
    after = device.send("water")
    assert device.run("ping").status == "succeeded", "built-in commands work meanwhile"
    device.wake()
    assert [device.fleet.result(name).final for name in (before, after)] == [False, False]
    assert "watered" not in device.board.files()
    app.write_text(APP.replace("SPOILS", "False"))
    device.board.press_reset()
    device.flash()
    assert [device.settle(name).status for name in (before, after)] == ["succeeded", "succeeded"]
    assert device.board.read_file("watered") == b"xx"
