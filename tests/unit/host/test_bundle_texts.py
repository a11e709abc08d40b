"""Long texts of a bundle lie in a file of their own, and what a program says is what it said before."""

import ast
import subprocess
from pathlib import Path

import pytest

from dormouse_host.agent import mpy
from dormouse_host.bundle import merge, scopes, texts
from support.bundles import package
from support.needs import need_micropython

ERRORS = "class Wrong(Exception):\n    pass\n"
MAIN = """
from dormouse.errors import Wrong

SHORT = "a text of a module's top level, which is told when it is imported"

def answer(n=7, why="a default that is evaluated at import"):
    text = ["a local of a name that a reader might have"]
    try:
        if n:
            raise Wrong("%d is wrong: expected nought, or nothing at all" % n)
    except Wrong as e:
        return [str(e), text, "short one", SHORT, why, "caf\u00e9 and more than that", "not enough memory for it",
                ["again: %s" % "the same text twice, told once" for _ in "ab"], b"bytes are no text at all"]
"""


@pytest.fixture
def made(tmp_path):
    """The package as files, its texts, and where they lie."""
    modules = package(tmp_path / "source", errors=ERRORS, main=MAIN)
    told = texts.take_out(modules)
    names = scopes.Names(modules)
    folder = tmp_path / "board"
    (folder / "dormouse").mkdir(parents=True)
    (folder / "dormouse" / "__init__.py").write_text("")
    for name, tree in modules.items():
        path = folder / (
            name.replace(".", "/") + ("/__init__" if name.count(".") == 0 or name.endswith("ports") else "")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(ast.unparse(tree) + "\n")
    (folder / "dormouse" / texts.FILE).write_bytes(told)
    assert names
    return folder


def answer(folder: Path) -> list:
    """What the function returns on MicroPython."""
    path = [str(folder), ".frozen"]
    code = f"import sys; sys.path[:] = {path}; from dormouse.main import answer; print(repr(answer()))"
    found = need_micropython()
    ran = subprocess.run([found.path, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    told: list = ast.literal_eval(ran.stdout)
    return told


def expected() -> list:
    """What it returns as it is written."""
    scope: dict = {}
    exec(ERRORS + MAIN.replace("from dormouse.errors import Wrong", ""), scope)
    found: list = scope["answer"]()
    return found


def test_a_program_says_what_it_said(made):
    source = (made / "dormouse" / "main.py").read_text()
    assert "expected nought" not in source
    assert "a default" in source
    assert "top level" in source
    assert answer(made) == expected()


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"\x18\x95damaged")])
def test_without_its_file_a_text_is_a_number(made, damage):
    """Nothing is raised in the place of what was to be told."""
    damage(made / "dormouse" / texts.FILE)
    told, wanted = answer(made), expected()
    assert told[0].startswith("text ")
    assert told[2:5] == wanted[2:5]


@pytest.mark.parametrize("port", ["esp32", "rp2", "posix"])
def test_the_agent_s_texts_are_told_by_number_and_none_at_import(port):
    """A wake in which nothing goes wrong reads none: what runs at import has kept its own."""
    made = mpy.merged(port)
    label = merge.label(scopes.Symbol(texts.HOME, "_long_text"))
    calls = 0
    for tree in made.files.values():
        for statement in tree.body:
            found = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and ast.unparse(n.func) == label]
            calls += len(found)
            assert not found or isinstance(statement, ast.FunctionDef | ast.ClassDef), ast.unparse(statement)
    assert calls > 50
