"""`dormouse settings DEVICE`: each value, where it came from, and what it replaced."""

import json
from binascii import crc32

import pytest
import typer.testing

from dormouse import protocol
from dormouse_host.cli import app
from dormouse_host.ledger.store import Incoming

STATE = {"state": "s1", "next": 900, "catalogue": "abcd", "limit": 2000}


def take(fleet, leaf, message):
    assert fleet.ledger.take([Incoming("dev", leaf, json.dumps(message).encode())], None) == []


def answer(fleet, do, value):
    """The device's answer to the newest command of that name."""
    sent = [each for each in fleet.ledger.claim("r", "c", 10) if json.loads(each.payload).get("do") == do][-1]
    entry = {"id": json.loads(sent.payload)["id"], "status": "succeeded", "crc": crc32(sent.payload), "value": value}
    take(fleet, protocol.RESULT, [entry])


def shown(*words):
    result = typer.testing.CliRunner().invoke(app.app, ["settings", "dev", *words], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.output


def test_what_commands_changed_is_known_from_the_report_and_the_rest_once_it_was_asked_for(fleet):
    take(fleet, protocol.WAKE, {**STATE, "wake": 1, "settings": {"connect_every": [120, 900], "led": ["x", None]}})
    said = shown()
    assert "connect_every  120    command, in place of 900" in said
    assert 'led            "x"    command, in place of the default' in said
    assert "ask with dormouse settings dev --ask" in said
    assert "answers at its next wake" in shown("--ask")
    told = {"id": ["dev", "flashed"], "connect_every": [120, "command", 900], "budget": [20, "flashed"]}
    answer(fleet, "config", {"settings": told})
    found = {row["key"]: row for row in map(json.loads, shown("--json").splitlines())}
    assert found["budget"] == {"key": "budget", "value": 20, "origin": "flashed", "replaced": None}
    assert found["connect_every"]["replaced"] == 900
    assert list(found) == sorted(found)
    # a newer report shows that a flash has taken the command's value back
    take(fleet, protocol.WAKE, {**STATE, "wake": 2, "settings": {"led": ["y", None]}})
    assert {each.key: each.value for each in fleet.settings("dev")[1]} == {"id": "dev", "budget": 20, "led": "y"}


@pytest.mark.parametrize("said", [5, "x", [1], {"a": 5}, {"a": []}, {"a": [1, 2, 3]}])
def test_a_report_may_say_anything(fleet, said):
    take(fleet, protocol.WAKE, {**STATE, "wake": 1, "settings": said})
    assert fleet.settings("dev") == (None, [])
    shown("--ask")
    answer(fleet, "config", {"settings": said})
    shown()
