"""The bundle does what the modules do: each of Python's rules of scope that merging could break, tried out.

Must stay true: a package of a few lines is run twice, as modules and merged, and says the same; what can't be carried
over is refused. That the agent's own bundle works is tested wherever MicroPython runs a wake: it runs this bundle.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dormouse_host import build
from dormouse_host.bundle import constants, merge, scopes, shorten, sources

PORT = "class Port:\n    pass\n"


def package(folder: Path, **modules: str) -> scopes.Modules:
    """A package `dormouse` of these modules, and its trees."""
    home = folder / "dormouse"
    (home / "ports").mkdir(parents=True)
    for name, text in {"__init__": "", "ports/__init__": "", "ports/here": PORT, **modules}.items():
        (home / f"{name}.py").write_text(text)
    return sources.modules(home, "here")


def merged(modules: scopes.Modules, *first: str) -> dict[str, str]:
    """Its files as sources, `first` before others; the symbol `answer` of each module keeps its name."""
    names = scopes.Names(modules)
    kept = {merge.label(scopes.Symbol(module, "answer")): "answer" for module in modules}
    found = constants.take_out(modules, names)
    files = merge.merge(modules, names, found, merge.plan(modules, first))
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
]

MAIN = """
from dormouse import helpers
from dormouse.helpers import C, both, name

def _same(x):
    return "main"

class Thing:
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

LATE = "from dormouse.helpers import both\n\ndef answer():\n    return both('late')\n"


@pytest.mark.parametrize("body", TRICKY)
def test_bundle_says_what_the_modules_say(body, tmp_path):
    modules = package(tmp_path / "plain", helpers=HELPERS, main=MAIN % body, late=LATE)
    for name, text in merged(modules, "dormouse", "dormouse.main").items():
        place = tmp_path / "bundle" / Path(*name.split("."))
        target = place / "__init__.py" if name == "dormouse" else place.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (tmp_path / "bundle" / "dormouse" / "__init__.py").touch()
    assert not (tmp_path / "bundle" / "dormouse" / "helpers.py").exists(), "nothing was merged"
    assert run(tmp_path / "bundle") == run(tmp_path / "plain")


def test_constants_and_private_names_are_gone(tmp_path):
    files = merged(package(tmp_path, helpers=HELPERS, main=MAIN % "return helpers.NEXT"), "dormouse.main")
    assert "return 4" in files["dormouse.main"]
    assert "_count" not in files["dormouse.main"]
    assert "LIMIT" not in files["dormouse.main"]


def test_anothers_private_attribute_keeps_its_name(tmp_path):
    text = "import sys\n\ndef answer():\n    return sys._getframe(), _own()\n\ndef _own():\n    return 1\n"
    files = merged(package(tmp_path, main=text), "dormouse.main")
    assert "sys._getframe()" in files["dormouse.main"]
    assert "_own" not in files["dormouse.main"]


@pytest.mark.parametrize(
    "body",
    ["return helpers", "helpers.table = 1", "return [f() for f in (helpers, name)]", "class Inner:\n        pass"],
)
def test_what_merging_could_change_is_refused(body, tmp_path):
    with pytest.raises(merge.Refused, match=r"dormouse\.main, line"):
        merged(package(tmp_path, helpers=HELPERS, main=MAIN % body), "dormouse.main")


@pytest.mark.parametrize("port", ["posix"])
def test_agent_of_every_port_is_built_twice_the_same_and_within_its_limit(port):
    files = build.agent_files(port)
    build.agent_files.cache_clear()
    assert build.agent_files(port) == files
    assert sum(map(len, files.values())) <= build.LIMIT
    alone, _ = build.sizes(port)
    assert sum(map(len, files.values())) < 0.9 * sum(alone.values())


def test_network_is_in_no_file_that_a_sampling_wake_loads():
    texts = build.bundled("posix")
    assert "umqtt" in texts["dormouse.online"]
    assert not [name for name in ("dormouse", "dormouse.agent") if "umqtt" in texts[name] or "select" in texts[name]]
