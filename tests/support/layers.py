"""Layers of a package: who imports whom, read from the sources, hidden imports included.

Must stay true: a source is read and never run; an import counts wherever it stands, also inside a function, and also
where it is `__import__` of a text.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Edges = dict[str, set[str]]

# From the bottom upward: a module of the device imports only from the layers below its own.
# A new module says here where it belongs.
DEVICE = (
    {"errors", "faults", "ports", "ports.cpython_tls", "ports.sntp"},
    {"protocol", "signing", "ports.lan", "ports.radio", "ports.storage"},
    {"codec", "guard"},
    {"app", "config", "credentials", "journal"},
    {"log", "pieces", "records", "state", "update", "window"},
    {"ports.board"},
    {"builtins", "inbox", "readings", "report", "ports.esp32", "ports.rp2"},
    {"admit", "results", "runner"},
    {"link", "session", "tls"},
    {"connection"},
    {"agent"},
    {"ports.boot", "ports.posix"},  # a board's boot, and a process's: each makes its port and starts the agent with it
    {"__init__"},
)


# Of the host, from the bottom to the top: a layer, and the layers that it may import. A module at the top level of the
# package belongs to `base`, if it is not one of FLEET, the library.
HOST: dict[str, set[str]] = {
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
    "emulated": {"base", "flash", "virtual"},
    "lab": {"base", "bundle", "agent", "broker", "ledger", "fleet", "flash", "virtual"},
    "desk": {"base", "broker", "ledger", "relay", "fleet", "flash", "lab"},
    "web": {"base", "ledger", "fleet", "desk"},
    "cli": {
        *("base", "agent", "broker", "fleet", "broker_check", "flash", "virtual", "emulated", "lab", "desk", "web")
    },
}
FLEET = {
    *(
        "__init__",
        "async_calls",
        "async_events",
        "async_fleet",
        "async_releases",
        "async_sights",
        "fleet",
        "orders",
        "releases",
    ),
    *("rotation", "sights", "upkeep"),
}


def sources(folder: Path) -> dict[str, str]:
    """Dotted name below the package -> source; the package itself is `__init__`, one inside it goes by its folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def edges(texts: Mapping[str, str], package: str) -> Edges:
    """Module -> modules of the package that it imports."""
    return {name: set(_imported(name, text, texts, package)) - {name} for name, text in texts.items()}


def _imported(name: str, text: str, known: Mapping[str, str], package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases):
                yield from (_inside(alias.name, known, package) for alias in aliases if _ours(alias.name, package))
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = _absolute(name, known, package, module, level)
                if _ours(base, package):
                    yield from (_inside(f"{base}.{alias.name}", known, package) for alias in aliases)
            case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=str(module)), *_]):
                if _ours(module, package):
                    yield _inside(module, known, package)


def _ours(dotted: str, package: str) -> bool:
    return dotted == package or dotted.startswith(package + ".")


def _absolute(name: str, known: Mapping[str, str], package: str, module: str | None, level: int) -> str:
    if not level:
        return module or ""
    inner = [] if name == "__init__" else name.split(".")
    is_package = name == "__init__" or any(other.startswith(name + ".") for other in known)
    parents = [package, *inner][: len(inner) + 1 - (level - is_package)]
    return ".".join([*parents, *filter(None, [module])])


def _inside(dotted: str, known: Mapping[str, str], package: str) -> str:
    """The module that a dotted name stands for, or stands in."""
    inner = dotted.removeprefix(package).removeprefix(".")
    while inner and inner not in known:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def circles(graph: Edges) -> list[list[str]]:
    """Groups of modules that reach each other."""
    reached = {name: _reach(name, graph) for name in graph}
    found = {tuple(sorted({name} | {o for o in reached[name] if name in reached[o]})) for name in graph}
    return sorted(list(group) for group in found if len(group) > 1)


def _reach(name: str, graph: Edges) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def upward(graph: Edges, layers: Sequence[set[str]]) -> list[str]:
    """Imports that do not point downward, and modules that are in no layer or are no longer there."""
    rank = {name: n for n, layer in enumerate(layers) for name in layer}
    found = [f"{name} is in no layer" for name in sorted(set(graph) - set(rank))]
    found += [f"{name} is no module" for name in sorted(set(rank) - set(graph))]
    for name, imported in sorted(graph.items()):
        for other in sorted(imported):
            if name in rank and rank.get(other, -1) >= rank[name]:
                found.append(f"{name} imports {other}, which is not below it")
    return found


def layer(module: str) -> str:
    """The layer of a module of the host."""
    top = module.partition(".")[0]
    return "fleet" if module in FLEET else top if top in HOST else "base"


def breaches(graph: Edges) -> list[str]:
    """Imports of the host from a layer into one that it may not import."""
    pairs = [(module, other) for module, others in sorted(graph.items()) for other in sorted(others)]
    return [f"{a} imports {b}" for a, b in pairs if layer(b) not in {layer(a), *HOST[layer(a)]}]
