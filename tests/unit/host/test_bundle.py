"""The bundle does what the modules do: each of Python's rules of scope that merging could break, tried out.

Must stay true: a package of a few lines is run twice, as modules and merged, and says the same; what can't be carried
over is refused. That the agent's own bundle works is tested wherever MicroPython runs a wake: it runs this bundle.
"""

import ast
import binascii
import io
import itertools
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dormouse.ports
from dormouse.app import Context
from dormouse_host.agent import mpy, toolchain
from dormouse_host.bundle import constants, merge, prune, scopes, shorten
from dormouse_host.lab import size
from support.bundles import package
from support.needs import need_stubs


def merged(modules: scopes.Modules, *first: str) -> dict[str, str]:
    """Its files as sources, `first` before others; the symbol `answer` of each module keeps its name."""
    names = scopes.Names(modules)
    kept = {merge.label(scopes.Symbol(module, "answer")): "answer" for module in modules}
    found = constants.take_out(modules, names)
    files = merge.merge(modules, names, found, merge.plan(modules, first))
    prune.prune(files, kept)
    shorten.shorten(files, kept)
    return {name: ast.unparse(tree) for name, tree in files.items()}


def run(folder: Path) -> str:
    """What `answer()` of dormouse.main returns, in a process that sees only `folder`."""
    script = "import dormouse.main; print(repr(dormouse.main.answer()))"
    environment = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-S", "-c", script]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


HELPERS = """
import struct
LIMIT = 3
NEXT = LIMIT + 1
FORMAT = "<BI"
SIZE = struct.calcsize(FORMAT)
A, B, C = range(3)
_count = 0
table = {}

def name(x):
    return "helpers.name %s" % x

def _same(x):
    return "helpers"

def bump():
    global _count
    _count += 1
    return _count

def both(x):
    return _same(x) + name(x)

_noted = 0

def note():
    global _noted
    _noted += 1
    return "noted"
"""

TRICKY = [
    pytest.param("return [helpers.LIMIT, helpers.NEXT, helpers.SIZE, helpers.B, C]", id="constants"),
    pytest.param("LIMIT = 9\n    return LIMIT, helpers.LIMIT", id="a local of a constant's name"),
    pytest.param("helpers = {'a': 1}\n    return helpers.get('a')", id="a local of a module's name"),
    pytest.param("return [name for name in 'ab'], name(1)", id="a comprehension's target"),
    pytest.param("return [(lambda name: name + 'x')(n) for n in 'ab'], name(2)", id="a lambda's parameter"),
    pytest.param("return (lambda x, f=name: f(x))(3)", id="a default"),
    pytest.param("def name(x):\n        return 'mine'\n    return name(1), helpers.name(1)", id="a nested function"),
    pytest.param("def inner():\n        return both(4)\n    return inner()", id="a name used two scopes down"),
    pytest.param("helpers.bump()\n    return helpers.bump()", id="global"),
    pytest.param("for name in 'xy':\n        pass\n    return name, _same(0), both(0)", id="private of the same name"),
    pytest.param("helpers.table['k'] = 1\n    return helpers.table", id="an object shared by two modules"),
    pytest.param("return Thing().kind(), Thing.name, Thing().same()", id="class attributes"),
    pytest.param("try:\n        1 // 0\n    except ArithmeticError as name:\n        return str(name)", id="except as"),
    pytest.param("from dormouse.late import answer as name\n    return name()", id="an import inside a function"),
    pytest.param("return {name: both(name) for name in {'a': 1} if helpers.A == 0}", id="a dict comprehension"),
    pytest.param("return Base(1).shown(), Child(2).shown(), Child(3).count", id="attributes of a class and its base"),
    pytest.param("return Thing().adopt(Base(4)), Base(5).swap(Child(6))", id="attributes of another object"),
    pytest.param("return getattr(Base(7), 'count'), hasattr(Base(8), 'total')", id="an attribute named by a text"),
    pytest.param("return given(second=1, first=2), options(a=1, count=2)", id="arguments given by name"),
    pytest.param("return sorted(vars(options(total=3)))", id="names of options"),
    pytest.param("return closure(2)(3), [f(1) for f in (closure(n) for n in (4, 5))]", id="closures"),
    pytest.param("return Thing().total(3), Base(2).total(3)", id="one name in two classes"),
    pytest.param(
        "first = [1]\n    def inner():\n        nonlocal first\n        first = 2\n    inner()\n    return first",
        id="nonlocal",
    ),
    pytest.param(
        "count, total = given(1, 2)\n    return count, total, Base(count).count", id="locals named as attributes"
    ),
    pytest.param(
        "try:\n        from binascii import crc32\n    except ImportError:\n        crc32 = 0\n    return crc32(b'x')",
        id="a foreign import in a function",
    ),
    pytest.param("return helpers.note(), helpers.note()", id="a global that is counted and never read"),
    pytest.param("return [f(1) for f in Many.table], Many().m7()", id="functions in a class's body"),
    pytest.param("return Thing.of(Base(3)), Thing.none(), Thing.adopted(Base(4))", id="a static method"),
    pytest.param("return '{0.count}'.format(Base(9)), '%s' % Base(2).count", id="an attribute in a format"),
    pytest.param(
        "base, thing, child = Base(1), Thing(), Child(2)\n    base.count, thing._same, child._extra = 3, 4, 5\n"
        "    return base.count, base._total, thing._same, thing.other, child.count, child._extra, child.both",
        id="attributes of three classes at once",
    ),
    pytest.param(
        "a, b, c, d, e = 1, 2, 3, 4, 5\n    return both(a), name(b), Base(c).count, _same(d), closure(e)(a), LIMIT",
        id="locals beside what they could hide",
    ),
    pytest.param("return Child(1).both, Child.limit, Child(2).limited()", id="a property and a class's constant"),
]

