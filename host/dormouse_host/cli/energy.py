"""`dormouse energy`: milliampere-hours per day, and what they rest on.

Must stay true: the assumptions are printed with the result, always.
"""

import json
import sys
import time
from typing import Annotated

import typer

from dormouse_host.cli import options
from dormouse_host.cli.options import Db, Json
from dormouse_host.errors import HostError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(energy)


def energy(
    board: Annotated[str, typer.Option(help="As MicroPython names it: ESP32_GENERIC, RPI_PICO_W, …")],
    interval: Annotated[str, typer.Option(help="Between two wakes that connect: 15m, 1h, …")] = "15m",
    commands: Annotated[int, typer.Option(min=0, max=1000, help="Queued for each wake.")] = 1,
    records: Annotated[int, typer.Option(min=1, max=1000, help="Of telemetry, handed over in each wake.")] = 1,
    battery: Annotated[float, typer.Option(min=1, help="mAh.")] = 2000,
    rtt: Annotated[float, typer.Option(min=1, max=10000, help="Milliseconds of a round trip to the broker.")] = 50,
    boot: Annotated[float, typer.Option(min=0, help="Seconds from power to the agent's first wait.")] = 1.0,
    join: Annotated[float, typer.Option(min=0, help="Seconds to join Wi-Fi, with everything cached.")] = 0.6,
    ma: Annotated[list[str], typer.Option(metavar="STATE=MA", help="A current of your own board.")] = [],  # noqa: B006
    device: Annotated[str | None, typer.Option(help="Take phases from this device's own reports.")] = None,
    db: Db = None,
    outage: Annotated[int, typer.Option(min=1, max=1000, help="Days of the access point being gone.")] = 100,
    as_json: Json = False,
) -> None:
    """What a device takes from its battery.

    In a day, and through a hundred days without an access point.
    """
    from dormouse import config as device_config
    from dormouse_host.flash import kinds
    from dormouse_host.lab import energy

    kind = kinds.load(board)
    every = round(options.seconds_until(interval, time.time()))
    if not 1 <= every <= 604800:
        raise HostError(f"--interval {interval}: from 1s to 7d", 2)
    sources = energy.currents(kind, ma)
    currents = {state: value for state, (value, _) in sources.items()}
    told = [f"{state}: {value:g} mA ({source})" for state, (value, source) in sources.items()]
    if device:
        measured = _reported(device, db)
        told.append(f"phases: medians of {measured['wakes']:.0f} wakes that {device} reported, flash time included")
        flash_ms = 0.0
    else:
        trips, sent, flash_ms = _bench(commands, records)
        measured = {"boot": boot, "join": join, "online": trips * rtt / 1000, "sent": sent}
        told += [
            f"online: {trips:.1f} round trips of {rtt:g} ms, measured by the bench in this run; {sent} bytes sent",
            f"flash: {flash_ms:.0f} ms of erases and programs at typical NOR times, measured in this run",
            f"assumed: {boot:g} s to boot, {join:g} s to join Wi-Fi with everything cached, handlers that take no time",
        ]
    told.append("assumed: every byte sent at 1 Mbps, no self-discharge, the regulator's own current is in your figures")
    wake = energy.of_wake(
        currents,
        boot=measured["boot"],
        join=measured["join"],
        online=measured["online"],
        flash=flash_ms / 1000,
        sent=measured["sent"],
    )
    config = {key: default[0] for key, default in device_config.KEYS.items()}
    config["connect_every"] = every
    timeout = float(config["budget"])
    gone = energy.without_network(currents, config, boot=measured["boot"], timeout=timeout, days=outage)
    day = wake.mah_per_day(every)
    if as_json:
        figures = {
            "seconds": wake.seconds,
            "mah_per_day": day,
            "days": battery / day,
            "phases": {p.name: [p.seconds, p.ma] for p in wake.phases},
            "outage": {"days": gone.days, "wakes": gone.wakes, "mah": gone.ours, "mah_retrying": gone.plain},
            "assumptions": told,
        }
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
        return
    for phase in wake.phases:
        _say(f"{phase.name:8} {phase.seconds:8.3f} s  {phase.ma:7.1f} mA  {phase.seconds * phase.ma / 3600:8.5f} mAh")
    _say(f"asleep   {every - wake.seconds:8.0f} s  {wake.asleep:7.3f} mA")
    _say(
        f"\n{kind.title}, a wake every {interval}: {day:.2f} mAh per day, {battery / day:.0f} days from {battery:g} mAh"
    )
    _say(
        f"{gone.days} days without an access point: {gone.wakes} tries of {timeout:g} s, at last one in "
        f"{gone.longest / 3600:.1f} h: {gone.ours:.0f} mAh; a client that tries for ever: {gone.plain:.0f} mAh"
    )
    _say("")
    for line in told:
        _say(line)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _bench(commands: int, records: int) -> tuple[float, int, float]:
    """Round trips until asleep, bytes sent and milliseconds of flash of our wake, measured now."""
    from dormouse_host.agent import toolchain
    from dormouse_host.lab.bench import measure

    program = toolchain.mosquitto()
    if program is None:
        raise HostError("measuring a wake needs mosquitto: apt-get install mosquitto; or take --device's own reports")
    with measure.Bench(program) as ground:
        row = measure.fastest(ground, "ours", (commands, records), 2)
        _, flash_ms, _ = measure.flash_and_memory(ground, (commands, records))
    return row.asleep, row.up, flash_ms


def _reported(device: str, db: str | None) -> dict[str, float]:
    from dormouse_host.lab import energy

    with options.opened(db) as fleet:
        return energy.reported(row for row in fleet.export("wakes") if row["device"] == device)
