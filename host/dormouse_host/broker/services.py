"""Broker, relays and devices of this machine as services: systemd units, and a compose file.

What is written names this machine's own paths and programs, and no secret: passwords stay in the broker's folder, in
files that only their owner reads (`relay-NAME.env`, `ledger.env`). A service that fails is started again, unless its
configuration is wrong (exit code 2). Whatever stands in a path cannot become another setting.
"""

import json
import os
import pwd
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

from dormouse import protocol
from dormouse_host import files
from dormouse_host.agent import toolchain
from dormouse_host.broker.access import environment_text, read_environment
from dormouse_host.broker.credentials import DEVICES, check_name
from dormouse_host.broker.folder import BrokerFolder
from dormouse_host.errors import HostError

_PASSWORD_FILE = "postgresql.env"
_IMAGES = {"broker": "eclipse-mosquitto:2", "python": "python:3.12-slim", "postgresql": "postgres:16"}


@dataclass(frozen=True)
class Machine:
    """Where things are. `db`: the ledger, a URL or an absolute path; `user`: as whom relays and devices run, None: as
    the user whose services these are; `own`: of that user's own service manager, not of the system's.
    """

    made: BrokerFolder
    project: Path
    db: str
    user: str | None = None
    own: bool = False

    @property
    def ledger_file(self) -> Path:
        """The environment that names the ledger."""
        return self.made.path / "ledger.env"

    @property
    def ledger_folder(self) -> Path | None:
        """The folder of a SQLite ledger."""
        if self.db.startswith("postgresql"):
            return None
        return Path(self.db.removeprefix("sqlite:///")).parent


def relays(made: BrokerFolder, names: Iterable[str]) -> list[str]:
    """These relays, or all that have a credential. HostError where one has none."""
    wanted = list(names)
    for name in wanted:
        if not made.relay_file(name).is_file():
            raise HostError(f"relay {name} has no credential: dormouse broker add-relay {name}", 2)
    found = sorted(path.stem.removeprefix("relay-") for path in made.path.glob("relay-*.env"))
    return wanted or found


def name_ledger(machine: Machine, environment: Mapping[str, str]) -> bool:
    """Write the environment that names the ledger: its URL may hold a password, else that is the one in `environment`.
    False where PostgreSQL would get none.
    """
    values, password = {"DORMOUSE_DB": machine.db}, environment.get("PGPASSWORD")
    lacks = machine.db.startswith("postgresql") and urlsplit(machine.db).password is None
    if lacks and password:
        values["PGPASSWORD"] = password
    files.write(machine.ledger_file, environment_text(values))
    return not lacks or bool(password)


# ---- systemd


def systemd(machine: Machine, names: Iterable[str], devices: Iterable[str], app: Path) -> dict[str, str]:
    """Units by their file names: the broker, a relay for each name, and a device of this machine for each of `devices`,
    staying in memory. HostError where mosquitto is not installed, or a device lacks its program or its files.
    """
    mosquitto = toolchain.mosquitto()
    if mosquitto is None:
        raise HostError("mosquitto is not installed: apt-get install mosquitto")
    made = machine.made
    broker = {
        "ExecStart": _words([mosquitto, "-c", made.configuration]),
        "ExecReload": "/bin/kill -HUP $MAINPID",
        **_written(machine, made.broker),
    }
    if not machine.own and (owner := _owner(made)):
        broker["User"] = owner
    units = {"dormouse-broker.service": _unit(machine, "broker", broker, {})}
    after = {"Wants": "dormouse-broker.service", "After": "dormouse-broker.service postgresql.service"}
    for name in names:
        relay: dict[str, str | list[str]] = {
            "WorkingDirectory": _path(machine.project),
            "EnvironmentFile": [_path(made.relay_file(name)), _path(machine.ledger_file)],
            "ExecStart": _words([*_program(), "relay", "--name", name]),
            **_ours(machine, *filter(None, [machine.ledger_folder])),
        }
        units[f"dormouse-relay-{name}.service"] = _unit(machine, f"relay {name}", relay, after)
    run = ("agent", "run", app)
    for device in devices:
        _check_device(machine.project, device, app)
        agent = {
            "WorkingDirectory": _path(machine.project),  # with devices/, where `dormouse provision` puts its files
            "StateDirectory": f"dormouse/{device}",
            "ExecStart": _words([*_program(), *run, "--device", device], f"--state %S/dormouse/{device} --stay"),
            **_ours(machine),
        }
        units[f"dormouse-device-{device}.service"] = _unit(machine, f"device {device}", agent, {})
    return units


