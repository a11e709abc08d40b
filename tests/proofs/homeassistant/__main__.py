"""The real Home Assistant beside a real broker, relay and device: what it shows, and what comes of its commands.

Home Assistant needs a newer Python than the rest, so it has a folder of its own, .cache/homeassistant. Where there is
no such Python the proof says so and has not run.

python -m proofs.homeassistant
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from dormouse_host import Fleet
from dormouse_host.broker.local import Mosquitto
from dormouse_host.desk import desk as beside
from dormouse_host.desk import homes
from dormouse_host.desk.config import Home, Wanted
from dormouse_host.relay.relay import Relay
from dormouse_host.release import Release
from proofs.__main__ import NOT_RUN, ROOT
from support.device_folder import Device, DeviceInterpreter
from support.needs import need_mosquitto
from support.waiting import comes

VENV = ROOT / ".cache" / "homeassistant"
WANTED = ("homeassistant>=2024.11", "paho-mqtt>=2.1,<3")
PYTHONS = ("python3.14", "python3.13")
PYENV = Path.home() / ".pyenv" / "versions"
APP = """
from dormouse import command, telemetry

@command("blink", times=(int, 3))
def blink(wake, times):
    return {"blinked": times}

@command("water", s=int)
def water(wake, s):
    return {"ran": s}

@command("fan", on=bool)
def fan(wake, on):
    return {"on": on}

@telemetry()
def climate(wake):
    return {"temp": 21.5, "door": True, "note": "dry"}
