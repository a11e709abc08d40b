"""The most frequent names of a file come first: in .mpy a reference to one of the first 128 takes one byte, to any
other two.

mpy-cross numbers names as it meets them, even where it writes no code because nothing can get there. So a file begins
with a loop that is left at once, in which its names stand behind the `break`: two bytes of code that save one in
twenty-five.
"""

import ast
import keyword
from collections import Counter
from collections.abc import Iterable, Iterator, Set

from dormouse_host.bundle.scopes import bound, parameters

_FIRST = 127  # names that a reference of one byte reaches, beside the file's own
_INTERNED = 10  # characters of a text that MicroPython's parser makes a name, at most


def by_frequency(tree: ast.Module) -> None:
    """Have this file's most frequent names come first, where it has more than are reached by one byte; in place."""
    count = Counter(_references(tree.body, None))
    if len(count) <= _FIRST:
        return
    names = [name for name, times in count.most_common(_FIRST) if times > 1]
    tree.body[:0] = ast.parse(f"while 1:\n    break\n    {{}}{''.join(map(_mention, names))}").body


def _mention(name: str) -> str:
    """Behind an expression: an attribute, or a text as an index."""
    return f".{name}" if name.isidentifier() and not keyword.iskeyword(name) else f"[{name!r}]"


def _references(nodes: Iterable[ast.AST], local: Set[str] | None) -> Iterator[str]:
    """The names that this code refers to by number, once for each time, scopes in it included. `local`: names of which
    that is not so; None: the code of a file or a class, which has none.
    """
    rest = list(nodes)
    while rest:
        node = rest.pop()
        match node:
            case ast.FunctionDef(name=name, args=arguments, body=body):
                yield from (name, name) if local is None else (name,)  # what it is called, and where it is stored
                rest += [*node.decorator_list, *arguments.defaults, *filter(None, arguments.kw_defaults)]
                yield from _function(arguments, body, local)
                continue
            case ast.Lambda(args=arguments, body=value):
                rest += arguments.defaults
                yield from _function(arguments, [value], local)
                continue
            case ast.ClassDef(name=name, body=body):
                yield from (name, name, name, "__name__", "__module__", "__qualname__")
                rest += node.bases
                yield from _references(body, None)
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                targets = {n.id for each in node.generators for n in ast.walk(each.target) if isinstance(n, ast.Name)}
                yield from _references(ast.iter_child_nodes(node), targets.union(local or ()))
                continue
            case ast.Name(id=name) if local is None or name not in local:
                yield name
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Constant(value=str(text)) if len(text) <= _INTERNED:
                yield text
            case ast.ImportFrom(module=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from (name, other or name)
        rest += ast.iter_child_nodes(node)


def _function(arguments: ast.arguments, body: Iterable[ast.AST], outside: Set[str] | None) -> Iterator[str]:
    own = parameters(arguments)
    yield from sorted(own)  # a set has another order in each process
    statements = list(body)
    yield from _references(statements, own.union(bound(statements), outside or ()))
