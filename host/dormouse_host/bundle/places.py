"""Every place in the files where a name occurs, and what kind of name it is there.

The kind follows Python's scope rules. A name that is ambiguous (also a text, a built-in, a module, or an argument's
name) has no kind and is kept.
"""

import ast
import builtins
import itertools
import keyword
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from dormouse_host.bundle.merge import Refused
from dormouse_host.bundle.scopes import Modules, bound

_PREFIX = "_dormouse", "_foreign"  # of merge.py's labels


class Kind(Enum):
    """TOP: of a file's top level, the same in all files. ATTRIBUTE, LOCAL: to a function and what is in it."""

    TOP = auto()
    ATTRIBUTE = auto()
    LOCAL = auto()


@dataclass
class Place:
    """The name in `field` of `node` (in a list there: number `at`). `owner`: of an attribute the class, where it is
    one of `self`; of any other the outermost function, as a number; 0: outside of functions. `file`: that of a TOP.
    """

    node: ast.AST
    field: str
    kind: Kind
    owner: str | int | None = None
    at: int | None = None
    file: str = ""

    @property
    def name(self) -> str:
        """The name there now."""
        value = getattr(self.node, self.field)
        return str(value if self.at is None else value[self.at])

    @name.setter
    def name(self, name: str) -> None:
        if self.at is None:
            setattr(self.node, self.field, name)
        else:
            getattr(self.node, self.field)[self.at] = name


@dataclass
class Found:
    """All places of all files; what the agent's classes define; their bases; and every name that is kept."""

    places: list[Place] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)  # what each class defines or uses of itself
    in_classes: set[str] = field(default_factory=set)  # of TOP, those that a class's body reads
    bases: dict[str, list[str]] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=lambda: {*keyword.kwlist, *dir(builtins)})


def find(files: Modules, kept: dict[str, str], spoken: Iterable[str]) -> Found:
    """Look through `files`. The parameters of functions that `kept` or `spoken` name stay: a caller may name them.
    Refused where a local would hide what gets its name from `kept`.
    """
    found = Found()
    every = [node for tree in files.values() for node in ast.walk(tree)]
    for node in every:
        match node:
            case ast.keyword(arg=str(name)):
                found.fixed.add(name)
            case ast.Constant(value=str(text)):
                found.fixed.add(text)
                if "{" in text:  # "{0.name}".format(…)
                    found.fixed.update(re.findall(r"\w+", text))
            case ast.Import(names=aliases):
                found.fixed.update(alias.name for alias in aliases)
            case ast.ImportFrom(names=aliases):
                names = (alias.asname or alias.name for alias in aliases if not alias.name.startswith(_PREFIX))
                found.fixed.update(name for name in names if not name.startswith(_PREFIX))
    said = {*kept, *spoken}
    functions = [node for node in every if isinstance(node, ast.FunctionDef) and node.name in said]
    for function in functions:
        found.fixed.update(a.arg for a in _arguments(function.args))
    walker = _Walker(found, kept)
    for walker.file, tree in files.items():
        walker.visit(tree)
    return found


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    for a in (*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg):
        if a is not None:
            yield a


def _locals(nodes: Iterable[ast.AST]) -> set[str]:
    """The local names of a function, its inner functions included."""
    names: set[str] = set()
    for node in itertools.chain.from_iterable(map(ast.walk, nodes)):
        match node:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
                names.add(name)
    return names


def _is_static(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) in ("staticmethod", "classmethod") for decorator in function.decorator_list)


class _Walker(ast.NodeVisitor):
    """Records what it visits in `found`."""

    def __init__(self, found: Found, kept: dict[str, str]) -> None:
        self.found = found
        self.kept = kept
        self.file = ""
        self.owner: str | None = None  # the class that this is in
        self.me = ""  # what its method calls `self`
        self.members: set[str] = set()  # its attributes, where this is in its body and in no method
        self.function = 0  # number of the outermost function that this is in; 0: none
        self.functions = 0  # numbers given
        self.names: set[str] = set()  # local to it

    def _file(self, node: ast.AST, field: str, name: str, at: int | None = None) -> None:
        if name.startswith(_PREFIX):
            if self.kept.get(name) in self.names:
                raise Refused(f"a local hides {self.kept[name]}")
            if self.members:
                self.found.in_classes.add(name)
            self.found.places.append(Place(node, field, Kind.TOP, self.function, at, self.file))
        elif name in self.names and name not in self.found.fixed:
            self.found.places.append(Place(node, field, Kind.LOCAL, self.function, at))
        elif name in self.members:
            self._attribute(node, field, self.owner)
        else:
            self.found.fixed.add(name)

    def _attribute(self, node: ast.AST, field: str, owner: str | None) -> None:
        self.found.places.append(Place(node, field, Kind.ATTRIBUTE, owner))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._file(node, "name", node.name)
        self.found.bases[node.name] = [ast.unparse(base) for base in node.bases]
        for base in node.bases:
            self.visit(base)
        self.owner, self.members = node.name, bound(node.body)
        self.found.own |= self.members
        self.found.members[node.name] = set(self.members)
        for statement in node.body:
            self.visit(statement)
        self.owner, self.members = None, set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._file(node, "name", node.name)
        me = self.me
        if self.members:
            self.me = node.args.args[0].arg if node.args.args and not _is_static(node) else ""
        elif any(a.arg == me for a in _arguments(node.args)):
            self.me = ""  # another's
        for outside in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outside)
        self._scope([*_arguments(node.args)], node.body)
        self.me = me

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for outside in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outside)
        me = self.me
        if any(a.arg == me for a in _arguments(node.args)):
            self.me = ""
        self._scope([*_arguments(node.args)], [node.body])
        self.me = me

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self._scope([], list(ast.iter_child_nodes(node)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _scope(self, arguments: list[ast.arg], body: list[ast.stmt] | list[ast.expr] | list[ast.AST]) -> None:
        if self.function:
            for inside in (*arguments, *body):
                self.visit(inside)
            return
        self.functions += 1
        self.function, self.names = self.functions, _locals([*arguments, *body])
        members, self.members = self.members, set()
        for inside in (*arguments, *body):
            self.visit(inside)
        self.function, self.names, self.members = 0, set(), members

    def visit_Attribute(self, node: ast.Attribute) -> None:
        mine = self.owner is not None and isinstance(node.value, ast.Name) and node.value.id == self.me
        if mine and isinstance(node.ctx, ast.Store):
            self.found.own.add(node.attr)
        if mine:
            self.found.members[str(self.owner)].add(node.attr)
        self._attribute(node, "attr", self.owner if mine else None)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        self._file(node, "id", node.id)

    def visit_arg(self, node: ast.arg) -> None:
        self._file(node, "arg", node.arg)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._file(node, "name", node.name)
        self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> None:
        self._file(node, "name", node.name)
        if node.asname:
            self._file(node, "asname", node.asname)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        for at, name in enumerate(node.names):
            self._file(node, "names", name, at)

    visit_Nonlocal = visit_Global
