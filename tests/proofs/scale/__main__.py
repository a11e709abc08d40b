"""`make bench-host`: what the host does in a second, and how that and its memory grow with the devices.

python -m proofs.scale [--each N] [--no-settings] [DEVICES …]        100 1000 10000, 10 commands for each
python -m proofs.scale --watched [DEVICES]                            what alerts, Home Assistant and onlookers cost
python -m proofs.scale --shared [DEVICES]                             one relay and two on a ledger in PostgreSQL
python -m proofs.scale --light --devices 100000                       very many light devices, two relays, PostgreSQL
python -m proofs.scale --person                                       what a person waits for with 20,000 devices
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from proofs.scale import light, parts, person, prune, run, watched
from proofs.scale import shared as several
from proofs.scale.plant import Settings, Used
from support.postgresql import PostgreSQL, need_postgresql

EACH = 10  # commands for each device
BATCHES = 10_000  # of telemetry, from all devices together
TRIED = 300  # devices with which other settings are tried
TURNS = 3  # of one relay and two
WATCHED = 1.05  # times that the relay's CPU may become
INTO, CONFIRMED, MEMORY, GROWTH = 10_000, 500, 150, 1.2  # what is aimed at: a second, a second, MB, times
_NORMAL = "ledger.database:_PRAGMAS=('synchronous = NORMAL', 'foreign_keys = ON')"

SETTINGS = {
    "as above": Settings(),
    "broker: max_inflight_messages 20 (stock)": Settings({"max_inflight_messages": "20"}),
    "broker: set_tcp_nodelay false (stock)": Settings({"set_tcp_nodelay": "false"}),
    "broker: autosave_interval 1800 (stock)": Settings({"autosave_interval": "1800"}),
    "broker: autosave_on_changes true": Settings({"autosave_on_changes": "true"}),
    "relay: Receive Maximum 20": Settings(constants=["relay.connection:_RECEIVE_MAXIMUM=20"]),
    "relay: 50 messages in one transaction": Settings(constants=["relay.connection:_BATCH=50"]),
    "relay: 2000 messages in one transaction": Settings(constants=["relay.connection:_BATCH=2000"]),
    "database: synchronous = NORMAL": Settings(constants=[_NORMAL]),
}


def say(*lines: str) -> None:
    """For a person."""
    print(*lines, sep="\n", flush=True)


def table(title: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Columns, the first one to the left."""
    every = [head, *lines]
    first, *rest = [max(map(len, column)) for column in zip(*every, strict=True)]
    say("", title)
    for line in every:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], rest, strict=True)]
        say("  ".join([f"  {line[0]:<{first}}", *cells]))


def sizes(counts: Sequence[int], each: int) -> list[run.Figures]:
    """Commands there and back, for each number of devices."""
    found = []
    for count in counts:
        say(f"… {count} devices, {each} commands for each")
        found.append(run.measure(count, each))
    speed = ("devices", "commands", "into the ledger", "ledger to PUBACK", "wake to answer", "end to end")
    table("Commands for sleeping devices, in a second", speed, [_speed(one) for one in found])
    part = ("devices", "relay", "broker", "devices", "statements", "commits", "ledger", "relay has", "broker has")
    table("What one command takes, and the most memory", part, [_cost(one) for one in found])
    return found


def _speed(one: run.Figures) -> list[str]:
    seconds = (one.entering, one.sending.seconds, one.confirming.seconds, one.seconds)
    return [f"{one.devices}", f"{one.commands}", *(f"{one.commands / some:.0f}" for some in seconds)]


def _cost(one: run.Figures) -> list[str]:
    used = one.used
    return [
        f"{one.devices}",
        *(f"{one.each(cpu) * 1000:.2f} ms" for cpu in (used.relay, used.broker, used.devices)),
        f"{one.each(used.statements):.2f}",
        f"{one.each(used.commits):.3f}",
        f"{one.each(one.size) * 1000:.2f} kB",
        f"{one.peak:.0f} MB",
        f"{one.broker_peak:.0f} MB",
    ]


