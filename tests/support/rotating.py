"""What the tests of `dormouse rotate` share, whichever credential they change: a broker for each file, and its devices.

Must stay true: the wakes are processes; a call and a wake each fail here where they do not come to their end.
"""

import pytest

from dormouse_host.errors import HostError
from dormouse_host.rotation import rotate
from proofs.attack.bench import Bench


@pytest.fixture(scope="module", name="opened")
def opened_fixture():
    with Bench() as made:
        yield made


@pytest.fixture(name="bench")
def bench_fixture(opened, interpreter):
    opened.interpreter = interpreter
    return opened


def begin(bench, device, seconds=0.0):
    """As `dormouse rotate` does until it is killed, or with more time to its end."""
    with bench.fleet as fleet:
        return rotate(bench.made, fleet, device.config["id"], bench.folder, seconds)


def not_yet(bench, device):
    """The call ends with a command on its way, which the broker has. Returns what is under way."""
    with pytest.raises(HostError, match="has not answered yet"):
        begin(bench, device)
    return bench.under_way(device)


def wakes(bench, device):
    """A wake that must finish. How many connections it took."""
    ran = bench.wake(device)
    assert ran.code == 0, ran.output
    assert len(ran.all("connected")) == 1
    return len(ran.all("connecting"))
