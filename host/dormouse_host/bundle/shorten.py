"""Private names made short: `_batches` is one or two letters on the board.

Must stay true: only names that begin with an underscore and that the agent itself defines are touched, the same name
everywhere in the same way; what others see or say (`command`, `limit`, a port's methods, JSON keys) keeps its name.
"""

import ast
import itertools
import keyword
import string
from collections import Counter
from collections.abc import Iterator

from dormouse_host.bundle.scopes import Modules

_FIELDS = (
    (ast.Name, "id"),
    (ast.Attribute, "attr"),
    (ast.arg, "arg"),
    (ast.keyword, "arg"),
    (ast.FunctionDef, "name"),
    (ast.ClassDef, "name"),
    (ast.ExceptHandler, "name"),
    (ast.alias, "name"),
    (ast.alias, "asname"),
)


def shorten(files: Modules, kept: dict[str, str]) -> dict[str, str]:
    """Rename in place. `kept` says which names get a given one. Returns every old name's new one."""
    uses = Counter(name for tree in files.values() for _, _, name in _identifiers(tree))
    taken = {*uses, *kept.values(), *keyword.kwlist, *dir(__builtins__)}
    short = (name for name in _names() if name not in taken)
    own = {name for tree in files.values() for name in _defined(tree)}
    new = {name: kept.get(name) or next(short) for name, _ in uses.most_common() if name in own and _private(name)}
    for tree in files.values():
        for node, field, name in list(_identifiers(tree)):
            setattr(node, field, new.get(name, name))
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                node.names = [new.get(name, name) for name in node.names]
    return new


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _identifiers(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    for node in ast.walk(tree):
        for kind, field in _FIELDS:
            if isinstance(node, kind) and isinstance(name := getattr(node, field), str):
                yield node, field, name


def _defined(tree: ast.Module) -> Iterator[str]:
    """Names that the agent gives to something of its own: another's private attribute is not among them."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(name=name, asname=asname) if _private(asname or name):
                yield asname or name


def _names() -> Iterator[str]:
    letters = string.ascii_letters + "_"
    yield from letters
    for first, second in itertools.product(letters, letters + string.digits):
        yield first + second
