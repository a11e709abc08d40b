"""Removal of what nothing on the board uses, such as the host's half of a shared module.

Only definitions at the top level of a file, without a side effect and named nowhere else, are removed.
"""

import ast
from collections import Counter
from collections.abc import Container

from dormouse_host.bundle.scopes import Modules


def prune(files: Modules, kept: Container[str]) -> None:
    """Remove in place until everything that is left is used or in `kept`."""
    uses = Counter(name for tree in files.values() for name in _used(tree))
    gone = True
    while gone:
        gone = False
        for tree in files.values():
            for statement in list(tree.body):
                name = _defines(statement)
                if name is not None and name not in kept and not uses[name]:
                    tree.body.remove(statement)
                    uses.subtract(_used(ast.Module([statement], [])))
                    gone = True


def _used(tree: ast.Module) -> list[str]:
    """Names that occur, once for each time; a recursion does not count."""
    names = []
    for statement in tree.body:
        own = _defines(statement)
        for node in ast.walk(statement):
            match node:
                case ast.Name(id=name) | ast.alias(name=name) if name != own:
                    names.append(name)
    return names


def _defines(statement: ast.stmt) -> str | None:
    """The one name that the statement defines, if it does nothing else."""
    match statement:
        case ast.FunctionDef(name=name, decorator_list=[]) | ast.ClassDef(name=name, decorator_list=[]):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if not any(
            isinstance(node, ast.Call) for node in ast.walk(value)
        ):
            return name
    return None
