"""The command line is built on the library and on nothing else: what it can do, whoever embeds Fleet can do."""

import ast
import subprocess
import sys
from pathlib import Path

from dormouse import protocol
from support import layout

HOST = Path(__file__).resolve().parents[3] / "host" / "dormouse_host"
# The modules of the line that work on a fleet, and what each may know of our own beside the other ones of the line.
LINE = {"cli.commands", "cli.completion", "cli.fleet", "cli.keys", "cli.ledger", "cli.options", "cli.live"}
LINE |= {"cli.show", "cli.tables", "terminal"}
LIBRARY = {"figures", "fleet", "names", "near", "errors", "settings", "address", "flash.explain", "flash"}
LIBRARY |= {"broker.access", "broker.folder", "influx", "cli.alerts"}  # the relay takes its desk with it


def wrong(module: str, source: str) -> list[str]:
    """Imports of `module` that go past the library."""
    found = []
    for line, name, _ in layout.imports(ast.parse(source), "dormouse_host"):
        top, _, inner = name.partition(".")
        if top in ("sqlalchemy", "alembic", "paho", "sqlite3", "psycopg", "dormouse"):
            found.append(f"{module}:{line}: {name}")
        if top == "dormouse_host" and inner not in ("", "cli") and inner not in LINE | LIBRARY:
            found.append(f"{module}:{line}: {name}")
    return found


def names(source: str) -> list[str]:
    """`from dormouse_host import a, b` and `from dormouse_host.cli import c` as modules."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    found = [alias.name for node in nodes if node.module == "dormouse_host" for alias in node.names]
    return found + [f"cli.{alias.name}" for node in nodes if node.module == "dormouse_host.cli" for alias in node.names]


def test_the_command_line_is_built_on_fleet_and_on_nothing_else():
    sources = {module: (HOST / f"{module.replace('.', '/')}.py").read_text() for module in LINE}
    assert [breach for module, source in sources.items() for breach in wrong(module, source)] == []
    assert {name for source in sources.values() for name in names(source)} <= LINE | LIBRARY
    inside = [f"{module}: fleet.ledger" for module, source in sources.items() if ".ledger" in source]
    assert inside == [], "what Fleet keeps to itself is reached into"


def test_a_way_past_the_library_is_found():
    assert wrong("cli.commands", "from dormouse_host.ledger.store import Ledger")
    assert wrong("terminal", "def late():\n    import sqlalchemy")
    assert names("from dormouse_host import publisher") == ["publisher"]
    assert not wrong("cli.commands", "from dormouse_host.fleet import Fleet")


def test_the_line_loads_no_database_before_a_command_asks_for_it():
    """Help, completion and the commands for boards start without what only a ledger or a relay needs."""
    heavy = ("sqlalchemy", "alembic", "paho", "rich", "amqtt", "cryptography")
    code = f"import sys, dormouse_host.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_version_is_told_without_loading_the_commands():
    code = (
        "import atexit, runpy, sys\n"
        "sys.argv = ['dormouse', '--version']\n"
        "atexit.register(lambda: print([name for name in ('typer', 'ssl') if name in sys.modules]))\n"
        "runpy.run_module('dormouse_host.cli', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"dormouse {protocol.VERSION}\n[]\n"
