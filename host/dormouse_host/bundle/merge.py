"""Modules into files: modules that are imported at once go into the file of their first importer.

The top levels run in an order in which each finds what it needs. A symbol is one object, whichever file uses it. What
cannot be carried over for certain raises Refused.
"""

import ast
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from dormouse_host.bundle.constants import Constants
from dormouse_host.bundle.scopes import Foreign, Modules, Names, Ours, Symbol, bound, imported, parameters

# Modules of MicroPython that a file on the board may extend. For each import of one, all of sys.path is searched first:
# 7 ms on a Pico. Under the old name, with a u, it is found at once, and no file of the program is taken for it.
_EXTENSIBLE = frozenset(
    [
        "array",
        "binascii",
        "collections",
        "errno",
        "hashlib",
        "io",
        "json",
        "machine",
        "os",
        "platform",
        "random",
        "re",
        "select",
        "socket",
        "struct",
        "time",
    ]
)


class Refused(Exception):
    """A source has a construct that merging could change; the text says where."""


def label(symbol: Symbol) -> str:
    """The one name of a symbol in all files, before shorten.py."""
    return f"_{symbol.module.replace('.', '_')}__{symbol.name}"


def plan(
    modules: Modules, first: Iterable[str], joined: Mapping[str, str] = MappingProxyType({})
) -> dict[str, list[str]]:
    """File (named as the module that asks for it) -> its modules in order. `first`: files loaded before others;
    `joined`: module -> file of another that is loaded with it or as seldom, though neither imports the other at once.
    """
    lazy = [m for m, tree in modules.items() for m in _imported(tree, modules) - _at_once(tree, modules)]
    placed: set[str] = set()
    files: dict[str, list[str]] = {}
    for root in dict.fromkeys([*first, *sorted(lazy)]):
        if joined.get(root) in modules:
            continue
        order: list[str] = []
        for module in [*(each for each in joined if joined[each] == root and each in modules), root]:
            _visit(module, modules, placed, order)
        if order:
            files[root] = order
    return files


def _at_once(tree: ast.Module, modules: Modules) -> set[str]:
    return _imported(
        ast.Module([s for s in tree.body if not isinstance(s, ast.FunctionDef | ast.ClassDef)], []), modules
    )


def _imported(tree: ast.Module, modules: Modules) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                meaning = imported(node.module or "", alias.name, modules)
                if not isinstance(meaning, Foreign):
                    found.add(meaning.module)
    return found


def _visit(module: str, modules: Modules, placed: set[str], order: list[str]) -> None:
    if module in placed:
        return
    placed.add(module)
    for needed in sorted(_at_once(modules[module], modules)):
        _visit(needed, modules, placed, order)
    order.append(module)


def merge(modules: Modules, names: Names, constants: Constants, files: dict[str, list[str]]) -> Modules:
    """One tree for each file of the plan."""
    home = {module: file for file, members in files.items() for module in members}
    return {file: _File(file, names, constants, home).tree(modules, members) for file, members in files.items()}


class _File:
    """The tree of one file; its imports from elsewhere are gathered on the way."""

    def __init__(self, name: str, names: Names, constants: Constants, home: dict[str, str]) -> None:
        self.name, self.names, self.constants, self.home = name, names, constants, home
        self.foreign: dict[Foreign, None] = {}
        self.borrowed: dict[Symbol, None] = {}

    def tree(self, modules: Modules, members: list[str]) -> ast.Module:
        body = [s for module in members for s in _Renamer(module, self).statements(modules[module].body)]
        head: list[ast.stmt] = []
        for module in dict.fromkeys(foreign.module for foreign in self.foreign):
            name = f"u{module}" if module in _EXTENSIBLE else module
            names = [each for each in self.foreign if each.module == module]
            if Foreign(module, None) in names:
                head.append(ast.Import([ast.alias(name, module if name != module else None)]))
            if aliases := [ast.alias(each.name, foreign_label(each)) for each in names if each.name is not None]:
                head.append(ast.ImportFrom(name, aliases, 0))
        for file in sorted({self.home[symbol.module] for symbol in self.borrowed}):
            aliases = [ast.alias(label(s)) for s in self.borrowed if self.home[s.module] == file]
            head.append(ast.ImportFrom(file, aliases, 0))
        return ast.fix_missing_locations(ast.Module([*head, *body], []))


def foreign_label(foreign: Foreign) -> str:
    """`from socket import socket` and `import socket` are different: only the module keeps its name."""
    return f"_foreign__{foreign.module.replace('.', '_')}__{foreign.name}"


