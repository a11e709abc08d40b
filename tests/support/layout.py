"""The rules of layout, as functions from a source to the breaches in it; test_layout.py applies them.

Must stay true: a rule reads the source and imports nothing of it; a breach is one line with the place and the rule.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

HARDWARE = {"machine", "network", "esp32", "rp2"}
SOCKETS = {"socket", "select", "ssl", "tls", "usocket", "uselect", "ussl"}
LONGEST = 400  # lines of one file

# Where a package, a download or a mirror would be named: such a thing is derived from the machine, never written down.
_REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|npmjs)\.(?:org|io|com)|(?:deb|archive|ports|security)\.(?:debian|ubuntu)\.", re.I
)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Import(NamedTuple):
    """One imported module, absolute, and whether it is imported when the importing module is."""

    line: int
    name: str
    at_once: bool


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every module that the code of a module in `package` imports, wherever in it."""
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) for child in ast.walk(node)}
    for node in ast.walk(tree):
        for name in _named(node, package):
            yield Import(getattr(node, "lineno", 0), name, id(node) not in inside)


def _named(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names] if base == "dormouse" else [base]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "__import__" and isinstance(node.args[0], ast.Constant):
        return [str(node.args[0].value)]
    return []


def wrong_imports(module: str, source: str) -> list[str]:
    """Imports of what `module` ("inbox", "ports.posix", "__init__") has to get as an argument."""
    is_port = module.startswith("ports")
    found = []
    for line, name, _ in imports(ast.parse(source), "dormouse.ports" if is_port else "dormouse"):
        top = name.partition(".")[0]
        if top in HARDWARE and not is_port:
            found.append(f"{module}:{line}: only ports/ imports {top}")
        if top in SOCKETS and not is_port and module not in ("link", "tls"):
            found.append(f"{module}:{line}: only link.py, tls.py and ports/ import {top}")
        if top == "umqtt" and module != "session":
            found.append(f"{module}:{line}: only session.py imports umqtt")
    return found


def imported_at_once(sources: dict[str, str], start: str) -> set[str]:
    """The modules of the agent that are loaded once `start` is; `sources` maps their names to their sources."""
    loaded: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in sources and module not in loaded:
            loaded.add(module)
            names = [name for _, name, at_once in imports(ast.parse(sources[module]), "dormouse") if at_once]
            waiting += [name.split(".")[1] for name in names if name.startswith("dormouse.")]
    return loaded


def wrong_statements(place: str, source: str, may_print: bool) -> list[str]:
    """Asserts, bare excepts, prints where there should be none, and a missing first paragraph."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else [f"{place}: no docstring at its start"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"{place}:{node.lineno}: assert vanishes in optimised bytecode")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{place}:{node.lineno}: bare except")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and not may_print:
            found.append(f"{place}:{node.lineno}: print in a library")
    return found


def wrong_console(module: str, source: str) -> list[str]:
    """The host's libraries return or raise; only the command line and the demo speak to a person."""
    if module in ("terminal", "lab.bench.table") or module.startswith(("cli.", "lab.demo")):
        return []
    names = imports(ast.parse(source), "dormouse_host")
    return [
        f"{module}:{line}: only cli and demo import {n}" for line, n, _ in names if n.split(".")[0] in ("rich", "typer")
    ]


def too_long(place: str, source: str) -> list[str]:
    """A file that should be two."""
    lines = len(source.splitlines())
    return [f"{place}: {lines} lines, more than {LONGEST}"] if lines > LONGEST else []


def registry_hosts(place: str, text: str) -> list[str]:
    """Lines that name a package registry's host."""
    return [
        f"{place}:{n}: names a registry's host" for n, line in enumerate(text.splitlines(), 1) if _REGISTRY.search(line)
    ]


def targets(makefile: str) -> set[str]:
    """The targets that a person can ask for."""
    return {name for names in re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE) for name in names.split()}


def unmentioned(text: str, command: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that a text shows in no `command NAME`."""
    return [name for name in sorted(names) if not re.search(rf"\b{command} {re.escape(name)}(?![\w-])", text)]
