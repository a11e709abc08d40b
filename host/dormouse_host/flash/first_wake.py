"""A board's log over its serial port: the first wake after a flash, and `dormouse monitor`.

A first wake succeeded if the device itself logged that it connected and ended without an error; a failure names the
stage that the device named. Monitoring sends nothing to the board and continues over sleeps.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dormouse_host.agent.log import Event, Lines, parse
from dormouse_host.flash.explain import Explainer
from dormouse_host.flash.ports import Place, check_free
from dormouse_host.flash.wire import LostBoard, Wire

STAGES = {
    "ap": "no access point {ssid} found: check its name, that it is on 2.4 GHz, and the distance",
    "password": "the access point {ssid} refuses the Wi-Fi password",
    "address": "the network is joined, but DHCP gave no address: `address`, `gateway` and `dns` set a fixed one",
    "join": "the network is not joined",
    "clock": "no answer from the time server: see `ntp` and `clock` in config.json",
    "dns": "{host} cannot be resolved: try the broker's IP address",
    "connect": "no connection to {host}:{port}: does the broker run, and listen on more than localhost?",
    "tls": "TLS with {host} failed",
    "connack": "the broker refuses the device",
    "session": "another client uses this device's id",
    "publish": "the broker closes when the device publishes: dormouse broker check finds out why",
    "subscribe": "the broker does not permit this device to read its own topic",
    "config": "the device rejects its configuration",
    "app": "the program failed",
}  # the device's stage -> its meaning, with names from the configuration
_EVENTS = 5000  # lines of a wake's log: a drain of a full queue has some hundreds
_OTHER = "the first wake did not succeed"


@dataclass(frozen=True)
class FirstWake:
    """The outcome. `stage` and `why` are None on success; `asleep` is the device's summary of its wake."""

    events: tuple[Event, ...]
    stage: str | None
    why: str | None
    asleep: Mapping[str, Any]

    @property
    def succeeded(self) -> bool:
        """Has the device connected and ended its wake without an error?"""
        return self.stage is None

    def explain(self, config: Mapping[str, Any]) -> str:
        """Explain a failed wake in one line."""
        names = {"ssid": config.get("ssid") or "(none configured)", "host": config["host"], "port": config["port"]}
        meaning = STAGES.get(self.stage or "", _OTHER).format(**names)
        return f"first wake: {self.stage}: {meaning}" + (f" ({self.why})" if self.why else "")


def follow(
    place: Place,
    wire: Wire | None,
    seconds: float,
    on_line: Callable[[str], bool],
    missing: Callable[[str], None] | None = None,
) -> None:
    """Hand each line that the board prints to `on_line` until it returns True or `seconds` are over.

    The port may vanish and return; the wire is closed at the end. `missing` is called once with the reason why there is
    no port at the beginning.
    """
    deadline = time.monotonic() + seconds
    lines = Lines()
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                if wire is None:
                    device = place.device()
                    if device is None:
                        raise LostBoard("no such port, or its board sleeps")
                    wire = Wire(device)
                    missing = None
                for line in lines.feed(wire.read(min(left, 0.5))):
                    if on_line(line):
                        return
            except LostBoard as trouble:
                if wire:
                    wire.close()
                elif missing:
                    missing(str(trouble))
                    missing = None
                wire = None
                time.sleep(0.05)
    finally:
        if wire:
            wire.close()


def watch(place: Place, wire: Wire | None, seconds: float, say: Callable[[str], None]) -> FirstWake:
    """Wait for the end of the next wake, `seconds` at most; `say` gets each line of the device's log."""
    events: list[Event] = []
    explain = Explainer()

    def on_line(line: str) -> bool:
        line = explain(line)
        event = parse(line)
        if event:
            events.append(event)
            say(line)
        return event is not None and (event.name == "asleep" or len(events) >= _EVENTS)

    follow(place, wire, seconds, on_line)
    return judge(tuple(events), seconds)


def judge(events: tuple[Event, ...], seconds: float) -> FirstWake:
    """The outcome of one wake from its events."""
    asleep = next((event.fields for event in events if event.name == "asleep"), {})
    names = {event.name for event in events}
    errors = [event.fields for event in events if event.name == "error"]
    broken = [fields for fields in errors if fields.get("kind") in ("app", "telemetry")]
    fatal = [fields for fields in errors if fields not in broken]
    if fatal:
        first = fatal[0]
        stage = "config" if first.get("kind") == "ConfigError" and not first.get("stage") else first.get("stage")
        return FirstWake(events, str(stage or "agent"), first.get("why"), asleep)
    if not events:
        return FirstWake(events, "boot", f"no output from the board in {seconds:.0f} s", asleep)
    if not asleep:
        if len(events) >= _EVENTS:
            return FirstWake(events, "unfinished", f"{len(events)} lines of log without an end", asleep)
        return FirstWake(events, "unfinished", f"no end in {seconds:.0f} s; last: {events[-1].name}", asleep)
    if broken:
        piece = f"reading {broken[0].get('stage')}: " if broken[0]["kind"] == "telemetry" else ""
        return FirstWake(events, "app", f"{piece}{broken[0].get('why')}", asleep)
    if "connected" not in names:
        return FirstWake(events, "schedule", "the device did not try to connect at this wake", asleep)
    return FirstWake(events, None, None, asleep)


# ---- dormouse monitor


def monitor(
    place: Place, seconds: float | None, show: Callable[[str], None], warn: Callable[[str], None] = lambda line: None
) -> None:
    """Hand each line that the board prints to `show`, for `seconds` or until interrupted.

    `warn` is called once for a port that is missing or cannot be opened. HostError where another program holds it,
    because that program would get half of the lines.
    """
    check_free(place)
    explain = Explainer()

    def on_line(line: str) -> bool:
        show(explain(line))
        return False

    def missing(why: str) -> None:
        warn(f"waiting for {place}: {why}")

    follow(place, None, math.inf if seconds is None else seconds, on_line, missing)
