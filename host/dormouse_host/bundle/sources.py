"""The agent's modules as syntax trees, without what MicroPython never sees.

A tree does on MicroPython what its source does; only docstrings, annotations and branches for CPython are missing.
"""

import ast
from pathlib import Path

_BOARDS = ("esp32", "rp2")  # ports whose name is `sys.platform`, which the agent compares with these alone
_CPYTHON = "sys.implementation.name == 'cpython'"
_MICROPYTHON = "sys.implementation.name == 'micropython'"


def modules(folder: Path, port: str) -> dict[str, ast.Module]:
    """Dotted name -> tree of the package in `folder`; of the ports only `port`, and what it or the package imports."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = _Strip(name, port).visit(ast.parse(path.read_text(), str(path)))
    ports = {name for name in found if name.startswith(f"{folder.name}.ports")}
    wanted: set[str] = set()
    for name in (folder.name, f"{folder.name}.ports.{port}"):
        _reach(found, name, wanted)
    return {name: tree for name, tree in found.items() if name not in ports - wanted}


def _reach(found: dict[str, ast.Module], name: str, wanted: set[str]) -> None:
    if name not in found or name in wanted:
        return
    wanted.add(name)
    for node in ast.walk(found[name]):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                _reach(found, node.module or "", wanted)
                _reach(found, f"{node.module}.{alias.name}", wanted)


class _Strip(ast.NodeTransformer):
    """Drops docstrings, annotations, `__all__`, branches for CPython or another port; imports become absolute."""

    def __init__(self, module: str, port: str) -> None:
        self.module = module
        self.port = port
        self.flags: dict[str, bool] = {}  # module-level names that stand for "this is MicroPython"

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))] or [ast.Pass()]

    def visit_Module(self, node: ast.Module) -> ast.Module:
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if ast.unparse(value) == _MICROPYTHON:
                    self.flags[name] = True
        node.body = [s for s in node.body if not self._dropped(s)]
        self.generic_visit(node)
        node.body = self._block(node.body)
        return node

    def _dropped(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                return name == "__all__" or name in self.flags
        return False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        node.body = self._block(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.body = self._block(node.body)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value, lineno=node.lineno) if node.value else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level:  # the package __init__ aside, a module's level 1 is its own folder
            base = self.module.split(".")
            base = base[: len(base) - node.level] if self.module.count(".") else base
            node.module = ".".join([*base, *filter(None, [node.module])])
            node.level = 0
        return node

    def _known(self, test: ast.expr) -> bool | None:
        """The value of the test on MicroPython, if it is certain."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._known(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.Name) and test.id in self.flags:
            return True
        match test:
            case ast.Compare(left=ast.Attribute(value=ast.Name(id="sys"), attr="platform"), ops=[ast.Eq() | ast.In()]):
                named = ast.literal_eval(test.comparators[0])
                named = {named} if isinstance(named, str) else {*named}
                return self.port in named if named <= {*_BOARDS} else None
            case ast.BoolOp(op=ast.And(), values=values) if False in map(self._known, values):
                return False
        return {_CPYTHON: False, _MICROPYTHON: True}.get(ast.unparse(test))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.And):
            node.values = [value for value in node.values if self._known(value) is not True] or node.values[:1]
        return node if len(node.values) > 1 else node.values[0]

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        known = self._known(node.test)
        if known is None:
            return node
        return (node.body if known else node.orelse) or [ast.Pass()]

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(True), node) if node.id in self.flags else node