def telemetry(counts: Sequence[int]) -> None:
    """Records that waited at the broker."""
    lines = []
    for count in counts:
        say(f"… telemetry of {count} devices")
        one = run.ingest(count, max(1, BATCHES // count))
        lines.append(
            [
                f"{count}",
                f"{one.records}",
                f"{one.records / one.used.seconds:.0f}",
                f"{one.batches / one.used.seconds:.0f}",
                f"{one.used.relay / one.records * 1e6:.0f} µs",
            ]
        )
    head = ("devices", "records", "records in a second", "messages in a second", "relay for one record")
    table("Telemetry into the ledger, from the relay's start on", head, lines)


def settings(count: int, each: int) -> None:
    """The same with other settings, one at a time."""
    lines = []
    for name, one in SETTINGS.items():
        say(f"… {name}")
        found, taken = run.measure(count, each, one), run.ingest(count, BATCHES // (5 * count), one)
        speed = [*_speed(found)[3:], f"{taken.records / taken.used.seconds:.0f}"]
        lines.append([name, *speed, f"{found.used.commits}", *_cost(found)[1:3]])
    head = ("setting", "ledger to PUBACK", "wake to answer", "end to end", "records", "commits", "relay", "broker")
    table(f"Other settings, with {count} devices", head, lines)


def looked_on(count: int, each: int) -> bool:
    """What the relay pays for alerts, Home Assistant and those who look on. True where it is not too much."""
    say(
        "",
        f"{count} devices, {each} commands for each; two relays, one with alerts, Home Assistant and onlookers",
    )
    found = watched.measure(count, each, lambda turn: say(f"  {turn}"))
    per_user, per_cpu = (watched.ratio(found, which) for which in ("user", "cpu"))
    say(f"the relay's CPU with all of it, by the medians: × {per_user:.3f} outside the kernel (aim: at most {WATCHED})")
    say(f"× {per_cpu:.3f} with the kernel's part, × {watched.ratio(found, 'statements'):.3f} statements")
    return per_user <= WATCHED


def shared(count: int) -> None:
    """What one relay takes in, and two that share a ledger, in turn."""
    for relays in (1, 2) * TURNS:
        one = several.measure(relays, count)
        cpu = ", ".join(f"{seconds:.2f}" for seconds in one.cpu)
        say(f"  {relays}: {one.messages} messages in {one.seconds:.1f} s, {cpu} s of the relays' CPU")


def pruning() -> None:
    """A prune beside sends, on SQLite and, where it is installed, on PostgreSQL."""
    say("", f"A prune of {prune.ROWS} rows beside sends")
    with tempfile.TemporaryDirectory() as folder:
        say(f"  SQLite: {prune.measure(f'{folder}/ledger.db')}")
    try:
        programs = need_postgresql()
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        say(f"  {error}")
        return
    with PostgreSQL(programs) as server, server.fresh() as url:
        say(f"  PostgreSQL: {prune.measure(url)}")


def limit(used: Used) -> str:
    """What kept the work from being done sooner."""
    cores = os.cpu_count() or 1
    busy = {"the relay": used.relay, "the broker": used.broker, "the devices": used.devices}
    shares = ", ".join(f"{who} {cpu / used.seconds:.2f}" for who, cpu in busy.items())
    if used.relay > 0.85 * used.seconds:
        return f"the relay's one core ({shares})"
    if sum(busy.values()) > 0.85 * cores * used.seconds:
        return f"the machine's {cores} cores ({shares})"
    return f"waiting: for the disk, the network or other work on this machine (cores in use: {shares})"


def verdict(found: Sequence[run.Figures]) -> bool:
    """The targets, and what was in the way. True where the growth is as it should be: the rest is this machine's."""
    first, last = found[0], found[-1]
    growth = {
        "the relay's CPU": last.each(last.used.relay) / first.each(first.used.relay),
        "statements": last.each(last.used.statements) / first.each(first.used.statements),
    }
    into, confirmed = (
        min(one.commands / one.entering for one in found),
        min(one.commands / one.seconds for one in found),
    )
    say("", f"into the ledger {into:.0f} a second (aim: {INTO}), end to end {confirmed:.0f} (aim: {CONFIRMED})")
    say(f"the relay's memory with {last.devices} devices {last.peak:.0f} MB (aim: {MEMORY})")
    for what, times in growth.items():
        say(f"{what} for one command, {first.devices} to {last.devices} devices: × {times:.2f} (aim: at most {GROWTH})")
    say(f"from the ledger to PUBACK the limit was {limit(last.sending)}")
    say(f"from wake to answer the limit was {limit(last.confirming)}")
    return growth["statements"] <= GROWTH


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where a command costs more statements with more devices."""
    parser = argparse.ArgumentParser(prog="python -m proofs.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("devices", nargs="*", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--each", type=int, default=EACH, help="commands for each device")
    parser.add_argument("--no-settings", action="store_true", help="leave out the table of other settings")
    parser.add_argument("--watched", action="store_true", help="only what alerts, Home Assistant and onlookers cost")
    parser.add_argument("--shared", action="store_true", help="only relays that share a ledger in PostgreSQL")
    parser.add_argument("--light", action="store_true", help="only light devices, with two relays on PostgreSQL")
    parser.add_argument("--person", action="store_true", help="only what a person waits for, with 20,000 devices")
    parser.add_argument("--profile", action="store_true", help="only where the relay's CPU goes")
    parser.add_argument("--devices", dest="more", nargs="+", type=int, help="as the argument")
    asked = parser.parse_args(arguments)
    asked.devices = asked.more or asked.devices
    if asked.watched:
        return 0 if looked_on(min(asked.devices), asked.each) else 1
    if asked.light:
        for count in asked.devices:
            say(f"{count} light devices, two relays on PostgreSQL")
            light.measure(count, light.EACH, say)
        return 0
    if asked.person:
        return int(sum(person.measure(kind, say) for kind in ("sqlite", "postgresql")) > 0)
    if asked.profile:
        with tempfile.TemporaryDirectory() as folder:
            parts.measure(max(asked.devices), asked.each, say, Path(folder))
        return 0
    if asked.shared:
        shared(min(asked.devices))
        return 0
    found = sizes(asked.devices, asked.each)
    telemetry(asked.devices)
    if not asked.no_settings:
        settings(TRIED, asked.each)
    pruning()
    looked_on(TRIED, asked.each)
    return 0 if verdict(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
