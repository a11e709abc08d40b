"""Modules stand in layers: each imports only what lies below it, in functions too, and in no circle.

`python tests/project/test_layers.py` prints the figures.
"""

import sys
from pathlib import Path

import pytest

from support import layers

ROOT = Path(__file__).resolve().parents[2]
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
HIGHER = [
    ("agent.mpy", "from dormouse_host.flash import kinds", "agent.mpy imports flash.kinds"),
    (
        "ledger.store",
        "def late():\n    from dormouse_host.relay.relay import Relay",
        "ledger.store imports relay.relay",
    ),
    ("relay.relay", "from dormouse_host import Fleet", "relay.relay imports __init__"),
    ("terminal", "if TYPE_CHECKING:\n    import dormouse_host.fleet", "terminal imports fleet"),
    ("flash.flash", "from dormouse_host.cli.options import opened", "flash.flash imports cli.options"),
]


def device_sources() -> dict[str, str]:
    return layers.sources(ROOT / "device" / "dormouse")


def host_sources() -> dict[str, str]:
    return layers.sources(ROOT / "host" / "dormouse_host")


@pytest.fixture(scope="module")
def agent():
    return device_sources()


@pytest.fixture(scope="module")
def host():
    return host_sources()


def test_no_module_imports_itself_over_others(agent, host):
    assert layers.circles(layers.edges(agent, "dormouse")) == []
    assert layers.circles(layers.edges(host, "dormouse_host")) == []


def test_imports_point_downward(agent, host):
    assert layers.upward(layers.edges(agent, "dormouse"), layers.DEVICE) == []
    assert layers.breaches(layers.edges(host, "dormouse_host")) == []


@pytest.mark.parametrize("module, line", [*ROUND, *UPWARD])
def test_a_planted_import_is_found(agent, module, line):
    graph = layers.edges({**agent, module: f"{agent[module]}\n{line}\n"}, "dormouse")
    assert layers.upward(graph, layers.DEVICE) != []
    assert ((module, line) in ROUND) == any(module in circle for circle in layers.circles(graph))


@pytest.mark.parametrize("module, line, wrong", HIGHER)
def test_a_planted_import_of_a_higher_layer_is_found(host, module, line, wrong):
    assert layers.breaches(layers.edges({**host, module: f"{host[module]}\n{line}\n"}, "dormouse_host")) == [wrong]


def test_a_planted_circle_is_found_though_it_hides_in_a_function(host):
    line = "def late():\n    from dormouse_host.flash.flash import flash"
    (found,) = layers.circles(
        layers.edges({**host, "flash.kinds": f"{host['flash.kinds']}\n{line}\n"}, "dormouse_host")
    )
    assert {"flash.flash", "flash.kinds", "flash.wire"} <= set(found)


def test_a_new_module_has_to_say_where_it_belongs(agent):
    graph = layers.edges({**agent, "newcomer": "from dormouse.errors import LinkError"}, "dormouse")
    assert layers.upward(graph, layers.DEVICE) == ["newcomer is in no layer"]


def test_the_layers_of_the_host_have_an_order():
    below: set[str] = set()
    for name, may in layers.HOST.items():
        assert may <= below, name
        below.add(name)


if __name__ == "__main__":
    for texts, package in ((device_sources(), "dormouse"), (host_sources(), "dormouse_host")):
        graph = layers.edges(texts, package)
        count = sum(map(len, graph.values()))
        print(
            f"{package}: {len(graph)} modules, {count} imports, {len(layers.circles(graph))} circles", file=sys.stdout
        )
