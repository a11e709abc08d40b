"""docs/desk.md holds: every key with its default, every kind of alert, every key of a message, every example."""

import json
import re
import tomllib

import pytest

from dormouse_host.desk import config, entities, telling
from dormouse_host.ledger.alerts import KINDS, Limits, Rules
from dormouse_host.ledger.couriers import Message
from support import pages

PAGE = pages.page("desk")
DEFAULTS = {
    **{key: getattr(Limits(), key) for key in ("overdue", "minutes", "battery")},
    **{key: getattr(Rules(), key) for key in ("calm", "fleet")},
    "off": [],
    "every": config.Alerts(Rules()).every,
    "mqtt": True,
}


def keys(head: str) -> dict[str, str]:
    """Key -> default, as a table has them."""
    told = {}
    for names, default, *_ in pages.table(PAGE, head):
        told.update(dict.fromkeys(re.findall(r"`([^`]+)`", names), default.strip("`")))
    return told


def test_every_key_of_alerts_is_in_the_table_with_its_default():
    told = keys("key of `[alerts]`")
    assert told.keys() == config._ALERTS.keys()
    assert {key: json.loads(value) for key, value in told.items() if value} == DEFAULTS


def test_every_key_of_home_assistant_is_in_the_table_with_its_default():
    home = config.Home()
    assert keys("key of `[homeassistant]`") == {"prefix": home.prefix, "expires": f"{home.expires:.0f}"}
    assert config._HOME.keys() == {"prefix", "expires"}


def test_every_kind_of_alert_and_every_key_of_a_message_is_told():
    assert [row[0].strip("`") for row in pages.table(PAGE, "kind")] == list(KINDS)
    message = Message(1, 1, "opened", "mqtt", 0, "d", "battery", 1.0, None, "x", None, 1.0)
    rows = pages.table(PAGE.partition("A message has the keys")[2], "key")
    assert pages.quoted([row[0] for row in rows]) == json.loads(telling.payload(message)).keys()


def test_every_name_that_gives_a_unit_is_one_that_does():
    (row,) = (row for row in pages.table(PAGE, "a device has") if "last word" in row[1])
    named = set(re.findall(r"`([a-z0-9]+)`", row[1]))
    assert len(named) > 10
    assert named <= entities._KINDS.keys()


@pytest.mark.parametrize("example", re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE))
def test_every_example_of_settings_is_taken(example, tmp_path):
    text = re.sub(r"^    ", "", example, flags=re.MULTILINE)
    if "[" not in text or text.startswith("$"):
        pytest.skip("not settings")
    tomllib.loads(text)
    (tmp_path / "dormouse.toml").write_text(text)
    wanted = config.read(tmp_path, {})
    assert wanted.alerts or wanted.home


def test_the_commented_settings_of_the_example_are_taken(tmp_path):
    lines = (pages.ROOT / "dormouse.example.toml").read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("# [alerts]"))
    (tmp_path / "dormouse.toml").write_text("\n".join(line.removeprefix("# ") for line in lines[at:]))
    wanted = config.read(tmp_path, {})
    assert wanted.alerts
    assert wanted.home
