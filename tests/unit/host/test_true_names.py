"""A board's error texts about the bundled agent get its true names."""

import ast
import subprocess

from dormouse import protocol
from dormouse_host.agent import mpy, process
from dormouse_host.agent.log import parse
from dormouse_host.bundle import constants, merge, scopes, shorten
from dormouse_host.flash.explain import Explainer
from support.bundles import package
from support.needs import need_micropython


def test_an_error_text_of_a_board_gets_the_true_names(tmp_path):
    """Whichever names the bundle gave, the words are what the interpreter itself says about them."""
    helpers = """
class Helper:
    def __init__(self):
        self.counted = 1

    def ask(self):
        return self.counted


class Reader:
    def ask(self):
        return self.counted


def late():
    return nowhere


if late is None:
    nowhere = 1
"""
    main = """
from dormouse.helpers import Helper, Reader, late


def answer():
    texts = []
    for call in (Helper().ask, Reader().ask, late):
        try:
            texts.append(call())
        except (AttributeError, NameError) as error:
            texts.append(str(error))
    return texts
"""
    modules = package(tmp_path, helpers=helpers, main=main)
    names = scopes.Names(modules)
    kept = {merge.label(scopes.Symbol("dormouse.main", "answer")): "answer"}
    found = constants.take_out(modules, names)
    files = merge.merge(modules, names, found, merge.plan(modules, ["dormouse.main"]))
    true = shorten.shorten(files, kept)
    (tmp_path / "out").mkdir()
    text = "\n".join(ast.unparse(tree) for tree in files.values())
    (tmp_path / "out" / "bundle.py").write_text(text)
    need_micropython()
    script = "import bundle; print('\\n'.join(map(str, bundle.answer())))"
    argv, environment = process.interpreter("micropython", ["-c", script], [tmp_path / "out"], "128k")
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    explained = [true.explained(line) for line in said.splitlines()]
    assert explained[0] == "1"
    assert explained[1].endswith(" [Reader.counted]"), explained
    assert explained[2].endswith(" [nowhere]"), explained
    assert "Reader" not in said, "the bundle has short names"
    assert true.explained("'Mine' object has no attribute 'yours'") == "'Mine' object has no attribute 'yours'"


def test_a_fault_of_the_agent_s_own_is_told_with_its_true_names():
    """In the log of a first wake and of `dormouse monitor`; the words are MicroPython's, the names the bundle's."""
    names = mpy.true_names("esp32")
    short = {true: name for name, true in names.classes.items()}
    attribute = {true: name for name, true in names.attributes["Inbox"].items()}
    said = f"'{short['Inbox']}' object has no attribute '{attribute['indexes']}'"
    error = f'dormouse 9 error {{"kind":"AttributeError","stage":"agent","why":"{said}"}}'
    explain = Explainer()
    assert explain(error) == error, "whose agent this is was not told yet"
    boot = f'dormouse 1 boot {{"wake":1,"agent":"{protocol.VERSION}","fw":"ESP32_GENERIC 1.25.0"}}'
    assert explain(boot) == boot
    event = parse(explain(error))
    assert event
    assert event.fields["why"] == f"{said} [Inbox.indexes]"
    assert explain("'Mine' object has no attribute 'yours'") == "'Mine' object has no attribute 'yours'"
    explain(boot.replace(protocol.VERSION, "0.0.1"))
    assert explain(error) == error, "another version has other names"