def _check_device(project: Path, device: str, app: Path) -> None:
    """A unit of a device that is not there would fail again and again."""
    if not (project / DEVICES / check_name(device)).is_dir():
        raise HostError(f"{device} has no credential in {project / DEVICES}: dormouse provision {device}", 2)
    if not (project / app).is_file():
        raise HostError(f"{app}: no such program: give --app, or make it with dormouse init", 2)


def _program() -> list[str]:
    """This very installation of dormouse."""
    beside = Path(sys.executable).with_name("dormouse")
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "dormouse_host.cli"]


def _ours(machine: Machine, *folders: Path) -> dict[str, str]:
    """What holds for a service of ours: exit code 2 is a mistake in the configuration, which no restart mends."""
    found = {"RestartPreventExitStatus": "2", "TimeoutStopSec": "30s", **_written(machine, *folders)}
    if not machine.own:
        found["CapabilityBoundingSet"] = ""
        if machine.user:
            found["User"] = machine.user
    return found


def _written(machine: Machine, *folders: Path) -> dict[str, str]:
    """A service of the system writes to these folders and to nothing else."""
    if machine.own:
        return {}
    found = {"ProtectSystem": "strict", "PrivateTmp": "yes"}
    return {**found, "ReadWritePaths": " ".join(_word(folder) for folder in folders)} if folders else found


def _unit(machine: Machine, what: str, service: Mapping[str, str | list[str]], order: Mapping[str, str]) -> str:
    online = "" if machine.own else "network-online.target"  # a user's own manager does not know it
    head = {
        "Description": f"Dormouse: {what}",
        "Wants": " ".join(filter(None, [online, order.get("Wants")])),
        "After": " ".join(filter(None, [online, order.get("After")])),
    }
    restart = {"Restart": "on-failure", "RestartSec": "5s", "NoNewPrivileges": "yes"}
    install = {"WantedBy": "default.target" if machine.own else "multi-user.target"}
    sections: dict[str, Mapping[str, str | list[str]]] = {
        "Unit": head,
        "Service": {**service, **restart},
        "Install": install,
    }
    lines = ["# Written by `dormouse service systemd` for this machine."]
    for name, values in sections.items():
        lines += ["", f"[{name}]"]
        for key, value in values.items():
            for one in value if isinstance(value, list) else [value]:
                if one or key == "CapabilityBoundingSet":
                    lines.append(f"{key}={one}")
    return "\n".join(lines) + "\n"


def _path(path: object) -> str:
    """A path as the only value of a setting: systemd.unit(5), specifiers."""
    text = str(path)
    if not text.isprintable():
        raise HostError(f"{text!a}: a path of a service has no control characters", 2)
    return text.replace("%", "%%")


def _word(path: object) -> str:
    """One of several words: systemd.syntax(7), quoting."""
    text = _path(path).replace("\\", "\\\\").replace('"', '\\"')
    return text if text and not set(text) & set(" ;'\"\\") else f'"{text}"'


def _words(words: Iterable[object], more: str = "") -> str:
    """A command line, in which nothing is a variable; `more` as it stands."""
    return " ".join([*(_word(word).replace("$", "$$") for word in words), *([more] if more else [])])


# ---- compose