MAIN = """
from dormouse import helpers
from dormouse.helpers import C, LIMIT, both, name

def _same(x):
    return "main"

class Base:
    limit = 3

    def __init__(self, count):
        self.count = count
        self._total = count * 10

    def shown(self):
        return self.count, self._total

    def total(self, by):
        return self._total * by

    def swap(self, other):
        self.count, other.count = other.count, self.count
        return self.count, other.count, other._total

class Child(Base):
    def __init__(self, count):
        super().__init__(count + 100)
        self._extra = 1

    def shown(self):
        return super().shown(), self._extra, self._total

    @property
    def both(self):
        return self.count + self._extra

    def limited(self):
        return [self.limit for _ in range(self.limit)]

class Options:
    pass

def options(**given):
    made = Options()
    for key in given:
        setattr(made, key, given[key])
    return made if "total" in given else sorted(given)

def given(first, second):
    return first, second

def closure(by):
    def inner(count, more=by):
        return count * by + more
    return inner

class Many:
%s
    table = [name, both, _same]

class Thing:
    @staticmethod
    def of(other):
        return other.count, other._total

    @staticmethod
    def none():
        return 0

    def adopted(self):
        def inner(self):
            return self.count
        return inner(self), (lambda self: self._total)(self)

    def adopt(self, base):
        self.count = base.count
        return self.count, base.shown()

    def total(self, count):
        self._total = count
        return self._total, count

    name = "attribute"
    other = name + "!"

    def kind(self):
        return name(5)

    def same(self):
        self._same = 7
        return self._same, self.other, _same(1)

def answer():
    %s
"""


def main(body: str) -> str:
    """The module with `answer`; a class in it has more methods than there are short names of one letter."""
    methods = "\n".join(f"    def m{n}(self):\n        return {n}" for n in range(70))
    return MAIN % (methods, body)


LATE = "from dormouse.helpers import both\n\ndef answer():\n    return both('late')\n"


@pytest.mark.parametrize("body", TRICKY)
def test_bundle_says_what_the_modules_say(body, tmp_path):
    modules = package(tmp_path / "plain", helpers=HELPERS, main=main(body), late=LATE)
    for name, text in merged(modules, "dormouse", "dormouse.main").items():
        place = tmp_path / "bundle" / Path(*name.split("."))
        target = place / "__init__.py" if name == "dormouse" else place.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (tmp_path / "bundle" / "dormouse" / "__init__.py").touch()
    assert not (tmp_path / "bundle" / "dormouse" / "helpers.py").exists(), "nothing was merged"
    assert run(tmp_path / "bundle") == run(tmp_path / "plain")


def test_constants_and_private_names_are_gone(tmp_path):
    files = merged(package(tmp_path, helpers=HELPERS, main=main("return helpers.NEXT")), "dormouse.main")
    assert "return 4" in files["dormouse.main"]
    assert "_count" not in files["dormouse.main"]
    assert "LIMIT" not in files["dormouse.main"]


def test_anothers_private_attribute_keeps_its_name(tmp_path):
    text = "import sys\n\ndef answer():\n    return sys._getframe(), _own()\n\ndef _own():\n    return 1\n"
    files = merged(package(tmp_path, main=text), "dormouse.main")
    assert "sys._getframe()" in files["dormouse.main"]
    assert "_own" not in files["dormouse.main"]


def test_names_are_short_wherever_nobody_else_says_them(tmp_path):
    """And none of the three kinds needs names of its own."""
    body = "return Base(1).shown(), given(first=1, second=2), options(total=1), closure(1)(2), Thing().total(1)"
    files = merged(package(tmp_path, helpers=HELPERS, main=main(body)), "dormouse.main")
    said = set(re.findall(r"[A-Za-z_]\w+", files["dormouse.main"]))
    assert not said & {"Base", "Child", "shown", "_total", "count", "closure", "made", "by", "inner", "limited"}
    assert {"first", "second", "total"} <= said


