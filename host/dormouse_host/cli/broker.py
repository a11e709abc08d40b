"""CLI commands for the broker: the `broker` group.

No secret is an argument or a line of output. The result of a check is its exit code too.
"""

import json as json_text
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dormouse_host import terminal, written
from dormouse_host.cli.options import Folder, Json, open_folder, refuse, say_told, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.broker_check.findings import Row

broker = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Run, set up or check a broker.")

PANEL = "Broker"
_MARKS = {"ok": "✓", "note": "·", "warning": "!", "broken": "✗", "not tried": "?"}


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(broker, name="broker", rich_help_panel=PANEL)


# ---- a broker on this machine


@broker.command()
def run(
    lan: Annotated[bool, typer.Option("--lan", help="Accept the whole network, without a password.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that it listens on.")] = 1883,
    json: Json = False,
) -> None:
    """Run a mosquitto for tests until Ctrl-C.

    Its sessions are kept for the next run.
    """
    from dormouse_host.broker.local import TrialBroker
    from dormouse_host.processes import Stop

    stop = Stop()
    with stop.on((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)), TrialBroker(port, lan=lan) as running:
        if json:
            terminal.json_line({"broker": running.name, "urls": running.urls, "folder": str(running.folder)})
        else:
            terminal.line(f"{running.name}, sessions and log in {running.folder}")
            for url in running.urls:
                terminal.line(f"  {url}")
            terminal.warn(
                "anyone on this network can read and send everything" if lan else "only this machine can connect"
            )
        running.serve(stop.wait)


# ---- the broker's folder


@broker.command()
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="A host name or address of the broker, the one for devices first; may be repeated."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65533, help="The port for passwords; the next one is for certificates.")
    ] = 8883,
    relay: Annotated[str, typer.Option(help="The relay that gets a credential.")] = "main",
    queue: Annotated[int, typer.Option(min=1000, help="Messages that may queue for the relay.")] = 100_000,
    root: Annotated[str, typer.Option(help="The first levels of every topic.")] = "dormouse",
    user: Annotated[str | None, typer.Option(help="The user that mosquitto becomes when root starts it.")] = None,
    psk: Annotated[
        bool, typer.Option("--psk", help="Also listen for shared keys, at the port after these two.")
    ] = False,
    json: Json = False,
) -> None:
    """Create a folder for a mosquitto with TLS.

    Configuration, access rights, CA, server certificate and the relay's credential.
    """
    from dormouse_host.address import own_addresses
    from dormouse_host.broker import setup

    if os.geteuid() != 0:
        refuse(context, "user", why="needs root: started by anyone else, mosquitto stays that user")
    hosts = name or [socket.gethostname(), *own_addresses(), "localhost"]
    shared = port + 2 if psk else None
    made = setup.init(folder, hosts, port=port, psk_port=shared, relay=relay, queue=queue, root=root, user=user)
    told = {"names": made.names, "url": made.url(), "start": made.command, "relay": str(made.relay_file(relay))}
    relay_file, where = (shlex.quote(str(path)) for path in (made.relay_file(relay), folder))
    lines = (
        f"a broker for {', '.join(made.names)}; devices use {made.url()}",
        f"start it:   {made.command}",
        f"the relay:  set -a; . {relay_file}; set +a; dormouse relay --name {relay}",
        f"a device:   dormouse provision DEVICE --folder {where}",
    )
    if json:
        terminal.json_line(told)
    for line in () if json else lines:
        terminal.line(line)
    if why := setup.shut_out(made):
        terminal.warn(why)


Relay = Annotated[str, typer.Argument(metavar="NAME", help="The relay's name.")]
User = Annotated[str, typer.Argument(metavar="NAME", help="The user's name, which is no device's.")]


@broker.command("add-relay")
def add_relay(name: Relay, folder: Folder = Path("broker"), json: Json = False) -> None:
    """Add a relay, with a credential of its own.

    Each relay needs its own; relays that share a PostgreSQL ledger share the work.
    """
    from dormouse_host.broker import access

    made = open_folder(folder)
    added = access.add_relay(made, name)
    text = f"the relay:  set -a; . {shlex.quote(str(added.file))}; set +a; dormouse relay --name {name}"
    terminal.told({"relay": name, "file": str(added.file), "broker_told": added.told}, text, json=json)
    say_told(added.told, made)


