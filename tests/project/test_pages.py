"""README and docs/ hold: length, links, settings, exit codes, examples, and the page that is made from the help."""

import ast
import json
import re
import threading
import time
from pathlib import Path

import pytest

from dormouse import app, config, protocol
from dormouse_host.flash import project
from dormouse_host.fleet import Fleet
from dormouse_host.ledger.store import Incoming
from project import cli_page
from support import pages

HOST = pages.ROOT / "host" / "dormouse_host"
PAGES = [*pages.pages(), *sorted((pages.ROOT / "boards").rglob("*.md"))]


def test_the_readme_has_at_most_150_lines():
    assert len(pages.README.read_text().splitlines()) <= 150


def test_the_readme_leads_to_every_page():
    linked = {link.partition("#")[0] for link in pages.links(pages.README.read_text())}
    assert [file.name for file in sorted(pages.DOCS.glob("*.md")) if f"docs/{file.name}" not in linked] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(pages.ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(file):
    assert pages.dead(file, file.read_text()) == []


def test_every_file_of_the_repository_that_a_page_names_exists():
    text = "\n".join(file.read_text() for file in PAGES)
    named = set(re.findall(r"(?<![\w/.])(?:tests|host|device|docs)/[\w/]+\.(?:py|md|svg)\b", text))
    named.discard("tests/test_app.py")  # of a project that `dormouse init` makes
    assert len(named) > 5
    assert [name for name in sorted(named) if not (pages.ROOT / name).exists()] == []


@pytest.mark.parametrize("link", ["nowhere.md", "design.md#nowhere", "#nowhere", "../../elsewhere"])
def test_a_dead_link_is_found(link):
    assert pages.dead(pages.DOCS / "start.md", f"# Start\n\n[this]({link}) and [that](design.md)") == [link]


def test_the_page_of_commands_is_what_the_help_says():
    """If this fails: make docs."""
    assert cli_page.PAGE.read_text() == cli_page.page()


def test_every_setting_of_a_device_is_in_the_table_with_its_default():
    told: dict[str, str] = {}
    for names, defaults, *_ in pages.table(pages.page("devices").partition("## Secrets")[0], "key"):
        words = re.findall(r"`([^`]+)`", names)
        values = [value.strip("` ") for value in defaults.split(",")] if defaults else [""] * len(words)
        told |= dict(zip(words, values, strict=True))
    known = {key: str(default).replace("-", "−") for key, (default, *_) in config.KEYS.items()}
    assert told == {key: value.lower() if value in ("True", "False") else value for key, value in known.items()}


def test_every_secret_is_in_the_table():
    rows = pages.table(pages.page("devices").partition("## Secrets")[2], "key")
    named = {key for table in project.SECRETS.values() for key in table.values()} | {"command_key", "wifi"}
    assert pages.quoted([row[0] for row in rows]) == named


def test_every_variable_of_the_environment_is_named():
    used = set()
    for file in HOST.rglob("*.py"):
        used |= set(re.findall(r'"(DORMOUSE_[A-Z]+|MQTT_[A-Z]+|WIFI_[A-Z]+|MICROPYTHON|UMQTT)"', file.read_text()))
    assert len(used) > 6
    assert sorted(name for name in used if not re.search(rf"\b{name}\b", pages.text())) == ["DORMOUSE_CAUSE"]


def exit_codes() -> set[int]:
    """Those with which the host's errors end a command."""
    found = set()
    for file in HOST.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Error", "Exit")):
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    if isinstance(argument, ast.Constant) and type(argument.value) is int:
                        found.add(argument.value)
    return found


def test_every_exit_code_is_named():
    head = cli_page.PAGE.read_text().partition("## dormouse")[0]
    codes = {int(code) for code in re.findall(r"(?:^\| |\| |, )(\d+) ", head, re.MULTILINE)}
    assert {1, 2, 3, 4} <= exit_codes()
    assert exit_codes() - codes == set()


def test_the_built_in_commands_are_in_the_table():
    rows = pages.table(pages.page("apps"), "command")
    assert [row[0].strip("`") for row in rows] == list(protocol.STANDARD)


def code(name: str, holds: str) -> str:
    """The one Python example of a page that holds this text."""
    text = pages.README.read_text() if name == "README" else pages.page(name)
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if holds in block)
    return found


@pytest.mark.parametrize("name", ["README", "apps"])
def test_the_example_of_an_app_declares_what_it_shows(name):
    app.clear()
    try:
        exec(compile(code(name, "@command"), name, "exec"), {})
        assert app.catalogue() == [["water", [["s", "int"]], 60, False]]
        assert {reading: every for reading, (_, every) in app.readings.items()} == {"climate": 300}
    finally:
        app.clear()


@pytest.mark.parametrize("holds", ["    sent = fleet", "    sent = await"], ids=["Fleet", "AsyncFleet"])
def test_the_example_of_the_library_runs(tmp_path, monkeypatch, capsys, holds):
    """Nobody carries the command, so somebody else cancels it, and the example sees that."""
    monkeypatch.chdir(tmp_path)
    with Fleet("ledger.db") as fleet:
        fleet.add("greenhouse")
    canceller = threading.Thread(target=cancel_all, args=(tmp_path / "ledger.db",))
    canceller.start()
    example = code("library", holds)
    if "await" in example:
        body = "".join(f"    {line}\n" for line in example.splitlines())
        example = f"import asyncio\nasync def main():\n{body}asyncio.run(main())\n"
    exec(compile(example, "library", "exec"), {})
    canceller.join()
    assert capsys.readouterr().out == "cancelled\n"


def test_the_example_of_a_relay_runs_and_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    exec(compile(code("library", "relay.run"), "library", "exec"), {})
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "holds", ['with Fleet("ledger.db") as fleet, fleet.on', "async for"], ids=["Fleet", "AsyncFleet"]
)
def test_the_example_of_events_runs(tmp_path, monkeypatch, capsys, holds):
    """With a shorter timeout; what it waits for comes from elsewhere meanwhile."""
    monkeypatch.chdir(tmp_path)
    with Fleet("ledger.db") as fleet:
        fleet.add("greenhouse")
    example = code("library", holds).replace("timeout=60", "timeout=2.5")
    if "async" in holds:
        body = "".join(f"    {line}\n" for line in example.splitlines())
        example = f"import asyncio\nasync def main():\n{body}asyncio.run(main())\n"
    writer = threading.Thread(target=wake_up, args=(tmp_path / "ledger.db",))
    writer.start()
    exec(compile(example, "library", "exec"), {})
    writer.join()
    name, _, last = capsys.readouterr().out.rstrip("\n").partition(" ")
    assert last == "queued" and len(name) == 10 if "async" in holds else (name, last) == ("wake", "greenhouse")


def wake_up(ledger: Path) -> None:
    """A command and a wake, once somebody listens."""
    time.sleep(1)
    with Fleet(str(ledger)) as fleet:
        fleet.send("greenhouse", "ping")
        report = json.dumps({"wake": 1, "state": "s1"}).encode()
        fleet.ledger.take([Incoming("greenhouse", "up/wake", report)], None)


def cancel_all(ledger: Path) -> None:
    """Cancel the first command that comes into the ledger."""
    with Fleet(str(ledger)) as fleet:
        for _ in range(300):
            for view in fleet.ledger.views("greenhouse"):
                if view.pending:
                    name = next(line.text.split()[0] for line in fleet.log("greenhouse") if line.kind == "command")
                    fleet.cancel(name)
                    return
            time.sleep(0.1)
