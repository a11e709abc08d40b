"""Modules of the device stand in layers: each imports only what lies below it, in functions too, and in no circle."""

from pathlib import Path

import pytest

from support import layers

AGENT = Path(__file__).resolve().parents[2] / "device" / "dormouse"


@pytest.fixture(scope="module")
def agent():
    return layers.sources(AGENT)


def test_there_is_no_circle(agent):
    assert layers.circles(layers.edges(agent, "dormouse")) == []


def test_imports_point_downward(agent):
    assert layers.upward(layers.edges(agent, "dormouse"), layers.DEVICE) == []


UPWARD = [
    ("ports.board", "def late():\n    from dormouse.ports.boot import _well"),
    ("window", "from dormouse import agent"),
]
ROUND = [
    ("journal", "from dormouse.inbox import Inbox"),
    ("journal", "from dormouse import inbox"),
    ("journal", "from . import inbox"),
    ("journal", "from .inbox import Inbox"),
    ("journal", "import dormouse.inbox"),
    ("journal", "def late():\n    from dormouse.inbox import Inbox"),
    ("journal", "class C:\n    def late(self):\n        import dormouse.inbox as i"),
    ("journal", "__import__('dormouse.inbox')"),
    ("ports.radio", "def late():\n    from dormouse.ports.board import Board"),
    ("ports.radio", "from .board import Board"),
    ("window", "from dormouse import agent"),
    ("agent", "def late():\n    __import__('dormouse.ports.posix')"),
]


@pytest.mark.parametrize("module, line", [*ROUND, *UPWARD])
def test_a_planted_import_is_found(agent, module, line):
    graph = layers.edges({**agent, module: f"{agent[module]}\n{line}\n"}, "dormouse")
    assert layers.upward(graph, layers.DEVICE) != []
    assert ((module, line) in ROUND) == any(module in circle for circle in layers.circles(graph))


def test_a_new_module_has_to_say_where_it_belongs(agent):
    graph = layers.edges({**agent, "newcomer": "from dormouse.errors import LinkError"}, "dormouse")
    assert layers.upward(graph, layers.DEVICE) == ["newcomer is in no layer"]
