"""`make docs`, its first half: docs/cli.md, written from `dormouse --help` of every command.

Must stay true: but for its first part the page is the help alone; the same help makes the same page on every machine.
"""

from typing import Any

import typer.main
import typer.testing

from dormouse_host.cli.app import app
from support import pages

PAGE = pages.DOCS / "cli.md"
_WIDTH = 100  # columns of the help
_HEAD = """# The command line

Every command with its options, as `--help` shows them. `make docs` writes this page.

`--json` gives JSON lines on stdout: one object a line, and no line for a list that is empty. An error is one line on
stderr. `dormouse --install-completion` has the shell complete commands, devices and what a device understands.

| exit code | |
|---|---|
| 0 | done |
| 1 | not done |
| 2 | usage error: bad arguments, an unknown device or id, a ledger that is newer or not one of ours |
| 130 | ended by Ctrl-C; 0 for `relay`, `watch`, `web`, `broker run` and `agent run --stay`, which end in order by it |

Some commands have more:

| command | |
|---|---|
| `dormouse status` | 3 the last report of a device shown names a fault of its program, or `--overdue` lists one |
| `dormouse alerts` | 3 an alert is open, 1 with `--test` also where a channel fails |
| `dormouse flash` | 3 wrong board or too old a MicroPython, 4 no board caught, 5 flashed but the first wake failed |
| `dormouse broker check` | 3 usable with warnings, 4 commands would be lost |
| `dormouse agent run` | 1 also where the state folder is in use, 2 configuration |

An option goes before the environment, and the environment before `dormouse.toml` in the working folder
([commented](../dormouse.example.toml)). A folder with that file is a project and has a ledger of its own, `ledger.db`.

| option | environment | `dormouse.toml` | |
|---|---|---|---|
| `--db` | `DORMOUSE_DB` | `db` | the ledger: a file, or `postgresql://user@host/name`; else of the project or user |
| `--broker` | `DORMOUSE_BROKER` | `broker` | `mqtt://host[:port]` or `mqtts://host[:port]` |
| | `DORMOUSE_ROOT` | `root` | first levels of every topic, `dormouse` |
| | `DORMOUSE_NOTIFY` | `[alerts]` `notify` | Apprise's URLs, to which [alerts](desk.md#alerts) go |
| | `DORMOUSE_WEBHOOK`, `DORMOUSE_WEBHOOK_KEY` | `[alerts]` `webhook`, `webhook_key` | a URL, and its key |
| | `DORMOUSE_CA` | | the CA that the host checks brokers against, in PEM or DER; else those the system trusts |
| | `DORMOUSE_CERT`, `DORMOUSE_KEY` | | the host's own certificate and key, in PEM, for a broker that asks for one |
| | `MQTT_USERNAME`, `MQTT_PASSWORD` | `[mqtt]` `user`, `password` | credentials at the broker |
| `--ssid` | `WIFI_PASSWORD` | `[wifi]` `ssid`, `password` | the Wi-Fi of the boards |
"""


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words that lead to every command and group below `group`, in the order of the help."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found.append((*path, name))
        if hasattr(command, "commands"):
            found += commands(command, (*path, name))
    return found


def shown(path: tuple[str, ...]) -> str:
    """The help of one command."""
    runner = typer.testing.CliRunner(env={"COLUMNS": str(_WIDTH), "TERMINAL_WIDTH": str(_WIDTH)})
    told = runner.invoke(app, [*path, "--help"], prog_name="dormouse", terminal_width=_WIDTH)
    return "\n".join(line.rstrip() for line in told.stdout.strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = [_HEAD, f"## dormouse\n\n```\n{shown(())}\n```\n"]
    for path in commands(typer.main.get_group(app)):
        parts.append(f"{'#' * (len(path) + 1)} dormouse {' '.join(path)}\n\n```\n{shown(path)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
