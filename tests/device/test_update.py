"""An update over the air, on both interpreters and a real broker: from the order to the verdict."""

import pytest

from support.device_folder import Device, Host
from support.updating import Sender, install, marked, program

OLD = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text="old " + text)
"""
NEW = OLD.replace("old ", "new ") + "".join(f"# {i:060}\n" for i in range(120))


@pytest.fixture
def started(tmp_path, interpreter, mosquitto):
    """(device, host, sender) of a device that runs OLD in slot a, and has had its first wake."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    (device.folder / "app.py").unlink()
    install(device.folder, program(OLD))
    with Host(mosquitto.address) as host:
        device.wake()
        state = host.wait("up/wake")["state"]
        yield device, host, Sender(host, state)


def verdict(host: Host, wake: int) -> dict | None:
    """How the update stood at the end of that wake."""
    told: dict | None = host.wait("up/end", wake).get("update")
    return told


def test_an_update_takes_two_wakes_and_a_trial(started):
    device, host, sender = started
    new = program(NEW)
    begun = sender.step(new, "begin")
    device.wake()
    assert host.answers(1)[begun]["status"] == "succeeded", host.answers(1)
    assert verdict(host, 2) == {"release": new.id, "at": [0, 0]}
    sender.chunks(new)
    committed = sender.step(new, "commit")
    sender.order("say", text="hi")
    ran = device.wake()
    assert host.answers(3)[committed]["status"] == "succeeded", host.answers(3)
    assert ran.said == ["old hi"]
    assert marked(device) == "b20"
    assert verdict(host, 3) == {"release": new.id, "trial": 0}
    sender.order("say", text="hi")
    ran = device.wake("reset")
    assert ran.said == ["new hi"], ran.output
    assert verdict(host, 4) == {"release": new.id, "kept": 0}
    ended = sender.step(new, "end")
    device.wake()
    assert host.answers(5)[ended]["status"] == "succeeded"
    assert verdict(host, 5) is None
    assert marked(device) == "b00"
    assert not (device.folder / "state" / "update").exists()
