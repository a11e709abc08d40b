"""What the host tells of a device's program that went wrong: status, log, and the exit code."""

import json

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.ledger.store import Incoming


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A ledger in the working folder that knows `dev`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DORMOUSE_DB", "ledger.db")
    with Fleet("ledger.db") as fleet:
        fleet.add("dev")
    return "dev"


def take(device, report):
    """The device has sent this wake report."""
    with Fleet("ledger.db") as fleet:
        fleet.ledger.take([Incoming(device, protocol.WAKE, json.dumps(report).encode())], None)


def test_a_fault_of_the_program_is_in_status_and_log_and_in_the_exit_code(device):
    """A failed reading is as visible as a failed command."""
    state = {"wake": 1, "state": "aaaaaa", "next": 900, "catalogue": "1"}

    def status(*words):
        result = typer.testing.CliRunner().invoke(app.app, ["status", *words], standalone_mode=False)
        return result.return_value or 0, result.output

    take(device, state)
    assert status("dev")[0] == status()[0] == 0
    lost = {"air.temp": "no JSON of at most 512 bytes", "soil": "OSError: 5 at app.py:7 in soil"}
    take(device, {**state, "wake": 2, "readings": lost, "app": "telemetry bare: write @telemetry()"})
    for words in (["dev"], [], ["--json"]):
        code, said = status(*words)
        assert code == 3
        assert all(why in said for why in (*lost.values(), "write @telemetry()")), words
    log = typer.testing.CliRunner().invoke(app.app, ["log", "dev"]).output
    assert "reading    soil: OSError: 5 at app.py:7 in soil" in log
    assert "app        app.py: telemetry bare" in log
    take(device, {**state, "wake": 3})
    assert status("dev")[0] == 0
    take(device, {**state, "wake": 4, "readings": ["x"]})
    assert status("dev")[0] == 0
