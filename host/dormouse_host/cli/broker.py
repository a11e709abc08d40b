"""CLI commands for the broker and for credentials: the `broker` group, provision, revoke, rotate, sign.

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
from dormouse_host.cli.options import Db, Json, ledger_here, opened, seconds_until
from dormouse_host.errors import HostError

if TYPE_CHECKING:
    from dormouse_host.broker.folder import BrokerFolder
    from dormouse_host.broker_check.findings import Row

broker = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Run, set up or check a broker.")

Folder = Annotated[
    Path, typer.Option("--folder", envvar="DORMOUSE_BROKER_FOLDER", help="The folder of `dormouse broker init`.")
]
Project = Annotated[Path, typer.Option(help="The project's folder, with dormouse.toml and `devices/`.")]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id.")]
PANEL = "Broker"
_FOLDER = Path("broker")
_MARKS = {"ok": "✓", "note": "·", "warning": "!", "broken": "✗", "not tried": "?"}


def register(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(broker, name="broker", rich_help_panel=PANEL)
    for command in (provision, revoke, rotate, sign):
        app.command(rich_help_panel=PANEL)(command)


def _open(folder: Path) -> "BrokerFolder":
    from dormouse_host.broker.folder import open_folder

    return open_folder(folder)


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
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="A host name or address of the broker, the one for devices first; may be repeated."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65534, help="The port for passwords; the next one is for certificates.")
    ] = 8883,
    relay: Annotated[str, typer.Option(help="The relay that gets a credential.")] = "main",
    queue: Annotated[int, typer.Option(min=1000, help="Messages that may queue for the relay.")] = 100_000,
    root: Annotated[str, typer.Option(help="The first levels of every topic.")] = "dormouse",
    user: Annotated[str | None, typer.Option(help="The user that mosquitto becomes when root starts it.")] = None,
    json: Json = False,
) -> None:
    """Create a folder for a mosquitto with TLS.

    Configuration, access rights, CA, server certificate and the relay's credential.
    """
    from dormouse_host.address import own_addresses
    from dormouse_host.broker import setup

    names = name or [socket.gethostname(), *own_addresses(), "localhost"]
    made = setup.init(folder, names, port=port, relay=relay, queue=queue, root=root, user=user)
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
        return
    for line in lines:
        terminal.line(line)


# ---- any broker


@broker.command()
def check(
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
    again = None if restart is None else lambda: _run_command(restart)
    long = None if asleep is None else seconds_until(asleep, time.time())
    if folder is not None:
        with trial(_open(folder), depth) as case:
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


# ---- devices


def provision(
    device: Device,
    folder: Folder = _FOLDER,
    project: Project = Path(),
    cert: Annotated[bool, typer.Option("--cert", help="Create a client certificate instead of a password.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Create a device's credential at the broker.

    Writes the files that `dormouse flash` puts on the board, and registers the device in the ledger if there is one
    here.
    """
    from dormouse_host.broker import credentials

    with ledger_here(db) as fleet:
        done = credentials.provision(_open(folder), device, project, cert=cert)
        if fleet:
            fleet.add(device)
        else:
            terminal.warn(f"no ledger here: register it where the relay runs, with dormouse devices add {device}")
    files = _names(done.folder)
    told = {"device": device, "folder": str(done.folder), "files": files, "broker_told": done.told}
    terminal.told(told, f"{device}: {', '.join(files)} in {done.folder}", json=json)
    _say_told(done.told)


def revoke(device: Device, folder: Folder = _FOLDER, json: Json = False) -> None:
    """Revoke a device's credential at once."""
    from dormouse_host.broker import credentials

    told = credentials.revoke(_open(folder), device)
    terminal.told({"device": device, "broker_told": told}, f"{device}: credential revoked", json=json)
    _say_told(told)


def rotate(
    device: Device,
    folder: Folder = _FOLDER,
    project: Project = Path(),
    within: Annotated[
        str | None, typer.Option(help="Stop waiting after 30s, 5m, 2h, 1d; the same call continues.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Replace a device's password or certificate by a command.

    The old one stays valid until the device has the new one. A call that was stopped is continued by the same call.
    """

    from dormouse_host import rotation

    def tell(name: str) -> None:
        terminal.told({"command": name}, f"{name} sent", json=json)

    patience = None if within is None else seconds_until(within, time.time())
    with opened(db) as fleet:
        done = rotation.rotate(_open(folder), fleet, device, project, patience, tell)
    text = f"{device} has the new {done.what}; the broker accepts no other from now on"
    terminal.told({"device": device, "rotated": done.what, "broker_told": done.told}, text, json=json)
    _say_told(done.told)


def sign(
    device: Device,
    project: Project = Path(),
    off: Annotated[bool, typer.Option("--off", help="Stop signing for this device.")] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Require signed commands of a device.

    The device signs its messages too. It gets its key at the next `dormouse flash`.
    """
    from dormouse_host.broker import credentials

    credentials.check_name(device)
    with opened(db) as fleet:
        if off:
            fleet.ledger.set_key(device, None)
            terminal.told({"device": device, "signed": False}, f"{device}: signing is off", json=json)
            return
        fleet.add(device)
        where, key = credentials.sign(device, project)
        fleet.ledger.set_key(device, key)
    text = f"{device}: command_key in {where / 'secrets.json'}; required once the device has signed with it"
    terminal.told({"device": device, "signed": True, "file": str(where / "secrets.json")}, text, json=json)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _say_told(told: bool) -> None:
    if not told:
        terminal.warn("the running broker has not reloaded its password file yet: send it SIGHUP")
