"""Two boards with one id, told apart from one board whose flash was wiped."""

import json
from binascii import crc32

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host.cli import app
from dormouse_host.ledger import twins
from dormouse_host.ledger.store import Incoming, Ledger
from support.reports import Clock, report


def wakes(ledger: Ledger, clock: Clock, state: str, wake: int) -> None:
    """A board's wake: its report, and its answers to what the ledger has asked it under its own state."""
    clock.now += 900
    ledger.take([report(wake, state)], "c1")
    for one in ledger.claim("r", "c1", 100):
        said = json.loads(one.payload)
        if said["id"].partition("-")[0] == state and said["do"] == "report":
            value = {"wake": wake, "state": state, "next": 900}
            answer = {"id": said["id"], "status": "succeeded", "crc": crc32(one.payload), "value": value}
            ledger.take([Incoming("dev", protocol.RESULT, json.dumps([answer]).encode())], "c1")


def test_two_boards_that_wake_in_turn_are_named_with_their_states(ledger, clock):
    for wake in range(1, 5):
        wakes(ledger, clock, "a1", wake)
        wakes(ledger, clock, "b2", wake)
    assert {name: sorted(states) for name, states in ledger.twins().items()} == {"dev": ["a1", "b2"]}
    assert ledger.twins("dev") == ledger.twins()
    assert ledger.twins("other") == {}


def test_a_board_that_was_wiped_once_or_twice_is_one_board(ledger, clock):
    for wake, state in enumerate(("a1", "a1", "b2", "b2", "c3"), 1):
        wakes(ledger, clock, state, wake)
    assert ledger.devices("dev")[0].state == "c3"
    assert ledger.twins() == {}


def test_a_replayed_report_of_an_old_state_is_no_second_board(ledger, clock):
    """Nobody answers in that state."""
    wakes(ledger, clock, "a1", 1)
    wakes(ledger, clock, "b2", 1)
    ledger.take([report(2, "a1")], "c1")
    wakes(ledger, clock, "b2", 2)
    assert ledger.twins() == {}


def test_once_the_boards_have_different_ids_it_is_forgotten(ledger, clock):
    for wake in range(1, 5):
        wakes(ledger, clock, "a1", wake)
        wakes(ledger, clock, "b2", wake)
    state = ledger.devices("dev")[0].state
    for wake in range(5, 16):
        wakes(ledger, clock, state, wake)
    assert ledger.twins() == {}


@pytest.mark.parametrize(
    "states, found",
    [("", ""), ("aaa", ""), ("ab", ""), ("aabbb", ""), ("aba", "ab"), ("abcb", "abc"), ("aabba", "ab")],
)
def test_a_state_that_comes_again_is_another_board_s(states, found):
    assert twins.taking_turns(states) == list(found)


@pytest.mark.parametrize("words", [("status",), ("status", "dev"), ("log", "dev")], ids=" ".join)
def test_status_and_log_say_so(fleet, words):
    clock = Clock()
    fleet.ledger._clock = clock
    for wake in range(1, 5):
        wakes(fleet.ledger, clock, "a1", wake)
        wakes(fleet.ledger, clock, "b2", wake)
    told = typer.testing.CliRunner().invoke(app.app, words).stderr
    assert "dev: two boards use this id, the states " in told
    assert "dormouse flash NEW-ID --new-device" in told