@broker.command("remove-relay")
def remove_relay(name: Relay, folder: Folder = Path("broker"), json: Json = False) -> None:
    """Remove a relay's credential.

    `dormouse relay forget` ends the session that it leaves at the broker.
    """
    from dormouse_host.broker import access

    made = open_folder(folder)
    told = access.remove_relay(made, name)
    terminal.told({"relay": name, "broker_told": told}, f"relay {name}: credential removed", json=json)
    say_told(told, made)


@broker.command("add-user")
def add_user(
    name: User,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let it send no commands.")] = False,
    home: Annotated[bool, typer.Option("--home-assistant", help="Only the topics of Home Assistant.")] = False,
    folder: Folder = Path("broker"),
    json: Json = False,
) -> None:
    """Add a user, such as Grafana or Node-RED.

    It reads what every device says and sends commands, or with --read-only reads only. It has one connection at a time.
    """
    from dormouse_host.broker import access

    if home and read_only:
        raise HostError("use --read-only or --home-assistant, not both", 2)
    made = open_folder(folder)
    added = access.add_user(made, name, read_only=read_only, home=home)
    may = f"reads {made.root}/+/up/#" + ("" if read_only else f" and sends to {made.root}/+/down/cmd")
    may = "reads and writes homeassistant/#" if home else may
    text = f"{name} {may}: broker, user and password are in {added.file}"
    told = {
        "user": name,
        "read_only": read_only,
        "home_assistant": home,
        "file": str(added.file),
        "broker_told": added.told,
    }
    terminal.told(told, text, json=json)
    say_told(added.told, made)


@broker.command("remove-user")
def remove_user(name: User, folder: Folder = Path("broker"), json: Json = False) -> None:
    """Remove a credential of `dormouse broker add-user`."""
    from dormouse_host.broker import access

    made = open_folder(folder)
    told = access.remove_user(made, name)
    terminal.told({"user": name, "broker_told": told}, f"{name}: credential removed", json=json)
    say_told(told, made)


# ---- any broker


@broker.command()
def check(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="mqtt://[user@]host[:port] or mqtts://; also MQTT_PASSWORD and DORMOUSE_CA."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Instead of URL: the folder of a running broker; credentials are created."),
    ] = None,
    device: Annotated[
        list[Path] | None, typer.Option(help="secrets.json of a device that is not in use; give two.", exists=True)
    ] = None,
    depth: Annotated[int, typer.Option(min=100, max=200_000, help="The number of messages to queue.")] = 2000,
    restart: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="A command that kills the broker and starts it again, to test what it keeps."
        ),
    ] = None,
    slow: Annotated[
        float, typer.Option(min=1, max=60, help="A factor on all waiting times, for a broker that is far or busy.")
    ] = 1,
    asleep: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Also wait so long, 90s or 2h, and see whether a sleeper is still known."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write the URL and the settings that devices need there into dormouse.toml.")
    ] = False,
    json: Json = False,
) -> None:
    """Test what a broker keeps and whom it accepts.

    It uses throw-away clients, and names the settings with which devices work there.
    Exit codes: 0 all is well, 3 usable with warnings, 4 commands would be lost or devices refused.
    """
    from dormouse_host.address import parse
    from dormouse_host.broker_check import check as checks
    from dormouse_host.broker_check.findings import Case, trial

    if (url is None) == (folder is None):
        raise HostError("expected a URL, or --folder DIR", 2)
    if folder is not None:
        refuse(context, "device", why="means nothing with --folder, which has devices of its own")
    again = None if restart is None else lambda: _run_command(restart)
    long = None if asleep is None else seconds_until(asleep, time.time())
    if folder is not None:
        with trial(open_folder(folder), depth) as case:
            case.restart, case.slow, case.asleep = again, slow, long
            rows = _told(checks.check(case), json=json)
    else:
        host = parse(url or "", os.environ)
        devices = [parse(host.url, {**os.environ, **_secrets(path)}) for path in device or ()]
        case = Case(host, devices, depth=depth, restart=again, slow=slow, asleep=long)
        rows = _told(checks.check(case), json=json)
    if keep:
        _keep(case.host.url, checks.settings(rows), json=json)
    raise typer.Exit(checks.severity(rows))