def compose(machine: Machine, names: Iterable[str], *, postgresql: bool, wheel: Path | None) -> dict[str, str]:
    """compose.yaml and the Dockerfile of the relays' image. `wheel`: a wheel of Dormouse to install, else the release.

    All services use the network of this machine, so that the broker's names and addresses hold in containers too.
    """
    made = machine.made
    owner = made.path.stat()
    user, folder = f"{owner.st_uid}:{owner.st_gid}", str(made.path)
    services: dict[str, dict[str, object]] = {
        "broker": {
            "image": _IMAGES["broker"],
            "command": ["mosquitto", "-c", str(made.configuration)],
            "user": "0:0" if owner.st_uid == 0 else user,
            "network_mode": "host",
            "volumes": [f"{folder}:{folder}"],  # under the path that its configuration names
            "restart": "unless-stopped",
            "healthcheck": _health(["CMD", "nc", "-z", "127.0.0.1", str(made.ports[0])]),
        }
    }
    needs = {"broker": {"condition": "service_healthy"}}
    if postgresql:
        services["postgresql"] = {
            "image": _IMAGES["postgresql"],
            "env_file": str(made.path / _PASSWORD_FILE),
            "ports": ["127.0.0.1:5432:5432"],
            "volumes": ["ledger:/var/lib/postgresql/data"],
            "restart": "unless-stopped",
            "healthcheck": _health(["CMD", "pg_isready", "-U", "dormouse", "-d", "dormouse"]),
        }
        needs["postgresql"] = {"condition": "service_healthy"}
    ledger = [f"{machine.ledger_folder}:{machine.ledger_folder}"] if machine.ledger_folder else []
    for name in names:
        services[f"relay-{name}"] = {
            "build": ".",
            "command": ["dormouse", "relay", "--name", name],
            "user": user,
            "network_mode": "host",
            "env_file": [str(made.relay_file(name)), str(machine.ledger_file)],
            "volumes": [f"{made.ca}:{made.ca}:ro", *ledger],
            "restart": "unless-stopped",
            "depends_on": needs,
            "healthcheck": _health(["CMD", "dormouse", "relay", "check", name]),
        }
    whole: dict[str, object] = {"services": services}  # without `name`, which docker-compose 1 does not take
    if postgresql:
        whole["volumes"] = {"ledger": {"name": "dormouse_ledger"}}  # whatever the folder is called
    package = f"dormouse-mqtt[postgresql]=={protocol.VERSION}" if wheel is None else f"/tmp/{wheel.name}[postgresql]"
    lines = [f"FROM {_IMAGES['python']}", *([] if wheel is None else [f"COPY {wheel.name} /tmp/"])]
    lines.append(f"RUN pip install --no-cache-dir {shlex.quote(package)}")
    head = "# Written by `dormouse service compose` for this machine.\n"
    return {"compose.yaml": head + "\n".join(_yaml(whole)) + "\n", "Dockerfile": head + "\n".join(lines) + "\n"}


def database_of_compose(made: BrokerFolder) -> str:
    """The URL of the ledger in the PostgreSQL of `compose`, whose password is made once."""
    path = made.path / _PASSWORD_FILE
    said = read_environment(files.read(path, ""))
    if not said.get("POSTGRES_PASSWORD"):
        said = {"POSTGRES_USER": "dormouse", "POSTGRES_DB": "dormouse", "POSTGRES_PASSWORD": token_urlsafe(24)}
        files.write(path, environment_text(said))
    return f"postgresql://dormouse:{said['POSTGRES_PASSWORD']}@127.0.0.1:5432/dormouse"


def _health(test: list[str]) -> dict[str, object]:
    return {"test": test, "interval": "30s", "timeout": "10s", "retries": 3, "start_period": "30s"}


def _yaml(value: Mapping[str, object], indent: str = "") -> list[str]:
    """A mapping as YAML: keys of ours, values as JSON, which YAML takes as it is. `$` is no variable."""
    lines = []
    for key, one in value.items():
        if isinstance(one, Mapping) and one:
            lines += [f"{indent}{key}:", *_yaml(one, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(one).replace('$', '$$')}")
    return lines


def _owner(made: BrokerFolder) -> str:
    """Whose the broker's folder is, if not root's: as another user mosquitto could not read it. One of root's names the
    user itself that mosquitto becomes.
    """
    number = made.path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name if number else ""
    except KeyError:
        return str(number)


def user_of_services() -> str | None:
    """The user whom services of the system run as: who calls this, unless that is root."""
    return None if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