"""
ITS_OWN = (" ", "Stack (", "Detected code that calls async_forward_entry_setups")  # of how inside.py starts it
UPDATE = "update.dev_program"
_INSTALL, _PROGRESS = 1, 4  # bits of an update entity's features
SHOWN: dict[str, dict[str, Any]] = {
    "sensor.dev_temp": {"state": "21.5", "unit_of_measurement": "°C", "device_class": "temperature"},
    "binary_sensor.dev_door": {"state": "on"},
    "sensor.dev_note": {"state": "dry"},
    "binary_sensor.dev_problem": {"state": "off"},
    "button.dev_blink": {"state": "unknown"},
    "number.dev_water": {"state": "unknown", "min": 0, "max": 86400},
    "switch.dev_fan": {"state": "unknown"},
    "sensor.dev_pending_commands": {"state": "0"},
}


def python() -> str | None:
    """A Python that Home Assistant runs on."""
    found = [path for name in PYTHONS if (path := shutil.which(name))]
    found += [str(path) for path in sorted(PYENV.glob("3.1[34].*/bin/python"), reverse=True)]
    for path in found:
        if subprocess.run([path, "-c", "import ssl, sqlite3, venv"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def install() -> str | None:
    """Make the folder with Home Assistant, unless it is there. Why not, where that fails."""
    if (VENV / "ready").exists():
        return None
    own = python()
    if own is None:
        return "Home Assistant needs Python 3.13 or newer, and there is none here"
    subprocess.run([own, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *WANTED], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"Home Assistant can't be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    (VENV / "ready").touch()
    return None


class HomeAssistant:
    """The process. A context manager; `version` is its own."""

    def __init__(self, port: int, log: Path) -> None:
        argv = [str(VENV / "bin" / "python"), str(Path(__file__).with_name("inside.py")), "127.0.0.1", str(port)]
        with log.open("wb") as stderr:
            self._child = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self.version = ""

    def __enter__(self) -> "HomeAssistant":
        self.version = self._answer()["version"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.stdin:
            self._child.stdin.close()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _answer(self) -> Any:
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line:
            raise RuntimeError("Home Assistant has ended")
        return json.loads(line)

    def _say(self, what: dict[str, Any]) -> Any:
        if self._child.stdin:
            self._child.stdin.write(json.dumps(what) + "\n")
            self._child.stdin.flush()
        return self._answer()

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """Entity -> its state and attributes."""
        found: dict[str, dict[str, Any]] = self._say({"ask": True})["states"]
        return found

    @property
    def devices(self) -> list[dict[str, Any]]:
        """Its devices."""
        found: list[dict[str, Any]] = self._say({"ask": True})["devices"]
        return found

    def call(self, service: str, entity: str, **data: Any) -> None:
        """Call a service."""
        self._say({"call": service, "data": {"entity_id": entity, **data}})


class Running:
    """A relay in a thread, with Home Assistant beside it."""

    def __init__(self, fleet: Fleet, broker: Mosquitto) -> None:
        wanted = Wanted(home=Home())
        own = beside.Desk(fleet.ledger, wanted, fleet.root)
        self._relay = Relay(fleet.ledger, broker.address, fleet.root, "proof", beside=own)
        self._thread = threading.Thread(target=self._relay.run, daemon=True)

    def __enter__(self) -> "Running":
        self._thread.start()
        comes(lambda: self._relay.connected)
        return self

    def __exit__(self, *_: object) -> None:
        self._relay.stop()
        self._thread.join(40)


class Table:
    """What was looked at, a line each."""

    def __init__(self) -> None:
        self.failed = 0

    def row(self, what: str, true: Callable[[], object], seconds: float = 40) -> None:
        """One line: it comes to that, or not."""
        began = time.monotonic()
        good = comes(true, seconds, 0.2)
        self.failed += not good
        print(f"{'ok' if good else 'FAIL':5}{time.monotonic() - began:6.1f} s  {what}", flush=True)


def agrees(states: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> bool:
    """Is each of these entities there, with at least these values?"""
    return all(entity in states and wanted[entity].items() <= states[entity].items() for entity in wanted)


def play(folder: Path) -> int:
    """The whole story. How many lines failed."""
    table = Table()
    beside._HOME, homes._WALK = 1.0, 2.0
    with Mosquitto(need_mosquitto()) as broker, Fleet(str(folder / "ledger.db")) as fleet:
        device = Device(folder / "dev", DeviceInterpreter("cpython"), broker.address.url, app=APP)
        fleet.add("dev")
        with Running(fleet, broker):
            device.wake()
            comes(lambda: fleet.status("dev")[0].pending)
            time.sleep(1)
            device.wake()  # its catalogue
            comes(lambda: fleet.status("dev")[0].catalogue)
            with HomeAssistant(broker.address.port, folder / "home.log") as home:
                print(f"Home Assistant {home.version}")
                story(table, home, fleet, device)
            with HomeAssistant(broker.address.port, folder / "home2.log") as home:
                table.row(
                    "started again, it has all of it from what is retained", lambda: agrees(home.states, SHOWN_AGAIN)
                )
                stopped(table, home, fleet, broker)
    said = "".join((folder / name).read_text() for name in ("home.log", "home2.log"))
    complaints = [line for line in said.splitlines() if line and not line.startswith(ITS_OWN)]
    table.row("Home Assistant's log complains of none of it", lambda: not complaints, 0)
    print("\n".join(complaints), end="")
    return table.failed


SHOWN_AGAIN: dict[str, dict[str, Any]] = {
    "sensor.dev_temp": {"state": "21.5"},
    "number.dev_water": {"state": "30"},
    "switch.dev_fan": {"state": "on"},
}


def story(table: Table, home: HomeAssistant, fleet: Fleet, device: Device) -> None:
    """What it shows, what it sends, and when a device is unavailable."""
    table.row("one device, with sensors, button, number and switch", lambda: agrees(home.states, SHOWN))
    table.row("the device has name, maker and version", lambda: [d["name"] for d in home.devices] == ["dev"])
    home.call("button.press", "button.dev_blink")
    home.call("number.set_value", "number.dev_water", value=30)
    home.call("switch.turn_on", "switch.dev_fan")
    ordered = [("blink", {}), ("water", {"s": 30}), ("fan", {"on": True})]
    table.row("its three commands are in the ledger, each once", lambda: sent(fleet) == ordered)
    table.row("it shows that they wait", lambda: home.states["sensor.dev_pending_commands"]["state"] == "3")
    time.sleep(1)
    device.wake()
    table.row("the device ran them", lambda: statuses(fleet) == ["succeeded"] * 3)
    table.row("number and switch show what the device has done", lambda: agrees(home.states, SHOWN_AGAIN))
    table.row("asleep, nothing is unavailable", lambda: unavailable(home) == [])
    shift(fleet, 20_000)
    every = sorted(entity for entity in home.states)
    table.row("overdue, all of it is unavailable", lambda: unavailable(home) == every)
    device.wake()
    table.row("awake again, nothing is", lambda: unavailable(home) == [])
    update(table, home, fleet, device)


def update(table: Table, home: HomeAssistant, fleet: Fleet, device: Device) -> None:
    """An update that this device refuses, because it has no slots."""
    release = Release({"app.py": APP.encode()})
    versions = {"installed_version": "as flashed", "latest_version": f"release {release.id}"}
    fleet.update(["dev"], release)
    shown: dict[str, Any] = {"state": "on", "in_progress": True, "supported_features": _PROGRESS, **versions}
    table.row("an update under way", lambda: agrees(home.states, {UPDATE: shown}))
    time.sleep(1)
    device.wake()
    shown |= {"in_progress": False, "supported_features": _PROGRESS | _INSTALL}
    table.row("it has failed, and can be installed", lambda: agrees(home.states, {UPDATE: shown}))
    home.call("update.install", UPDATE)
    table.row("installed from there, it is ordered once more", lambda: open_updates(fleet) == [release.id])
    table.row("and is under way again", lambda: home.states[UPDATE]["in_progress"] is True)
    fleet.cancel_update(fleet.updates("dev")[0].name)
    table.row("cancelled, there is none", lambda: home.states[UPDATE]["state"] == "off")


def open_updates(fleet: Fleet) -> list[str]:
    """The releases of the updates under way."""
    return [view.release for view in fleet.updates("dev")]


def stopped(table: Table, home: HomeAssistant, fleet: Fleet, broker: Mosquitto) -> None:
    """The end of the device."""
    fleet.remove("dev", broker.address)
    table.row("removed from the ledger, it is gone", lambda: home.states == {})


def sent(fleet: Fleet) -> list[tuple[str, dict[str, Any]]]:
    """The commands that people sent."""
    return [(row["do"], row["args"]) for row in fleet.export("commands") if row["do"] != "describe"]


def statuses(fleet: Fleet) -> list[str]:
    """How they stand."""
    return [row["status"] for row in fleet.export("commands") if row["do"] != "describe"]


def unavailable(home: HomeAssistant) -> list[str]:
    """The entities that are."""
    return sorted(entity for entity, each in home.states.items() if each["state"] == "unavailable")


def shift(fleet: Fleet, seconds: int) -> None:
    """The device was heard so long ago."""
    with fleet.ledger.database.writing() as connection:
        connection.execute(text("UPDATE devices SET seen = seen - :s, next_due = next_due - :s"), {"s": seconds})


def main() -> int:
    """Exit code 0 when every line is ok, 77 where Home Assistant can't be had."""
    why = install()
    if why:
        print(why)
        return NOT_RUN
    with tempfile.TemporaryDirectory(prefix="dormouse-proof-") as folder:
        failed = play(Path(folder))
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
