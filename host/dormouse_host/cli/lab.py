"""`dormouse demo`, `bench` and `energy`: what runs against real processes on this machine and is measured."""

import contextlib
import os
import sys
from pathlib import Path
from time import time as now
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dormouse_host import figures
from dormouse_host.cli.completion import complete_board
from dormouse_host.cli.options import Db, Json, Times, opened, refuse, seconds_until
from dormouse_host.errors import HostError
from dormouse_host.terminal import json_line, warn

if TYPE_CHECKING:
    from dormouse_host.flash.kinds import Board
    from dormouse_host.lab.bench import cases
    from dormouse_host.lab.demo import Outcome

PANEL = "Lab"
_DRAWN = (10, 10)  # the case whose timeline is drawn


def register(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (demo, bench, energy):
        app.command(rich_help_panel=PANEL)(command)


def demo(
    context: typer.Context,
    broker: Annotated[
        str | None,
        typer.Argument(
            metavar="BROKER-URL",
            help="mqtt://[user:password@]host[:port]; also MQTT_USERNAME and MQTT_PASSWORD. "
            "Default: a broker that is started on this machine and stopped again.",
        ),
    ] = None,
    messages: Annotated[
        int, typer.Option(min=1, max=100_000, help="The number of messages sent while the device sleeps.")
    ] = 3,
    clean: Annotated[
        bool, typer.Option("--clean", help="Connect with clean_session=True, so that nothing is kept.")
    ] = False,
    qos: Annotated[
        int, typer.Option(min=0, max=1, help="The QoS of the messages; 0 is not kept for a sleeping device.")
    ] = 1,
    device: Annotated[
        Literal["cpython", "micropython"] | None,
        typer.Option(help="The interpreter; default: micropython if there is one."),
    ] = None,
    budget: Annotated[float, typer.Option(min=1, max=600, help="The time limit of a wake in seconds.")] = 8,
    board: Annotated[str | None, typer.Option(help="Run on a virtual board, e.g. ESP32_GENERIC, with faults.")] = None,
    session_expiry: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Show a sleep that is longer than the broker keeps a session: 2s, an hour at most."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Demonstrate that a sleeping device gets each message once.

    The device connects, sleeps while messages are sent, and wakes. With --json, only the outcome of each variant.
    Exit code 0 if all messages arrived; --clean and --qos 0 lose them and exit with 1.
    """
    from dormouse_host.lab.demo import Options, Variant, interpreter, run
    from dormouse_host.terminal import Console

    if board is not None:
        from dormouse_host.lab import demo_board

        own = "means nothing with --board, which has its own broker and device: use it with --messages only"
        refuse(context, "broker", "clean", "qos", "device", "budget", "session_expiry", "as_json", why=own)
        demo_board.run(board, messages, Console())
        return
    if session_expiry is not None:
        from dormouse_host.lab import demo_expiry

        own = "means nothing with --session-expiry, which has its own broker: use it with --messages and --device only"
        refuse(context, "broker", "clean", "qos", "budget", "as_json", why=own)
        seconds = seconds_until(session_expiry, now())
        if not 0 < seconds <= demo_expiry.LONGEST:
            raise HostError("--session-expiry: expected a time up to an hour, such as 2s", 2)
        demo_expiry.run(seconds, messages, interpreter(device)[0], Console())
        return
    variant = Variant(clean=clean, qos=qos)
    options = Options(broker, messages, variant, device, budget)
    run(options, os.environ, Console(quiet=as_json), _outcomes_as_json if as_json else lambda outcomes: None)


def _outcomes_as_json(outcomes: "list[Outcome]") -> None:
    from dataclasses import asdict

    from dormouse_host import terminal

    for outcome in outcomes:
        terminal.json_line({**asdict(outcome), "complete": outcome.complete})


def bench(
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs of each of our wakes; the fastest counts.")] = 3,
    case: Annotated[
        list[str] | None, typer.Option(metavar="COMMANDS,RECORDS", help="Measure only this case; may be repeated.")
    ] = None,
    heap: Annotated[bool, typer.Option(help="Search the smallest heap too, which takes minutes.")] = True,
    svg: Annotated[Path | None, typer.Option(help="Write the timeline of the case 10,10 to this file.")] = None,
    proxy: Annotated[bool, typer.Option("--proxy", help="Through a proxy, which hides Nagle's algorithm.")] = False,
    as_json: Json = False,
) -> None:
    """Measure what a wake costs, compared with umqtt.simple.

    Against umqtt.simple plain and tuned, at 200 ms a round trip: on real TCP between two network namespaces (Linux, as
    root), else through a proxy.
    """
    from rich.console import Console

    from dormouse_host import files
    from dormouse_host.agent import toolchain
    from dormouse_host.lab import wire
    from dormouse_host.lab.bench import cases, measure, picture

    wanted = [_case(text) for text in case] if case else list(cases.CASES)
    if svg:
        _check_drawing(svg, wanted)
    program = toolchain.mosquitto()
    if program is None:
        raise HostError("the bench needs mosquitto: apt-get install mosquitto")
    say = Console(stderr=True, highlight=False)
    rows: list[cases.Row] = []
    with contextlib.ExitStack() as stack:
        why = "as --proxy says" if proxy else wire.possible()
        link = None if why else stack.enter_context(wire.Wire(wire.steady(cases.DELAY)))
        say.print(f"through a proxy, not on real TCP: {why}" if why else "on real TCP")
        ground = stack.enter_context(measure.Bench(program, link))
        for each in wanted:
            for style in cases.OF.get(each, cases.STYLES):
                say.print(f"{each[0]} commands, {each[1]} records: {style}")
                row = measure.fastest(ground, style, each, runs if style in cases.OURS else 1)
                if style == "ours":
                    row.erases, row.flash_ms, row.peak = measure.flash_and_memory(ground, each)
                if heap:
                    row.smallest = measure.smallest_heap(ground, style, each)
                if heap and style in cases.OURS:
                    row.in_place = measure.smallest_heap(ground, style, each, rom=True)
                rows.append(row)
    if as_json:
        for row in rows:
            json_line(row.plain())
    else:
        _tell(rows)
    if svg:
        shown = [row for row in rows if (row.commands, row.records) == _DRAWN and row.style in cases.STYLES]
        files.write(svg, picture.picture(shown), files.PUBLIC)


def _tell(rows: "list[cases.Row]") -> None:
    from rich.console import Console

    from dormouse_host.lab.bench import table

    out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    out.print(table.table(rows))
    for line in table.ratios(rows):
        out.print(line)
    for line, met in table.judged(rows):
        out.print(f"{'met   ' if met else 'missed'} {line}")


def _check_drawing(svg: Path, wanted: list[tuple[int, int]]) -> None:
    """HostError before the bench, which takes minutes, and not after it."""
    if _DRAWN not in wanted:
        raise HostError("--svg is the timeline of the case 10,10: add --case 10,10", 2)
    if svg.is_dir() or not os.access(svg.parent, os.W_OK | os.X_OK):
        raise HostError(f"--svg {svg}: not writable", 2)


def _case(text: str) -> tuple[int, int]:
    left, _, right = text.partition(",")
    if not (text.isascii() and left.isdigit() and right.isdigit() and int(right) > 0):
        raise HostError(f"case {text}: expected two numbers such as 10,10, the second above 0", 2)
    return int(left), int(right)


def energy(
    context: typer.Context,
    board: Annotated[
        str | None,
        typer.Option(
            help="The board's MicroPython name: ESP32_GENERIC, RPI_PICO_W, …; default: what --device has reported.",
            autocompletion=complete_board,
        ),
    ] = None,
    interval: Annotated[str, typer.Option(help="The time between two wakes that connect: 15m, 1h, …")] = "15m",
    commands: Annotated[int, typer.Option(min=0, max=1000, help="Commands queued for each wake.")] = 1,
    records: Annotated[int, typer.Option(min=1, max=1000, help="Telemetry records sent in each wake.")] = 1,
    battery: Annotated[float, typer.Option(min=1, help="The battery's capacity in mAh.")] = 2000,
    rtt: Annotated[float, typer.Option(min=1, max=10000, help="Round trip to the broker in milliseconds.")] = 50,
    boot: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds from power-on to the radio; default: the board's, or 1 where not measured."),
    ] = None,
    join: Annotated[float, typer.Option(min=0, help="Seconds to join Wi-Fi with everything cached.")] = 0.6,
    ma: Annotated[list[str], typer.Option(metavar="STATE=MA", help="A current measured on your board.")] = [],  # noqa: B006
    tls: Annotated[bool, typer.Option("--tls", help="With a TLS handshake in each wake.")] = False,
    time: Times = [],  # noqa: B006
    device: Annotated[str | None, typer.Option(help="Use the phases that this device reported.")] = None,
    db: Db = None,
    outage: Annotated[int, typer.Option(min=1, max=1000, help="Days without an access point.")] = 100,
    as_json: Json = False,
) -> None:
    """Estimate a device's battery consumption.

    Per day, and over a hundred days without an access point. What the board computes is in its board.toml where it was
    measured; --time sets boot (to main.py), before (up to the radio), radio, session or handshake.
    """
    from dormouse import config as device_config
    from dormouse_host.flash import kinds
    from dormouse_host.flash.times import parse
    from dormouse_host.lab import energy

    if not (board or device):
        raise HostError("expected --board, or --device with one that has reported", 2)
    if device:
        own = ("tls", "time", "boot", "commands", "records", "rtt", "join")
        refuse(context, *own, why="means nothing here: --device has its own times")
    kind = kinds.load(board or _board_of(device or "", db))
    every = round(seconds_until(interval, now()))
    if not 1 <= every <= 604800:
        raise HostError(f"--interval {interval}: expected 1s to 7d", 2)
    sources = energy.currents(kind, ma)
    currents = {state: value for state, (value, _) in sources.items()}
    told = [f"{state}: {value:g} mA ({source})" for state, (value, source) in sources.items()]
    if device:
        measured = _reported(device, db, kind)
        told.append(f"phases: medians of {measured['wakes']:.0f} wakes that {device} reported, flash time included")
        flash_ms = 0.0
        spent = energy.Computing(measured["boot"])
    else:
        spent, sources_of_times = energy.computing(kind.times, parse(time), boot=boot, tls=tls)
        trips, sent, flash_ms = _measure_wake(commands, records, tls=tls)
        measured = {"join": join, "online": trips * rtt / 1000, "sent": sent}
        told += sources_of_times
        told += [
            f"online: {trips:.1f} round trips of {rtt:g} ms, measured by the bench in this run; {sent} bytes sent",
            f"flash: {flash_ms:.0f} ms of erases and programs at typical NOR times, measured in this run",
            f"assumed: {join:g} s to join Wi-Fi with everything cached, handlers that take no time",
        ]
    told.append("assumed: every byte sent at 1 Mbps, no self-discharge, your figures include the regulator's current")
    wake = energy.of_wake(
        currents,
        spent,
        join=measured["join"],
        online=measured["online"],
        flash=flash_ms / 1000,
        sent=measured["sent"],
    )
    config = {key: default[0] for key, default in device_config.KEYS.items()}
    config["connect_every"] = every
    timeout = float(config["budget"])
    gone = energy.without_network(currents, config, boot=spent.boot, timeout=timeout, days=outage)
    day = wake.mah_per_day(every)
    days = battery / day if day > 0 else float("inf")
    doubts = figures.energy(seconds=wake.seconds, every=every, days=days, asleep=wake.asleep)
    if as_json:
        estimate = {
            "seconds": wake.seconds,
            "mah_per_day": day,
            "days": days,
            "doubts": doubts,
            "phases": {p.name: [p.seconds, p.ma] for p in wake.phases},
            "outage": {"days": gone.days, "wakes": gone.wakes, "mah": gone.ours, "mah_retrying": gone.plain},
            "assumptions": told,
        }
        json_line(estimate)
        return
    for phase in [phase for phase in wake.phases if phase.seconds]:  # the others are not measured, or not there
        _say(f"{phase.name:9} {phase.seconds:8.3f} s  {phase.ma:7.1f} mA  {phase.seconds * phase.ma / 3600:8.5f} mAh")
    _say(f"asleep    {every - wake.seconds:8.0f} s  {wake.asleep:7.3f} mA")
    _say(f"\n{kind.title}, a wake every {interval}: {day:.2f} mAh per day, {days:.0f} days from {battery:g} mAh")
    _say(
        f"{gone.days} days without an access point: {gone.wakes} attempts of {timeout:g} s, at last one in "
        f"{gone.longest / 3600:.1f} h: {gone.ours:.0f} mAh; a client that keeps trying: {gone.plain:.0f} mAh"
    )
    _say("")
    for line in told:
        _say(line)
    for doubt in doubts:
        warn(doubt)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _measure_wake(commands: int, records: int, *, tls: bool) -> tuple[float, int, float]:
    """Round trips until asleep, bytes sent and milliseconds of flash of our wake, measured now."""
    from dormouse_host.agent import toolchain
    from dormouse_host.lab.bench import measure

    program = toolchain.mosquitto()
    if program is None:
        raise HostError("measuring a wake needs mosquitto: apt-get install mosquitto; or use --device")
    with measure.Bench(program) as ground:
        row = measure.fastest(ground, "ours, TLS" if tls else "ours", (commands, records), 2)
        _, flash_ms, _ = measure.flash_and_memory(ground, (commands, records))
    return row.asleep, row.up, flash_ms


def _board_of(device: str, db: str | None) -> str:
    """The board that the device's last report names. HostError where it has not reported, or is none that is known."""
    from dormouse_host.flash.releases import kind_of

    with opened(db) as fleet:
        report = fleet.status(device)[0].report
    if not report:
        raise HostError(f"{device} has never connected: pass --board without --device", 1)
    firmware = str(report.get("fw", ""))
    kind = kind_of(firmware)
    if kind is None:
        raise HostError(f"{device} reports {firmware}: a process of a machine has no battery", 2)
    return kind.name


def _reported(device: str, db: str | None, kind: "Board") -> dict[str, float]:
    """The phases that the device has reported. HostError where it is no such board."""
    from dormouse_host.lab import energy

    with opened(db) as fleet:
        wakes = [row for row in fleet.export("wakes") if row["device"] == device]
    if why := figures.same_board((wake.get("fw") for wake in wakes[-1:]), kind.builds):
        raise HostError(f"{device}: {why}", 2)
    return energy.reported(wakes)
