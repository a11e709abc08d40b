"""A virtual board offers nothing that the real one lacks: its modules as they are, against MicroPython's own stubs.

What stands in `_BEYOND` is on real boards though the stubs lack it; each with who says so.
"""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dormouse_host import virtual
from dormouse_host.flash import kinds
from dormouse_host.virtual.board import VirtualBoard
from support.needs import need_micropython, need_stubs

# The board, the version of MicroPython that it says it is, its port, and the stubs of that board and version.
KINDS = {
    "ESP32_GENERIC": ("1.25", "esp32", "esp32"),
    "ESP32_GENERIC_C6": ("1.29", "esp32", "esp32-newer"),
    "RPI_PICO_W": ("1.25", "rp2", "rp2"),
    "RPI_PICO2_W": ("1.29", "rp2", "rp2-newer"),
}
_BEYOND = {
    "socket.socket.ioctl": "how select and tls reach a socket that is made in Python: io.IOBase of the interpreter",
    "machine.ADC.__init__(atten=)": "MicroPython's documentation, Quick reference for the ESP32, ADC",
    "network.WLAN.connect(auth=)": "extmod/network_cyw43.c",
    "network.WLAN.connect(channel=)": "extmod/network_cyw43.c",
    "network.WLAN.connect(security=)": "extmod/network_cyw43.c",
    **{
        f"network.LAN.__init__({name}=)": "MicroPython's documentation, Quick reference for the ESP32, LAN"
        for name in ("mdc", "mdio", "reset", "power", "ref_clk")
    },
}
_LIST = """
import json
def names(thing):
    return [n for n in dir(thing) if n[0] != "_"]
def module(name):
    m = __import__(name)
    found = {}
    for n in names(m):
        v = getattr(m, n)
        found[n] = names(v) if isinstance(v, type) and not issubclass(v, BaseException) else None
    return found
for name in %r:
    try:
        print(json.dumps([name, module(name)]))
    except ImportError:
        print(json.dumps([name, None]))
"""
OURS = ("machine", "network", "esp32", "rp2", "time", "socket", "select", "os", "sys", "micropython", "ntptime", "ssl")


def interpreters_modules() -> list[str]:
    """All that this machine's interpreter can import by itself, and what it can't be hidden under: `uos`, `usys`, …"""
    found = need_micropython()
    help_text = subprocess.run([found.path, "-c", "help('modules')"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"[a-z_]\w*(?:/\w+)?", help_text.split("Plus any")[0])
    return sorted({name.split("/")[0] for name in listed} - {"__main__"})


class Stub:
    """One .pyi file: the names at its top and, for each class, its members with those of its bases."""

    def __init__(self, path: Path) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.names: set[str] = set()
        self._take(ast.parse(path.read_text()).body)

    def _take(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.If):
                self._take([*node.body, *node.orelse])
            elif isinstance(node, ast.ClassDef):
                self.classes.setdefault(node.name, node)
            self.names |= set(_named(node))

    def members(self, name: str) -> set[str]:
        """The members of a class; empty for what is no class here."""
        node = self.classes.get(name)
        if node is None:
            return set()
        found = {name for statement in node.body for name in _named(statement)}
        return found.union(*(self.members(ast.unparse(base).split("[")[0]) for base in node.bases))


def _named(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.ImportFrom | ast.Import):
        yield from ((alias.asname or alias.name) for alias in node.names)
    elif isinstance(node, ast.If):
        for inner in [*node.body, *node.orelse]:
            yield from _named(inner)


def stub(folder: Path, module: str) -> Stub | None:
    """The stub of a module, of the board's own part or of Python's library."""
    for place in (folder, folder / "stdlib"):
        for path in (place / f"{module}.pyi", place / module / "__init__.pyi"):
            if path.is_file():
                return Stub(path)
    return None


@pytest.fixture(scope="module", params=sorted(KINDS))
def offered(request, tmp_path_factory) -> tuple[str, str, dict[str, dict[str, list[str] | None] | None]]:
    """The port, its stubs, and what a program on the virtual board finds: module -> name -> members of a class."""
    version, port, stubs = KINDS[request.param]
    with VirtualBoard(request.param, tmp_path_factory.mktemp("board"), micropython=version) as board:
        board.wait_boot()
        wanted = sorted({*OURS, *interpreters_modules()})
        told = board.mpremote("exec", _LIST % wanted)
        return port, stubs, dict(json.loads(line) for line in told.splitlines())


def test_no_module_that_the_board_lacks(offered):
    """What only this machine's interpreter has can't be imported."""
    port, stubs, modules = offered
    folder = need_stubs(stubs)
    beyond = [name for name, found in modules.items() if found is not None and stub(folder, name) is None]
    assert beyond == []
    assert {name for name in OURS if modules[name] is None} == {"rp2" if port == "esp32" else "esp32"}


def test_no_name_and_no_member_that_the_board_lacks(offered):
    """In the modules that are ours: functions, constants, classes, methods."""
    _, stubs, modules = offered
    folder = need_stubs(stubs)
    beyond = []
    for module in OURS:
        known = stub(folder, module)
        for name, members in (modules[module] or {}).items():
            assert known
            if name not in known.names:
                beyond.append(f"{module}.{name}")
            elif members is not None and name in known.classes:
                beyond += [f"{module}.{name}.{member}" for member in set(members) - known.members(name)]
    assert sorted(set(beyond) - set(_BEYOND)) == []


def _arguments(node: ast.FunctionDef) -> tuple[set[str], bool]:
    """The names that may be given by keyword, and whether any others may, too."""
    arguments = node.args
    return {a.arg for a in [*arguments.args, *arguments.kwonlyargs]} - {"self"}, arguments.kwarg is not None


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_no_keyword_that_the_board_lacks(port):
    """Keyword-only arguments of our methods are keywords of the stub's, in one of its overloads."""
    folder = need_stubs(port)
    sources = kinds.folder() / "virtual" / "firmware"
    ours = {"network": f"vb_network_{port}.py", "machine": f"vb_{port}.py"}
    beyond = []
    for module, file in ours.items():
        known = stub(folder, module)
        assert known
        for kind in ast.parse((sources / file).read_text()).body:
            if not isinstance(kind, ast.ClassDef) or kind.name not in known.classes:
                continue
            for method in (node for node in kind.body if isinstance(node, ast.FunctionDef)):
                theirs = [
                    n for n in known.classes[kind.name].body if isinstance(n, ast.FunctionDef) and n.name == method.name
                ]
                allowed = {name for one in theirs for name in _arguments(one)[0]}
                if not any(_arguments(one)[1] for one in theirs):
                    beyond += [
                        f"{module}.{kind.name}.{method.name}({a.arg}=)"
                        for a in method.args.kwonlyargs
                        if a.arg not in allowed
                    ]
    assert sorted(set(beyond) - set(_BEYOND)) == []


def test_no_copy_of_the_agent_in_the_simulation():
    """Neither the firmware nor what stands around it imports anything of the agent."""
    found = []
    around = Path(virtual.__path__[0]).glob("*.py")
    for path in [*(kinds.folder() / "virtual").rglob("*.py"), *around]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] == "dormouse"]
    assert found == []