class _Renamer(ast.NodeTransformer):
    """Gives every name of a module's top level its label; local names stay."""

    def __init__(self, module: str, file: _File) -> None:
        self.module, self.file = module, file
        self.scopes: list[set[str]] = []

    def statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """A block without the imports that merging has made unnecessary."""
        kept: list[ast.stmt] = []
        for statement in body:
            done = self.visit(statement)
            kept += done if isinstance(done, list) else [done] if done is not None else []
        return [s for s in kept if not isinstance(s, ast.Pass)] or ([ast.Pass()] if self.scopes else [])

    def _refuse(self, node: ast.AST, why: str) -> Refused:
        return Refused(f"{self.module}, line {getattr(node, 'lineno', 0)}: {why}: {ast.unparse(node)}")

    def _stands_for(self, meaning: Symbol | Foreign, node: ast.Name | ast.Attribute) -> ast.expr:
        if isinstance(meaning, Foreign):
            self.file.foreign[meaning] = None
            return ast.Name(meaning.module if meaning.name is None else foreign_label(meaning), node.ctx)
        if meaning in self.file.constants:
            return ast.Constant(self.file.constants[meaning])
        if self.file.home[meaning.module] != self.file.name:
            if self.scopes and not isinstance(node.ctx, ast.Load):
                raise self._refuse(node, "binds a name of another file")
            self.file.borrowed[meaning] = None
        return ast.Name(label(meaning), node.ctx)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if any(node.id in scope for scope in self.scopes):
            return node
        meaning = self.file.names.meaning(self.module, node.id)
        if meaning is None:
            return node
        if isinstance(meaning, Ours):
            raise self._refuse(node, "a module as a value")
        return self._stands_for(meaning, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        local = isinstance(node.value, ast.Name) and any(node.value.id in scope for scope in self.scopes)
        if isinstance(node.value, ast.Name) and not local:
            owner = self.file.names.meaning(self.module, node.value.id)
            if isinstance(owner, Ours):
                meaning = self.file.names.meaning(owner.module, node.attr)
                if not isinstance(meaning, Symbol | Foreign) or not isinstance(node.ctx, ast.Load):
                    raise self._refuse(node, "not a plain use of a symbol")
                return self._stands_for(meaning, node)
        node.value = self.visit(node.value)
        return node

    def _scoped(self, names: set[str], body: list[ast.stmt]) -> list[ast.stmt]:
        self.scopes.append(names)
        done = self.statements(body)
        self.scopes.pop()
        return done

    def _function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        self._defaults(node.args)
        node.body = self._scoped(parameters(node.args) | bound(node.body), node.body)
        return node

    def _defaults(self, arguments: ast.arguments) -> None:
        arguments.defaults = [self.visit(d) for d in arguments.defaults]
        arguments.kw_defaults = [d and self.visit(d) for d in arguments.kw_defaults]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if not self.scopes:
            node.name = label(Symbol(self.module, node.name))
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        self._defaults(node.args)
        self.scopes.append(parameters(node.args))
        node.body = self.visit(node.body)
        self.scopes.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if self.scopes:
            raise self._refuse(node, "a class inside a function")
        node.name = label(Symbol(self.module, node.name))
        node.bases = [self.visit(base) for base in node.bases]
        attributes = bound(node.body)
        body: list[ast.stmt] = []
        for statement in node.body:  # a method does not see the names of its class
            if isinstance(statement, ast.FunctionDef):
                body.append(self._function(statement))
            else:
                body += self._scoped(attributes, [statement])
        node.body = body
        return node

    def visit_Global(self, node: ast.Global) -> ast.Global:
        node.names = [label(Symbol(self.module, name)) for name in node.names]
        return node

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.expr:
        targets = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        node.generators[0].iter = self.visit(node.generators[0].iter)  # read in the scope outside
        self.scopes.append(targets)
        for at, generator in enumerate(node.generators):
            if at:
                generator.iter = self.visit(generator.iter)
            generator.ifs = [self.visit(test) for test in generator.ifs]
        for part in ("elt", "key", "value"):
            if hasattr(node, part):
                setattr(node, part, self.visit(getattr(node, part)))
        self.scopes.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        return node if self.scopes else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt] | None:
        if not self.scopes:
            return None  # at the top level: a name's meaning says it
        kept: list[ast.stmt] = []
        same: list[ast.stmt] = []
        for alias in node.names:
            meaning = imported(node.module or "", alias.name, dict.fromkeys(self.file.home, ast.Module([], [])))
            if isinstance(meaning, Foreign):
                return node
            if isinstance(meaning, Ours):
                raise self._refuse(node, "a module as a value")
            found = self.file.names.meaning(meaning.module, meaning.name)
            if not isinstance(found, Symbol) or found in self.file.constants:
                raise self._refuse(node, "not a symbol of that module")
            if self.file.home[found.module] == self.file.name:
                target = ast.Name(alias.asname or alias.name, ast.Store())
                same.append(ast.Assign([target], ast.Name(label(found), ast.Load())))
                continue
            alias = ast.alias(label(found), alias.asname or alias.name)
            kept.append(ast.ImportFrom(self.file.home[found.module], [alias], 0))
        return kept + same
