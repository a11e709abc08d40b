"""What a name in a module means: something local, a symbol of one of our modules, a module, or something foreign.

A name belongs to a module only where Python's scope rules say so.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass

Modules = dict[str, ast.Module]


@dataclass(frozen=True)
class Symbol:
    """A name that `module` defines at its top level."""

    module: str
    name: str


@dataclass(frozen=True)
class Foreign:
    """Something imported from outside of the package: `import module`, or `from module import name`."""

    module: str
    name: str | None


@dataclass(frozen=True)
class Ours:
    """One of our modules as a whole."""

    module: str


Meaning = Symbol | Foreign | Ours


def bound(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that these statements bind in their scope."""
    names: set[str] = set()
    elsewhere: set[str] = set()
    rest = list(nodes)
    while rest:
        node = rest.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                rest += node.decorator_list
                continue
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update((alias.asname or alias.name).split(".")[0] for alias in aliases)
            case ast.Global(names=given) | ast.Nonlocal(names=given):
                elsewhere.update(given)
        rest += ast.iter_child_nodes(node)
    return names - elsewhere


def parameters(arguments: ast.arguments) -> set[str]:
    """The names of a function's parameters."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {a.arg for a in (*every, arguments.vararg, arguments.kwarg) if a is not None}


class Names:
    """The top level of every module: what each of its names means, imports followed to the definition."""

    def __init__(self, modules: Modules) -> None:
        self._tables = {module: _table(module, tree, modules) for module, tree in modules.items()}

    def meaning(self, module: str, name: str) -> Meaning | None:
        """The meaning of a name that is not local in `module`; None for a built-in."""
        found = self._tables[module].get(name)
        while isinstance(found, Symbol) and found != Symbol(module, name):
            module, name = found.module, found.name
            found = self._tables[module].get(name)
        return found

    def attribute(self, module: str, node: ast.expr) -> Meaning | None:
        """The meaning of `a.b` or `a`, if it leads to a symbol through one of our modules."""
        if isinstance(node, ast.Name):
            return self.meaning(module, node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = self.meaning(module, node.value.id)
            if isinstance(owner, Ours):
                return self.meaning(owner.module, node.attr)
        return None


def _table(module: str, tree: ast.Module, modules: Modules) -> dict[str, Meaning]:
    table: dict[str, Meaning] = {}
    for statement in tree.body:
        match statement:
            case ast.ImportFrom(module=str(base), names=aliases):
                for alias in aliases:
                    table[alias.asname or alias.name] = imported(base, alias.name, modules)
            case ast.Import(names=aliases):
                for alias in aliases:
                    table[alias.asname or alias.name] = Foreign(alias.name, None)
            case _:
                table.update({name: Symbol(module, name) for name in bound([statement])})
    return table


def imported(base: str, name: str, modules: Modules) -> Meaning:
    """The meaning of `from base import name`."""
    if f"{base}.{name}" in modules:
        return Ours(f"{base}.{name}")
    return Symbol(base, name) if base in modules else Foreign(base, name)