def _keep(url: str, found: dict[str, Any], *, json: bool) -> None:
    """Write the broker's profile; a setting that an earlier check has found, and this one has not, is the default's."""
    from dormouse_host import profile
    from dormouse_host.settings import FILE

    path = Path.cwd() / FILE
    before = profile.told(written.toml(path)[0].get("broker"))
    values = {key: found.get(key, most) for key, most in profile.DEFAULTS.items() if key in found or key in before}
    changed = profile.keep(path, {"url": url, **values})
    if not json:
        terminal.line(f"{FILE}: {'written' if changed else 'nothing changed'}")


def _secrets(path: Path) -> dict[str, str]:
    try:
        said = json_text.loads(path.read_text())
        return {"MQTT_USERNAME": said["user"], "MQTT_PASSWORD": said["password"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise HostError(f"{path} has no user and password", 2) from None


def _run_command(command: str) -> None:
    try:
        subprocess.run(shlex.split(command), check=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise HostError(f"--restart: {error}", 2) from None


def _told(rows: Iterator["Row"], *, json: bool) -> list["Row"]:
    from dormouse_host.terminal import Console

    told = list(rows)
    if json:
        for row in told:
            terminal.json_line(asdict(row))
        return told
    console = Console()
    console.table(["", "test", "result"], [[_MARKS[row.grade], row.what, terminal.safe(row.seen)] for row in told])
    for row in told:
        if row.means and row.grade != "ok":
            console.line()
            console.line(f"{_MARKS[row.grade]} {row.what}: {row.means}")
            if row.setting:
                console.line(f"  {row.setting}")
    return told


@broker.command()
def trust(
    url: Annotated[str, typer.Argument(metavar="URL", help="mqtts://host[:port].")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Trust a CA that this machine does not know without asking: compare it first.")
    ] = False,
    json: Json = False,
) -> None:
    """Install a broker's CA for the devices of this project.

    Shows the broker's certificates with their fingerprints. A CA that this machine trusts is taken as it is; any other
    is taken after a question at a terminal, or with --yes. Writes broker-ca.pem and names it in dormouse.toml.
    """
    from dormouse_host import files, profile
    from dormouse_host import trust as certificates
    from dormouse_host.address import parse
    from dormouse_host.settings import FILE

    address = parse(url, {})
    if not address.tls:
        raise HostError("only a broker at mqtts:// has a certificate", 2)
    try:
        shown = certificates.ask(address.host, address.port)
    except OSError as error:
        raise HostError(f"broker {address}: {error.strerror or error}") from None
    for each in shown.chain:
        line = f"{certificates.name(each)}, until {each.not_valid_after_utc:%Y-%m-%d}, SHA-256"
        terminal.warn(f"shown: {line} {certificates.fingerprint(each)}")
    if why := shown.unfit():
        raise HostError(f"broker {address}: {why}", 2)
    known = certificates.anchor(shown, certificates.system())
    one = known or shown.chain[-1]
    if why := certificates.verified(address.host, address.port, one):
        raise HostError(f"broker {address}: {why}", 2)
    finger = certificates.fingerprint(one)
    if not known and not (yes or _confirmed(certificates.name(one), finger)):
        raise HostError("nothing was written: compare the fingerprint with the one that the broker's owner has")
    file = Path("broker-ca.pem")
    files.write(file, certificates.pem(one), files.PUBLIC)
    profile.keep(Path.cwd() / FILE, {"url": address.url, "ca": file.name})
    text = f"{file}: {certificates.name(one)}, SHA-256 {finger}; devices trust it from their next flash on"
    terminal.told({"file": str(file), "sha256": finger, "known": known is not None}, text, json=json)
    if not known:
        terminal.warn(f"for the relay and the other commands here: export DORMOUSE_CA={file.absolute()}")


def _confirmed(name: str, finger: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Trust {terminal.safe(name)}, SHA-256 {finger}?", err=True)
