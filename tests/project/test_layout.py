"""Hardware, sockets and umqtt.simple are imported in their places only; pages, `make help` and Makefile agree."""

import re
import subprocess
from pathlib import Path

import pytest

from support import layout, pages

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "device" / "dormouse"
HOST = ROOT / "host" / "dormouse_host"

ON_A_BOARD = {"lab.bench.plain", "lab.bench.nor"}  # scripts that run on MicroPython: what they print is their answer


def agent_modules():
    """Name, as `ports.posix`, and source of every module of the agent."""
    for file in sorted(AGENT.rglob("*.py")):
        yield ".".join(file.relative_to(AGENT).with_suffix("").parts), file.read_text()


def host_modules():
    for file in sorted(HOST.rglob("*.py")):
        yield ".".join(file.relative_to(HOST).with_suffix("").parts), file.read_text()


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks, those that match one of the patterns if there are any."""
    argv = ["git", "ls-files", "-z", "--", *patterns]
    names = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = (ROOT / name for name in names.split("\0") if name)
    return [file for file in files if file.is_file()]


def test_the_agent_imports_hardware_sockets_and_umqtt_in_their_places_only():
    """So that each part runs on a board, on the virtual board and in a plain test."""
    assert [breach for name, source in agent_modules() for breach in layout.wrong_imports(name, source)] == []


def test_a_wake_that_only_samples_loads_neither_link_nor_session():
    """They are the larger half of the agent, and a sampling wake never starts the radio."""
    loaded = layout.imported_at_once(dict(agent_modules()), "agent")
    assert "state" in loaded
    assert loaded.isdisjoint({"link", "session"})


def test_no_module_of_the_agent_is_too_long():
    assert [breach for name, source in agent_modules() for breach in layout.too_long(name, source)] == []


def test_no_python_file_is_too_long():
    """Of the agent, of the host, of the boards and of the tests themselves."""
    files = {folder: tracked(f"{folder}/*.py") for folder in ("device", "host", "tests", "boards")}
    assert all(files.values())
    texts = [(str(file.relative_to(ROOT)), file.read_text()) for found in files.values() for file in found]
    assert [breach for name, text in texts for breach in layout.too_long(name, text)] == []


def test_libraries_hold_no_assert_no_bare_except_no_print_and_say_what_they_keep():
    found = []
    for name, source in agent_modules():
        found += layout.wrong_statements(f"dormouse.{name}", source, may_print=name.startswith("ports."))
    for name, source in host_modules():
        found += layout.wrong_statements(f"dormouse_host.{name}", source, may_print=name in ON_A_BOARD)
        found += layout.wrong_console(name, source)
    assert found == []


def test_no_tracked_file_names_a_registry():
    """Where packages come from is the machine's business: its mirrors and its settings are used."""
    texts = ((file, file.read_text(errors="replace")) for file in tracked())
    assert [line for file, text in texts for line in layout.registry_hosts(file.name, text)] == []


def test_make_help_lists_every_target():
    help_text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = layout.targets((ROOT / "Makefile").read_text())
    assert {"help", "setup", "demo", "test", "lint"} <= targets
    assert layout.unmentioned(help_text, "make", targets) == []


def test_the_pages_show_every_target_and_no_other():
    targets = layout.targets((ROOT / "Makefile").read_text())
    assert layout.unmentioned(pages.text(), "make", targets) == []
    assert set(re.findall(r"(?:`|^ +\$? ?)make ([a-z][a-z-]*)", pages.text(), re.MULTILINE)) - targets == set()


@pytest.mark.parametrize(
    "module, source",
    [
        ("agent", "import machine"),
        ("agent", "def late():\n    from machine import Pin"),
        ("agent", "__import__('network')"),
        ("session", "import socket"),
        ("results", "from usocket import socket"),
        ("link", "from umqtt import simple"),
        ("agent", "import umqtt.simple"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert layout.wrong_imports(module, source) != []


@pytest.mark.parametrize(
    "module, source",
    [
        ("inbox", "from .errors import StorageError\nfrom dormouse.journal import Journal"),
        ("link", "import socket, select, ssl"),
        ("session", "from umqtt import simple"),
        ("ports.esp32", "import machine, network, socket\nfrom ..errors import LinkError"),
        ("__init__", "from dormouse.app import command"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert layout.wrong_imports(module, source) == []


def test_an_import_inside_a_function_does_not_count_as_loaded():
    late = {"agent": "from dormouse import a\ndef f():\n    from dormouse import b", "a": "from .c import x"}
    assert layout.imported_at_once({**late, "b": "", "c": ""}, "agent") == {"agent", "a", "c"}


@pytest.mark.parametrize(
    "body", ["assert x", "try:\n    x\nexcept:\n    pass", "def f():\n    print(x)"], ids=["assert", "except", "print"]
)
def test_a_wrong_statement_is_found(body):
    assert len(layout.wrong_statements("place", f'"""Law."""\n{body}', may_print=False)) == 1
    assert len(layout.wrong_statements("place", body, may_print=False)) == 2, "and so is the missing docstring"


def test_the_other_rules_can_fail():
    assert layout.wrong_console("relay", "from rich.table import Table") != []
    assert layout.too_long("place", "\n" * (layout.LONGEST + 1)) != []
    assert layout.too_long("place", "\n" * layout.LONGEST) == []
    assert layout.registry_hosts("place", "see https://pypi" + ".org/project/x") != []
    assert layout.unmentioned("run make test-all", "make", {"test"}) == ["test"]
    assert layout.targets(".PHONY: a b\n.PHONY: c\n") == {"a", "b", "c"}
