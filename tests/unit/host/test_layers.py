"""The layers of the host: which folder imports which, and no module imports itself over others.

Every import counts, those inside functions and those for type checkers included.
`python tests/unit/host/test_layers.py` prints the figures.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "dormouse_host"
HOST = Path(__file__).resolve().parents[3] / "host" / PACKAGE
# From the bottom to the top: a layer, and the layers that it may import. A module at the top level of the package
# belongs to `base`, if it is not named here.
LAYERS: dict[str, set[str]] = {
    "base": set(),
    "bundle": set(),
    "agent": {"base", "bundle"},
    "broker": {"base", "agent"},
    "ledger": {"base"},
    "relay": {"base", "broker", "ledger"},
    "fleet": {"base", "broker", "ledger", "relay"},
    "broker_check": {"base", "broker"},
    "flash": {"base", "agent"},
    "virtual": {"base", "agent", "broker", "ledger", "fleet", "flash"},
    "lab": {"base", "bundle", "agent", "broker", "ledger", "fleet", "flash", "virtual"},
    "cli": {"base", "agent", "broker", "fleet", "broker_check", "flash", "virtual", "lab"},
}
FLEET = {"", "async_fleet", "fleet", "orders", "rotation"}  # "": what the package itself offers


def sources() -> dict[str, str]:
    """Name below the package, as `cli.app`, "" for the package itself -> source."""
    found = {}
    for file in sorted(HOST.rglob("*.py")):
        parts = file.relative_to(HOST).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return found


@cache  # of 134 sources each planted import changes one
def imported(source: str, modules: frozenset[str]) -> frozenset[str]:
    """The modules of the package that a source imports anywhere in it."""
    return frozenset(_imported(source, modules))


def _imported(source: str, modules: frozenset[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.partition(".")[2] in modules else node.module or "" for name in whole]
        for name in names:
            top, _, inner = name.partition(".")
            if top == PACKAGE:
                yield inner


def arrows(texts: dict[str, str]) -> dict[str, frozenset[str]]:
    """Module -> what it imports of the package."""
    return {name: imported(text, frozenset(texts)) - {name} for name, text in texts.items()}


def layer(module: str) -> str:
    """The layer of a module."""
    top = module.partition(".")[0]
    return "fleet" if module in FLEET else top if top in LAYERS else "base"


def breaches(graph: dict[str, frozenset[str]]) -> list[str]:
    """Imports of a layer that may not be imported from there."""
    pairs = [(module, other) for module, others in sorted(graph.items()) for other in sorted(others)]
    return [f"{a} imports {b}" for a, b in pairs if layer(b) not in {layer(a), *LAYERS[layer(a)]}]


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Modules that import themselves over others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            members = [stack.pop()]
            while members[-1] != module:
                members.append(stack.pop())
            if len(members) > 1:
                found.append(sorted(members))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def test_no_module_of_the_host_imports_itself_over_others():
    assert circles(arrows(sources())) == []


def test_each_layer_of_the_host_imports_what_lies_below_it():
    assert breaches(arrows(sources())) == []


def test_the_layers_have_an_order():
    below: set[str] = set()
    for name, may in LAYERS.items():
        assert may <= below, name
        below.add(name)


@pytest.mark.parametrize(
    "module, line, wrong",
    [
        ("agent.mpy", "from dormouse_host.flash import kinds", "agent.mpy imports flash.kinds"),
        (
            "ledger.store",
            "def late():\n    from dormouse_host.relay.relay import Relay",
            "ledger.store imports relay.relay",
        ),
        ("relay.relay", "from dormouse_host import Fleet", "relay.relay imports "),
        ("terminal", "if TYPE_CHECKING:\n    import dormouse_host.fleet", "terminal imports fleet"),
        ("flash.flash", "from dormouse_host.cli.options import opened", "flash.flash imports cli.options"),
    ],
    ids=["module", "late", "package", "types", "symbol"],
)
def test_a_planted_import_of_a_higher_layer_is_found(module, line, wrong):
    texts = sources()
    texts[module] += f"\n{line}\n"
    assert breaches(arrows(texts)) == [wrong]


def test_a_planted_circle_is_found_though_it_hides_in_a_function():
    texts = sources()
    texts["flash.kinds"] += "\ndef late():\n    from dormouse_host.flash.flash import flash\n"
    (found,) = circles(arrows(texts))
    assert {"flash.flash", "flash.kinds", "flash.wire"} <= set(found)


if __name__ == "__main__":
    graph = arrows(sources())
    print(f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, {len(circles(graph))} circles")
