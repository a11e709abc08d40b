"""The fixtures `clock` and `ledger` of the ledger's tests: one device is known, and the clock stands still."""

import pytest

from dormouse_host.ledger.store import Ledger
from support.reports import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(where, clock):
    with Ledger(where, clock) as opened:
        opened.add_devices(["dev"])
        yield opened
