"""Long texts, nearly all of them reasons of errors, in a file of their own: on a board they take RAM only when told.

A text in a function becomes a call that reads it from the compressed file. Where that fails, for want of memory above
all, the text is `text <number>`. The boot code keeps its texts: it depends on no file.
"""

import ast
import zlib

from dormouse_host.bundle.scopes import Modules

FILE = "texts"  # beside the file that holds HOME
HOME = "dormouse.errors"
_KEEPS = "dormouse.ports.boot"
_SHORTEST = 14  # characters: a call takes five bytes and a shorter text no more than that
_WINDOW = 10  # bits: what reading takes of the heap
_READ = "_long_text"
_READER = f"""
def {_READ}(number, values=None):
    try:
        with open(__file__.rpartition("/")[0] + "/{FILE}", "rb") as file:
            lines = __import__("deflate").DeflateIO(file)
            for _ in range(number):
                lines.readline()
            text = lines.readline().decode()[:-1]
        return text if values is None else text % values
    except Exception:
        return "text %d" % number
"""


class _Taker(ast.NodeTransformer):
    """Puts a call in the place of each long text in a function."""

    def __init__(self, found: dict[str, int]) -> None:
        self.found = found
        self.inside = 0
        self.taken = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.inside += 1
        node.body = [self.visit(statement) for statement in node.body]
        self.inside -= 1
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Call) and ast.unparse(node.left.func) == _READ:
            node.left.args.append(node.right)
            return node.left
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if not self.inside or not isinstance(value, str) or len(value) < _SHORTEST or " " not in value:
            return node
        if "memory" in value or not value.isprintable():
            return node
        self.taken = True
        number = self.found.setdefault(value, len(self.found))
        return ast.copy_location(ast.Call(ast.Name(_READ, ast.Load()), [ast.Constant(number)], []), node)


def take_out(modules: Modules) -> bytes:
    """Replace the texts in place. Returns the file with them."""
    found: dict[str, int] = {}
    for name, tree in modules.items():
        taker = _Taker(found)
        if name != _KEEPS:
            taker.visit(tree)
        if taker.taken and name != HOME:
            tree.body.insert(0, ast.ImportFrom(HOME, [ast.alias(_READ)], 0))
        ast.fix_missing_locations(tree)
    if found:
        modules[HOME].body += ast.parse(_READER).body
    maker = zlib.compressobj(9, zlib.DEFLATED, _WINDOW)
    return maker.compress("".join(text + "\n" for text in found).encode()) + maker.flush()
