"""The broker's profile in dormouse.toml: read as a URL or a table, written without changing anything else."""

import json
import tomllib

import pytest

from dormouse_host import profile, settings
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project
from dormouse_host.presets import PRESETS
from support import pages

FOUND = {"url": "mqtt://b:1883", "retain": False, "drain": "quiet", "quiet": 700}


@pytest.mark.parametrize(
    "before, line",
    [
        ('# a\nbroker = "mqtt://old" # b\nroot = "r"\n[device]\nled = "2"\n', "broker.retain = false"),
        (
            'root = "r"\nbroker.url = "mqtt://old"\nbroker.quiet = 5\ndb = "x"\n\n[wifi]\nssid = "s"\n',
            "broker.quiet = 700",
        ),
        ('root = "r"\n[broker]\nurl = "mqtt://old"  # c\npreset = "emqx"\n\n[wifi]\nssid = "s"\n', "quiet = 700"),
        ('[wifi]\nssid = "Café 📶"\n', "[broker]"),
        ("", "[broker]"),
        ("root = 'r'", "[broker]"),
    ],
)
def test_a_profile_is_written_and_all_else_stays(tmp_path, before, line):
    path = tmp_path / "dormouse.toml"
    path.write_text(before)
    was = tomllib.loads(before)
    assert profile.keep(path, FOUND) is True
    text = path.read_text()
    now = tomllib.loads(text)
    old = was.pop("broker", {})
    assert now.pop("broker") == {**(old if isinstance(old, dict) else {}), **FOUND}
    assert now == was
    assert line in text.splitlines()
    for comment in ("# a", "# c"):
        assert (comment in before) <= (comment in text) or f"url = {comment}" not in before
    assert profile.keep(path, FOUND) is False
    assert path.read_text() == text
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "before", ['broker = """\nmqtt://old"""\n', 'broker = { url = "mqtt://old" }\n', '"broker".url = "mqtt://old"\n']
)
def test_a_file_that_cannot_be_changed_safely_stays_and_says_what_to_write(tmp_path, before):
    path = tmp_path / "dormouse.toml"
    path.write_text(before)
    with pytest.raises(HostError, match="retain = false") as caught:
        profile.keep(path, FOUND)
    assert caught.value.code == 2
    assert path.read_text() == before


def test_settings_of_a_preset_are_below_those_of_the_profile():
    grid = {"preset": "azure-event-grid"}
    assert profile.settings(grid) | {"waiting": profile.waiting(grid)} == dict(PRESETS["azure-event-grid"].settings)
    own = {"url": "mqtts://x", "preset": "aws-iot-core", "quiet": 300}
    assert profile.settings(own) == {"drain": "quiet", "quiet": 300}
    assert profile.settings("mqtt://x") == profile.settings(None) == {}


@pytest.mark.parametrize(
    "name, words", [("nonsense", "expected one of mosquitto"), ("azure-iot-hub", "use Azure Event Grid")]
)
def test_a_preset_that_cannot_be_is_refused_with_the_reason(name, words):
    with pytest.raises(HostError, match=words) as caught:
        profile.settings({"preset": name})
    assert caught.value.code == 2


def test_every_preset_is_a_configuration_that_the_device_takes():
    for preset in PRESETS.values():
        ours = {key: value for key, value in preset.settings.items() if key != "waiting"}
        project.checked({"id": "dev", "broker": "mqtt://x", **ours})


def files(tmp_path, text: str, over=None, environment=None) -> dict:
    (tmp_path / "dormouse.toml").write_text(text)
    here = project.read(tmp_path)
    return project.device_files(here, kinds.load("RPI_PICO_W"), "pine", over or {}, environment or {}).full


TABLE = '[broker]\nurl = "mqtt://b"\npreset = "azure-event-grid"\nquiet = 800\n[wifi]\nssid = "s"\n'


def test_flash_takes_the_profile_and_a_devices_own_setting_goes_before_it(tmp_path):
    full = files(tmp_path, TABLE + "[device]\nquiet = 900\n[devices.pine]\nretain = true\n")
    assert (full["host"], full["retain"], full["drain"], full["quiet"]) == ("b", True, "quiet", 900)
    read = settings.read(None, None, {}, tmp_path)
    assert (read.broker, read.waiting) == ("mqtt://b", 60)
    assert settings.read(None, "mqtt://c", {}, tmp_path).waiting == 256


def test_a_url_written_otherwise_is_the_same_broker():
    told = {"url": "mqtt://b:1883", "retain": False}
    assert all(profile.is_of(told, each) for each in ("mqtt://b", "tcp://b:1883/", "mqtt://ann:pw@b"))
    assert not any(profile.is_of(told, each) for each in ("mqtts://b", "mqtt://b:1884", "mqtt://c", "", None))
    assert profile.is_of({"retain": False}, "mqtt://c")


def test_a_profile_holds_for_its_own_broker_alone(tmp_path):
    for over, environment in (({"broker": "mqtt://c"}, {}), ({}, {"DORMOUSE_BROKER": "mqtt://c"})):
        full = files(tmp_path, TABLE, over, environment)
        assert (full["host"], full["retain"], full["drain"]) == ("c", True, "fence")


@pytest.mark.parametrize(
    "text, words",
    [
        ("[broker]\nurl = 5\n", "line 2: broker.url: expected text"),
        ("[broker]\nretain = 1\n", "line 2: broker.retain: expected true or false"),
        ("[broker]\nquiet = true\n", "line 2: broker.quiet: expected a whole number"),
        ("[broker]\nsilent = 1\n", "line 2: unknown key broker.silent"),
        ('[broker]\nurl = "mqtt://b"\ndrain = "slow"\n', "drain is fence or quiet"),
    ],
)
def test_a_wrong_profile_is_named_with_its_line(tmp_path, text, words):
    with pytest.raises(HostError) as caught:
        files(tmp_path, text)
    assert words in str(caught.value)
    assert caught.value.code == 2


def test_each_preset_is_a_row_of_facts_with_its_settings():
    rows = [row for table in pages.tables(pages.page("brokers")) for row in table]
    for name, preset in PRESETS.items():
        row = next(cells for cells in rows if f"`{name}`" in cells[0])
        told = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in preset.settings.items())
        assert row[-1].strip() == (told or ("refused: a device can't send itself the fence" if preset.refused else ""))
