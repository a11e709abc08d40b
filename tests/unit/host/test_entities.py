"""A device as Home Assistant has it, whatever names a device and its program have."""

import json
import re

import pytest

from dormouse_host.desk import entities
from dormouse_host.ledger.home import Standing
from dormouse_host.ledger.queries import DeviceView

PLACES = entities.Places("homeassistant")


def described(standing, known=None):
    message, components = entities.describe(PLACES, standing, known or {})
    return json.loads(message), components


def standing(readings=(), commands=(), device="dev", **report):
    catalogue = {"commands": list(commands)}
    view = DeviceView(device, seen=1.0, next_due=900.0, report=report, catalogue=catalogue)
    return Standing(view, dict(readings))


@pytest.mark.parametrize(
    "name, kind, unit",
    [
        ("temp", "temperature", "°C"),
        ("soil.temp", "temperature", "°C"),
        ("RH", "humidity", "%"),
        ("vbat", "voltage", "V"),
        ("air_co2", "carbon_dioxide", "ppm"),
        ("temporary", None, None),
        ("…", None, None),
    ],
)
def test_a_name_tells_unit_and_class(name, kind, unit):
    (reading,) = (each for each in described(standing({name: 1.5}))[0]["components"].values() if each["name"] == name)
    assert (reading.get("device_class"), reading.get("unit_of_measurement")) == (kind, unit)


def test_what_sets_what_is_told_by_the_catalogue():
    commands = [
        ["none", [], 5, True],
        ["optional", [["a", ["int", 1]], ["b", ["str", ""]]], 5, True],
        ["one", [["a", "int"], ["b", ["str", ""]]], 5, True],
        ["part", [["x", "float"]], 5, True],
        ["on", [["v", "bool"]], 5, True],
        ["text", [["t", "str"]], 5, True],
        ["two", [["a", "int"], ["b", "int"]], 5, True],
        ["reset", [], 5, True],
        ["bad name", [], 5, True],
        ["{{ x }}", [], 5, True],
        ["arg", [["{{ x }}", "int"]], 5, True],
        ["broken", None, 5, True],
        ["broken2", [["a"]], 5, True],
        [5, [], 5, True],
        "nonsense",
    ]
    found = entities.commands({"commands": commands})
    assert {name: each.platform for name, each in found.items()} == {
        "none": "button",
        "optional": "button",
        "one": "number",
        "part": "number",
        "on": "switch",
    }
    assert entities.commands(None) == {}


HOSTILE = ["{{ states }}", '"}}{% x %}', "a.b", "a_b", "A_b", "\x00", "ü" * 300, "", " ", "r_x", "{#"]


def test_no_name_or_text_of_a_device_is_part_of_a_template_or_topic():
    report = {"fw": "{{ 1 }}", "agent": "{{ 1 }}" * 50, "battery": "{{ 1 }}"}
    message, components = described(standing(dict.fromkeys(HOSTILE, "{{ 1 }}"), **report))
    readings = {slug for slug in components if slug.startswith("r_")}
    assert len(readings) == len(HOSTILE)
    for slug, each in message["components"].items():
        assert re.fullmatch(r"[a-z]_[a-z0-9_]{0,52}", slug)
        assert "{{ 1" not in each["value_template"]
        assert each["value_template"].count(slug) >= 1
    state = json.loads(entities.state(standing(dict.fromkeys(HOSTILE, 5)), components))
    assert [state[slug] for slug in readings] == [5] * len(HOSTILE)


def test_a_device_with_a_dot_has_topics_of_its_own():
    names = ["a.b", "a_b", "a-b", "a..b", "a.b.c"]
    ids = [entities.object_id(name) for name in names]
    assert len(set(ids)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", each) for each in ids)
    assert PLACES.config("dev") == "homeassistant/device/dormouse_dev/config"


def test_a_reading_stays_and_a_command_goes():
    known = {"r_temp": "sensor", "r_open": "binary_sensor", "c_old": "button", "d_seen": "sensor"}
    message, components = described(standing(), known)
    assert message["components"]["c_old"] == {"platform": "button"}
    assert components.keys() >= {"r_temp", "r_open"}
    assert "c_old" not in components
    assert json.loads(entities.state(standing(), components))["r_temp"] is None


def test_a_thousand_readings_are_not_all_shown_and_a_long_text_is_cut():
    many = {f"k{n:04}": "x" * 1000 for n in range(1000)}
    message, components = entities.describe(PLACES, standing(many), {})
    assert len(components) == 60 + 6
    assert len(message) < 20_000
    assert len(entities.state(standing(many), components)) < 20_000