def test_one_short_name_serves_attributes_that_no_class_has_both_of(tmp_path):
    one = "class One:\n    def __init__(self):\n        self.first = 1\n"
    two = "class Two:\n    def __init__(self):\n        self.second = 2\n"
    ask = "def answer():\n    one, two = One(), Two()\n    return one.first, two.second\n"
    files = merged(package(tmp_path / "apart", main=f"{one}\n{two}\n{ask}"), "dormouse.main")
    assert len(set(re.findall(r"^ {8}\w+\.(\w+) =", files["dormouse.main"], re.M))) == 1
    ask = ask.replace("return", "two.first = 3\n    return")
    files = merged(package(tmp_path / "met", main=f"{one}\n{two}\n{ask}"), "dormouse.main")
    assert len(set(re.findall(r"^ {8}\w+\.(\w+) =", files["dormouse.main"], re.M))) == 2, "a Two may have both"


def test_what_nothing_asks_for_is_left_out(tmp_path):
    files = merged(package(tmp_path, helpers=HELPERS, main=main("return name(1)")), "dormouse.main")
    assert "helpers.name" in files["dormouse.main"]
    assert "helpers" not in files["dormouse.main"].replace("helpers.name", ""), "what only `both` used is there"


def foreign(port):
    """Names of attributes that the agent does not own: of MicroPython, of the board, of umqtt.simple, of apps."""
    lives = [b"", bytearray(), memoryview(b""), "", 0, 0.0, [], {}, (), set(), OSError(), (n for n in ""), object, len]
    lives += [io.FileIO, socket.socket, select.poll(), select, socket, struct, time, os, sys, json, binascii]
    names = {name for thing in lives for name in dir(thing)}
    stubs = need_stubs(port)
    for module in (
        "machine",
        "network",
        "time",
        "os",
        "sys",
        "gc",
        "socket",
        "select",
        "tls",
        "vfs",
        "esp32",
        "hashlib",
    ):
        for path in [*stubs.rglob(f"{module}.pyi"), *stubs.rglob(f"{module}/**/*.pyi")]:
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                        names.add(name)
    client = ast.parse((toolchain.umqtt_folder() / "umqtt" / "simple.py").read_text())
    names |= {node.attr for node in ast.walk(client) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(client) if isinstance(node, ast.FunctionDef)}
    names |= set(re.findall(r"^ {4,8}([a-z]+)(?:\(|  )", str(dormouse.ports.__doc__), re.M))
    return names | {name for name in (*vars(Context), *Context.__init__.__code__.co_names) if not name.startswith("_")}


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_no_name_is_renamed_that_is_not_the_agent_s_alone(port):
    """What an attribute belongs to can't be told from the source: `x.read()` may be ours, or a file's."""
    names = mpy.true_names(port)
    renamed = {
        *itertools.chain(*names.shared.values()),
        *(true for own in names.attributes.values() for true in own.values()),
    }
    assert len(renamed) > 200
    assert sorted(renamed & foreign(port)) == []


@pytest.mark.parametrize(
    "body",
    ["return helpers", "helpers.table = 1", "return [f() for f in (helpers, name)]", "class Inner:\n        pass"],
)
def test_what_merging_could_change_is_refused(body, tmp_path):
    with pytest.raises(merge.Refused, match=r"dormouse\.main, line"):
        merged(package(tmp_path, helpers=HELPERS, main=main(body)), "dormouse.main")


def test_a_local_that_would_hide_a_kept_name_is_refused(tmp_path):
    text = "def answer():\n    def inner(answer):\n        return answer\n    return inner('answer'), answer\n"
    with pytest.raises(merge.Refused, match="a local hides answer"):
        merged(package(tmp_path, main=text), "dormouse.main")


@pytest.mark.parametrize("port", ["posix"])
def test_agent_of_every_port_is_built_twice_the_same_and_within_its_limit(port):
    files = mpy.agent_files(port)
    mpy.agent_files.cache_clear()
    assert mpy.agent_files(port) == files
    assert sum(map(len, files.values())) <= size.LIMIT
    alone, _ = size.sizes(port)
    assert sum(map(len, files.values())) < 0.9 * sum(alone.values())


def test_network_is_in_no_file_that_a_sampling_wake_loads():
    texts = mpy.bundled("posix")
    assert "umqtt" in texts["dormouse.connection"]
    assert not [name for name in ("dormouse", "dormouse.agent") if "umqtt" in texts[name] or "select" in texts[name]]
