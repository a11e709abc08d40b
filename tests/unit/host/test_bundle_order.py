"""The names of a file of the bundle come in the order of their frequency.

Must stay true: what a file does is not changed by it; a file with many names is smaller for it.
"""

import ast

import pytest

from dormouse_host.agent import mpy
from dormouse_host.bundle import order, shorten

MANY = "\n".join(f"name_{i} = {i}" for i in range(200))
OFTEN = "def total(self):\n    return " + " + ".join(["name_199"] * 40)


def test_most_frequent_name_takes_one_byte_each_time():
    tree = ast.parse(f"{MANY}\n{OFTEN}\n")
    before = mpy.compile_mpy(ast.unparse(tree), "many")
    order.by_frequency(tree)
    after = mpy.compile_mpy(ast.unparse(tree), "many")
    assert len(before) - len(after) >= 30, (len(before), len(after))


def test_file_with_few_names_is_left_alone():
    tree = ast.parse(OFTEN)
    order.by_frequency(tree)
    assert ast.unparse(tree) == OFTEN


@pytest.mark.parametrize(
    "text",
    [
        "answer = 'from'",
        "answer = {'a b': 1, 'from': 2}['from']",
        "class B:\n    lid=3\n    def get(self, lid=lid):\n        return [lid for lid in [lid]]\nanswer = B().get()",
        "import os.path as way\nfrom json import loads as read\nanswer = read(way.basename('a/[1]'))",
        "answer = (lambda a, *, b=2: a + b)(1)",
    ],
)
def test_file_does_what_it_did(text):
    tree = ast.parse(f"{MANY}\n{text}\n")
    order.by_frequency(tree)
    assert isinstance(tree.body[0], ast.While)
    one: dict[str, object] = {}
    two: dict[str, object] = {}
    exec(f"{MANY}\n{text}", one)
    exec(ast.unparse(tree), two)
    assert one["answer"] == two["answer"]


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_large_files_of_the_agent_are_smaller_by_it(port):
    made = mpy.merged(port)
    shorten.shorten(made.files, made.public)
    for name, file in (("dormouse.connection", "dormouse/connection"), ("dormouse", "dormouse/__init__")):
        plain = len(mpy.compile_mpy(ast.unparse(made.files[name]), name))
        assert len(mpy.agent_files(port)[f"lib/{file}.mpy"]) < 0.97 * plain
