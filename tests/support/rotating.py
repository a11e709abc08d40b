"""What the tests of `dormouse rotate` share, whichever credential they change: a broker for each file, and its devices.

Must stay true: the wakes are processes; a call and a wake each fail here where they do not come to their end.
"""

import pytest

from dormouse_host.errors import HostError
from dormouse_host.rotation import rotate
from proofs.attack.testbed import Testbed


@pytest.fixture(scope="module", name="opened")
def opened_fixture():
    with Testbed() as made:
        yield made


@pytest.fixture(name="testbed")
def bench_fixture(opened, interpreter):
    opened.interpreter = interpreter
    return opened


def begin(testbed, device, seconds=0.0):
    """As `dormouse rotate` does until it is killed, or with more time to its end."""
    with testbed.fleet as fleet:
        return rotate(testbed.made, fleet, device.config["id"], testbed.folder, seconds)


def not_yet(testbed, device):
    """The call ends with a command on its way, which the broker has. Returns what is under way."""
    with pytest.raises(HostError, match="has not answered yet: .* still holds; go on with dormouse rotate"):
        begin(testbed, device)
    return testbed.under_way(device)


def wakes(testbed, device):
    """A wake that must finish. How many connections it took."""
    ran = testbed.wake(device)
    assert ran.code == 0, ran.output
    assert len(ran.all("connected")) == 1
    return len(ran.all("connecting"))
