"""Names of a module that stand for a number or a text: each use becomes the value, and the name is removed.

Only a name that is bound once, at the top level, counts as constant.
"""

import ast
import operator
import struct
from collections import Counter
from collections.abc import Callable

from dormouse_host.bundle.scopes import Modules, Names, Symbol, bound

Value = int | float | str | bytes | None
Constants = dict[Symbol, Value]
_NUMBERS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}


class _NotConstant(Exception):
    pass


def take_out(modules: Modules, names: Names) -> Constants:
    """Every constant of `modules`; their assignments are removed from the trees."""
    found: Constants = {}
    times = {module: _times_bound(tree) for module, tree in modules.items()}
    before = -1
    while len(found) != before:  # one constant may rest on another
        before = len(found)
        for module, tree in modules.items():
            tree.body = [s for s in tree.body if not _take(s, module, names, times[module], found)] or [ast.Pass()]
    return found


def _times_bound(tree: ast.Module) -> Counter[str]:
    times = Counter(name for statement in tree.body for name in bound([statement]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            times.update(node.names)
    return times


def _take(statement: ast.stmt, module: str, names: Names, times: Counter[str], found: Constants) -> bool:
    if not isinstance(statement, ast.Assign):
        return False
    try:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pairs = [(name, _value(value, module, names, found))]
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = [
                    (t.id, _value(v, module, names, found))
                    for t, v in zip(targets, values, strict=True)
                    if isinstance(t, ast.Name)
                ]
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Call(func=ast.Name(id="range"), args=args)):
                numbers = range(*(_number(_value(a, module, names, found)) for a in args))
                pairs = [(t.id, n) for t, n in zip(targets, numbers, strict=True) if isinstance(t, ast.Name)]
            case _:
                return False
    except _NotConstant:
        return False
    if any(times[name] != 1 for name, _ in pairs):
        return False
    found.update({Symbol(module, name): value for name, value in pairs})
    return True


def _number(value: Value) -> int:
    if isinstance(value, int):
        return value
    raise _NotConstant


def _value(node: ast.expr, module: str, names: Names, found: Constants) -> Value:
    match node:
        case ast.Constant(value=int() | float() | str() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(_value(operand, module, names, found))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _NUMBERS:
            a, b = _value(left, module, names, found), _value(right, module, names, found)
            if isinstance(a, str) and isinstance(b, str) and isinstance(op, ast.Add):
                return a + b
            return _NUMBERS[type(op)](_number(a), _number(b))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="struct"), attr="calcsize"), args=[argument]):
            return struct.calcsize(str(_value(argument, module, names, found)))
        case ast.Name() | ast.Attribute():
            meaning = names.attribute(module, node)
            if isinstance(meaning, Symbol) and meaning in found:
                return found[meaning]
    raise _NotConstant
