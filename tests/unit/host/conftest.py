"""Fixtures that know one device: `clock` and `ledger`, whose clock stands still; `fleet`, in a folder of its own."""

import pytest

from dormouse_host import Fleet
from dormouse_host.ledger.store import Ledger
from support.judging import bench  # noqa: F401  (a fixture)
from support.reports import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(where, clock):
    with Ledger(where, clock) as opened:
        opened.add_devices(["dev"])
        yield opened


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A ledger in the working folder that knows `dev`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DORMOUSE_DB", "ledger.db")
    with Fleet("ledger.db") as fleet:
        fleet.add("dev")
        yield fleet


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a ledger that knows one device."""
    monkeypatch.chdir(tmp_path)
    for name in ("DORMOUSE_DB", "DORMOUSE_BROKER", "DORMOUSE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dormouse.toml").write_text('db = "ledger.db"\n')
    with Fleet("ledger.db") as fleet:
        fleet.add("dev")
    return tmp_path
