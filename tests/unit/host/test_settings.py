"""Settings, arguments, a device's catalogue and lengths of time: how each is read, and what is refused."""

import pytest

from dormouse_host import orders, settings, terminal
from dormouse_host.cli import options
from dormouse_host.errors import HostError
from dormouse_host.ledger.queries import DeviceView


def test_values_are_json_unless_the_argument_is_text():
    words = ["s=5", "note=5", "x=true", "y=plain text", 'z={"a":1}', "e="]
    args = orders.read_words(words, {"note": ["str", ""]})
    assert args == {"s": 5, "note": "5", "x": True, "y": "plain text", "z": {"a": 1}, "e": ""}


@pytest.mark.parametrize("nonsense", [5, [[]], [["s"]], [["s", "quark"]], [["s", {}]], [[[], "int"]], None, "xy"])
def test_a_catalogue_of_nonsense_refuses_nothing(nonsense):
    device = DeviceView("dev", catalogue={"commands": [["water", nonsense, 5, False]]})
    assert orders.check(device, "water", {"s": 1}, None)[1] is not None


def test_an_option_goes_before_the_environment_and_that_before_the_file(tmp_path):
    (tmp_path / "dormouse.toml").write_text('db = "file.db"\nbroker = "mqtt://file"\nroot = "a/b"\n')
    environment = {"DORMOUSE_DB": "environment.db"}
    assert settings.read(None, None, environment, tmp_path) == settings.Settings("environment.db", "mqtt://file", "a/b")
    assert settings.read("option.db", None, environment, tmp_path).db == "option.db"


@pytest.mark.parametrize("text", ["db = ", "db = 5", "bd = 'x'", "root = 'a b'", "\0"])
def test_a_settings_file_that_makes_no_sense_is_refused(tmp_path, text):
    (tmp_path / "dormouse.toml").write_text(text)
    with pytest.raises(HostError) as caught:
        settings.read(None, None, {}, tmp_path)
    assert caught.value.code == 2


def test_lengths_of_time_and_dates():
    assert [options.seconds_until(text, 0) for text in ("90", "1.5h", "2d")] == [90, 5400, 172800]
    assert options.moment("1h", 10_000) == 6400
    assert [terminal.span(s) for s in (5, 200, 8000, 200_000)] == ["5 s", "3 min", "2 h", "2 d"]
