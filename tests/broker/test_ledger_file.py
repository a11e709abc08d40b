"""A ledger's file that is deleted or replaced is noticed by whoever has it open: nothing is said to be stored in it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dormouse_host import Fleet
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay import relay
from dormouse_host.relay.relay import Relay
from support.relays import WITHIN, until


def delete(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other.db")
    with Fleet(str(other)) as fleet:
        fleet.add("dev")
    for path in file.parent.glob(f"{file.name}-*"):
        path.unlink()
    os.replace(other, file)


GONE = [(delete, "the file was deleted"), (replace, "the file was replaced")]


@pytest.mark.parametrize("lose, said", GONE)
def test_a_send_into_a_file_that_is_gone_is_an_error(sqlite_file, lose: Callable[[Path], None], said):
    with Fleet(sqlite_file) as fleet:
        fleet.add("dev")
        name = fleet.send("dev", "ping").name
        lose(Path(sqlite_file))
        for call in (lambda: fleet.send("dev", "ping"), lambda: fleet.wait(name), fleet.status, lambda: fleet.add("x")):
            with pytest.raises(HostError, match=said) as caught:
                call()
            assert (caught.value.code, "\n" in str(caught.value)) == (1, False)
    if lose is delete:
        assert not Path(sqlite_file).exists(), "and no new one is made"
    else:
        with Fleet(sqlite_file) as fleet:
            assert fleet.ledger.counts() == {}


@pytest.mark.parametrize("lose, said", GONE)
def test_a_file_that_goes_in_the_middle_of_a_transaction_is_not_committed_to(sqlite_file, lose, said):
    with Ledger(sqlite_file) as ledger, pytest.raises(HostError, match=said), ledger.database.writing():
        lose(Path(sqlite_file))


@pytest.mark.parametrize("lose, said", GONE)
def test_a_relay_ends_when_its_ledger_is_gone(sqlite_file, mosquitto, monkeypatch, lose, said):
    """At its next sign of life: there is nothing to do meanwhile."""
    monkeypatch.setattr(relay, "ALIVE", 0.3)
    ended: list[HostError] = []
    with Ledger(sqlite_file) as ledger:
        running = Relay(ledger, mosquitto.address, "dormouse", "test")

        def run() -> None:
            try:
                running.run()
            except HostError as error:
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        until(lambda: Ledger(sqlite_file).relays())
        lose(Path(sqlite_file))
        thread.join(WITHIN)
        running.stop()
        assert [(said in str(error), error.code) for error in ended] == [(True, 1)]
