"""README, docs/ and the command line agree: every command is shown, and what is shown exists, down to the options."""

import re

import pytest
import typer.main
import typer.testing

from dormouse_host.cli import app
from support import pages

# What a person wrote: docs/cli.md is made from the help (tests/project/test_pages.py), and so explains no command.
WRITTEN = "\n".join(file.read_text() for file in pages.pages() if file.name != "cli.md")
_SHOWN = re.compile(r"\bdormouse ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")


def _walk(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _walk(command, (*path, name))


COMMANDS = dict(_walk(typer.main.get_group(app.app)))


def shown(line: str) -> list[tuple[str, ...]]:
    """The commands that a line of a page shows, longest path first found."""
    found: list[tuple[str, ...]] = []
    for first, second in _SHOWN.findall(line):
        groups = hasattr(COMMANDS.get((first,)), "commands")
        found.append((first, second) if groups and (first, second) in COMMANDS else (first,))
    return found


def code_lines() -> list[str]:
    """Lines that show commands: a shell's, or those with a command in backquotes."""
    return [
        line for line in WRITTEN.splitlines() if re.search(r"`dormouse [a-z]|^\s*\$ dormouse |^    dormouse ", line)
    ]


def test_every_command_is_explained():
    missing = [path for path in COMMANDS if not re.search(rf"dormouse {' '.join(path)}(?![\w-])", WRITTEN)]
    assert missing == []


def test_every_command_that_a_page_shows_exists():
    assert len(code_lines()) > 20
    assert [path for line in code_lines() for path in shown(line) if path not in COMMANDS] == []


def test_every_option_that_a_page_shows_with_a_command_exists():
    wrong = []
    for line in code_lines():
        known = {
            opt for path in shown(line) for one in COMMANDS[path].params for opt in (*one.opts, *one.secondary_opts)
        }
        wrong += [(opt, line) for opt in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line) if opt not in known]
    assert wrong == []


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(path):
    """What is cut off in a list of commands ends in three dots: its first sentence is too long."""
    told = typer.testing.CliRunner().invoke(app.app, [*path, "--help"], terminal_width=80).stdout
    assert told.startswith("Usage: ")
    assert [line for line in told.splitlines() if len(line) > 80] == []
    assert "..." not in told.partition("Commands:")[2]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_a_help_text(path):
    options = [one for one in COMMANDS[path].params if any(opt.startswith("--") for opt in one.opts)]
    assert [one.name for one in options if not getattr(one, "help", None)] == []


def test_the_exit_codes_are_in_the_help():
    told = typer.testing.CliRunner().invoke(app.app, ["--help"]).stdout
    assert re.search(r"0 done, 1 not done, 2 [a-z ]+, 130 after Ctrl-C", " ".join(told.split()))


def test_the_pages_show_both_ways_to_send():
    """A person with nothing but an MQTT client can command a device; with the ledger it is followed."""
    assert re.search(r"^\$ mosquitto_pub .*/down/cmd", WRITTEN, re.MULTILINE)
    assert re.search(r"^ *\$ dormouse send ", pages.README.read_text(), re.MULTILINE)


# What works on a fleet, that is on the ledger and through the relay. The others speak to a board or to a person.
FLEET = (
    "send",
    "result",
    "cancel",
    "resend",
    "status",
    "watch",
    "log",
    "export",
    "prune",
    "devices",
    "relay",
    "ledger",
)


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[0] in FLEET], ids=" ".join)
def test_every_command_on_the_fleet_speaks_json(path):
    if not hasattr(COMMANDS[path], "commands") or path == ("relay",):
        assert "--json" in {opt for one in COMMANDS[path].params for opt in one.opts}


def test_every_command_speaks_json():
    """For machines; a group without a command of its own only shows its help."""
    own = {path: command for path, command in COMMANDS.items() if not hasattr(command, "commands")}
    assert [path for path, command in own.items() if not any("--json" in p.opts for p in command.params)] == []


# Each line of a list of commands begins with one of these: it says what the command does.
VERBS = {
    *("Add", "Back", "Build", "Cancel", "Copy", "Create", "Delete", "Demonstrate", "Diagnose", "End", "Estimate"),
    *("Export", "Flash", "Follow", "Import", "Install", "List", "Measure", "Register", "Remove", "Reopen", "Replace"),
    *("Request", "Require", "Revoke", "Roll", "Run", "Send", "Set", "Show", "Start", "Test", "Update"),
    *("Watch", "Write"),
}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_line_of_a_command_is_an_imperative_of_at_most_ten_words(path):
    line = COMMANDS[path].get_short_help_str(200)
    assert line.split()[0].rstrip(",") in VERBS, line
    assert len(line.split()) <= 10, line


def test_the_help_groups_every_command_by_area():
    told = typer.testing.CliRunner().invoke(app.app, ["--help"]).stdout
    sections = re.findall(r"^(\w+):\n((?:  \w+ .*\n)+)", told, re.MULTILINE)
    areas = {name: re.findall(r"^  (\w+) ", lines, re.MULTILINE) for name, lines in sections if name != "Options"}
    assert list(areas) == ["Fleet", "Desk", "Commands", "Updates", "Boards", "Broker", "Lab"]
    assert sorted(name for names in areas.values() for name in names) == sorted(
        path[0] for path in COMMANDS if not path[1:]
    )
