"""A device's log is fetched by itself once its program has gone wrong, from a real device over a real broker."""

from dormouse_host import Fleet
from support.device_folder import APP, Device, DeviceInterpreter
from support.relays import Running, published, until

BROKEN = (
    APP
    + """
@telemetry(every=1)
def soil(wake):
    raise ValueError("no probe")
"""
)


def test_the_log_of_a_device_whose_reading_fails_comes_once(tmp_path, mosquitto, where):
    with Fleet(where) as fleet, Running(where, mosquitto):
        fleet.add("dev")
        device = Device(tmp_path / "dev", DeviceInterpreter("cpython"), mosquitto.address.url, sample_every=0)
        wake(fleet, device, 2)
        assert sent(fleet) == []
        (tmp_path / "dev" / "app.py").write_text(BROKEN)
        device.configure(sample_every=1)
        wake(fleet, device, 5)
        until(lambda: any(line.kind == "log" for line in fleet.log("dev")))
        lines = [line.fields for line in fleet.log("dev") if line.kind == "log"]
        assert all(line["event"] == "error" and line["fields"]["stage"] == "soil" for line in lines), lines
        assert "no probe" in lines[0]["fields"]["why"]
        assert len(sent(fleet)) == 1
        wakes = [line["wake"] for line in lines]
        assert len(set(wakes)) == len(wakes), "one line a wake, each once"


def wake(fleet: Fleet, device: Device, times: int) -> None:
    for _ in range(times):
        number = device.wake().one("boot")["wake"]
        until(lambda number=number: fleet.ledger.has_ended("dev", number))
        until(lambda: published(fleet))  # what the ledger asks by itself after that is at the broker, too


def sent(fleet: Fleet) -> list[str]:
    return [row["command"] for row in fleet.export("commands") if row["do"] == "log"]
