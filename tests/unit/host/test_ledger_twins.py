"""Two boards with one id, told apart from one board whose flash was wiped."""

import json
from binascii import crc32

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host.cli import app
from dormouse_host.ledger import twins
from dormouse_host.ledger.outbound import Outgoing
from dormouse_host.ledger.store import Incoming, Ledger
from support.reports import Clock, report


class Broker:
    """One session, as the boards have the same id: what waits in it is taken by the board that wakes next."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._waiting: list[Outgoing] = []

    def wake(self, state: str, wake: int) -> None:
        """A board's wake: its report, its answers to what waits, and what the ledger then publishes."""
        self._clock.now += 900
        self._ledger.take([report(wake, state)], "c1")
        for one in self._waiting:
            said = json.loads(one.payload)
            answer = {"id": said["id"], "crc": crc32(one.payload), "status": "unknown", "why": "for another state"}
            if said["id"].partition("-")[0] == state:
                answer |= {"status": "succeeded", "value": {"wake": wake, "state": state, "next": 900}}
            self._ledger.take([Incoming("dev", protocol.RESULT, json.dumps([answer]).encode())], "c1")
        self._waiting = list(self._ledger.claim("r", "c1", 100))


@pytest.fixture
def broker(ledger, clock):
    return Broker(ledger, clock)


@pytest.mark.parametrize("order", ["abababab", "aabbaabbaabb", "abbaabab"])
def test_two_boards_are_named_with_their_states(ledger, broker, order):
    """Also where one always takes the other's questions."""
    for wake, state in enumerate(order, 1):
        broker.wake(f"{state}1", wake)
    assert {name: sorted(states) for name, states in ledger.twins().items()} == {"dev": ["a1", "b1"]}
    assert ledger.twins("dev") == ledger.twins()
    assert ledger.twins("other") == {}


def test_a_board_that_was_wiped_once_or_twice_is_one_board(ledger, broker):
    for wake, state in enumerate(("a1", "a1", "b2", "b2", "c3"), 1):
        broker.wake(state, wake)
    assert ledger.devices("dev")[0].state == "c3"
    assert ledger.twins() == {}


def test_a_late_report_of_an_old_state_is_no_second_board(ledger, broker):
    """Nobody answers in that state."""
    broker.wake("a1", 1)
    broker.wake("b2", 1)
    ledger.take([report(2, "a1")], "c1")
    for wake in range(2, 6):
        broker.wake("b2", wake)
    assert ledger.twins() == {}


@pytest.mark.parametrize("order", ["abababab", "aabbaabbaabb"])
def test_once_the_boards_have_different_ids_it_is_forgotten(ledger, broker, order):
    for wake, state in enumerate(order, 1):
        broker.wake(f"{state}1", wake)
    state = ledger.devices("dev")[0].state
    for wake in range(20, 32):
        broker.wake(state, wake)
    assert ledger.twins() == {}


@pytest.mark.parametrize(
    "states, found",
    [("", ""), ("aaa", ""), ("ab", ""), ("aabbb", ""), ("aba", "ab"), ("abcb", "abc"), ("aabba", "ab")],
)
def test_a_state_that_comes_again_is_another_board_s(states, found):
    assert twins.taking_turns(states) == list(found)


@pytest.mark.parametrize("words", [("status",), ("status", "dev"), ("log", "dev")], ids=" ".join)
def test_status_and_log_say_so(fleet, clock, words):
    fleet.ledger._clock = clock
    broker = Broker(fleet.ledger, clock)
    for wake, state in enumerate("abababab", 1):
        broker.wake(state, wake)
    told = typer.testing.CliRunner().invoke(app.app, words).stderr
    assert "dev: two boards use this id, the states " in told
    assert "dormouse flash NEW-ID --new-device" in told
