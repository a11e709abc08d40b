"""What people write into files: a mistake is one line with file, line and key, the same on host and device."""

import re

import pytest

from dormouse_host import settings, written
from dormouse_host.agent import mpy
from dormouse_host.agent.linux import Agent
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project

POSIX = kinds.load("POSIX")
PICO = kinds.load("RPI_PICO_W")
BROKER = "broker = 'mqtt://a'\n"


def why(action) -> str:
    with pytest.raises(HostError) as caught:
        action()
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def flashed(tmp_path):
    """The files of device `pine` of a project with this dormouse.toml."""

    def make(text, environment=None, over=None, board=POSIX):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "dormouse.toml").write_bytes(data)
        return project.device_files(project.read(tmp_path), board, "pine", over or {}, environment or {})

    return make


@pytest.mark.parametrize(
    "text, words",
    [
        (b"\xef\xbb\xbf" + BROKER.encode(), "dormouse.toml, line 1: the file is UTF-8 with a byte order mark"),
        (BROKER.encode("utf-16"), "dormouse.toml, line 1: the file is UTF-16: save it as plain UTF-8"),
        (BROKER.encode("utf-16-le"), "dormouse.toml, line 1: a NUL byte"),
        (b"broker = 'mqtt://a'\n[wifi]\nssid = 'Caf\xe9'", "dormouse.toml, line 3: not UTF-8"),
        (BROKER + "broker = 'mqtt://b'", "line 2"),
        (BROKER + "[device]\n\nconnect_every = '1'", "dormouse.toml, line 4: connect_every is a number"),
        (BROKER + "[device]\nled = 5", 'dormouse.toml, line 3: led is text in "'),
        (BROKER + "[device]\nclean_session = 'yes'", "dormouse.toml, line 3: clean_session is true or false"),
        (BROKER + "[device]\nbudget = inf", "dormouse.toml, line 3: budget is a number from 1 to 600"),
        (BROKER + "[device]\nbudget = nan", "dormouse.toml, line 3: budget is a number from 1 to 600"),
        (BROKER + "[devices.pine]\nbudgt = 5", "dormouse.toml, line 3: unknown key budgt"),
        (BROKER + "[devices.'pine']\nwake_pin = 4.5", "dormouse.toml, line 3: wake_pin is a whole number"),
        (BROKER + "[wifi]\nsid = 'x'", "dormouse.toml, line 3: unknown key wifi.sid: expected one of ssid, password"),
        (BROKER + "wifi = 'x'", "dormouse.toml, line 2: wifi: expected a table, [wifi]"),
        (BROKER + "[mqtt]\nuser = 5", "dormouse.toml, line 3: mqtt.user: expected text"),
        ("broker = 'http://a'", "dormouse.toml, line 1: broker is mqtt://"),
    ],
)
def test_a_mistake_in_the_project_file_is_told_with_line_and_key(flashed, text, words):
    assert words in why(lambda: flashed(text))


def test_the_fleet_s_commands_read_the_file_with_the_same_words(tmp_path):
    (tmp_path / "dormouse.toml").write_bytes(b"\xef\xbb\xbfdb = 'x'")
    assert "byte order mark" in why(lambda: settings.read(None, None, {}, tmp_path))
    (tmp_path / "dormouse.toml").write_text("[wifi]\n\n", newline="\r\n")
    said = settings.read(None, None, {}, tmp_path)
    assert (said.db, said.own) == ("ledger.db", True), "a project has a ledger of its own"
    (tmp_path / "dormouse.toml").write_text("\n\ndbb = 'x'\n")
    assert why(lambda: settings.read(None, None, {}, tmp_path)) == (
        "dormouse.toml, line 3: unknown key dbb: did you mean db?"
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("conect_every = 5", "unknown key conect_every: connect_every belongs below [device]"),
        ("connect_every = 5", "unknown key connect_every: it belongs below [device]"),
        ("brokr = 'mqtt://a'", "unknown key brokr: did you mean broker?"),
        ("xyz = 1", "unknown key xyz: expected one of db, broker, root"),
    ],
)
def test_a_key_at_the_top_that_is_none_is_told_with_what_was_meant(tmp_path, text, words):
    """The same by the fleet's commands and by those that flash."""
    (tmp_path / "dormouse.toml").write_text(f"\n{text}\n")
    for read in (lambda: settings.read(None, None, {}, tmp_path), lambda: project.read(tmp_path)):
        assert why(read).startswith(f"dormouse.toml, line 2: {words}")


def test_a_value_at_the_top_that_is_no_text_is_told(tmp_path):
    (tmp_path / "dormouse.toml").write_text("db = 5\n")
    assert why(lambda: settings.read(None, None, {}, tmp_path)) == "dormouse.toml, line 1: db: expected text"


NAMES = ["Café 📶", "x" * 32, "Müllers \"WLAN\" \\ 'x'", "0xff00", "\u0416", "a\tb", " "]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_and_password_of_a_network_reach_the_board_as_the_board_reads_them(flashed, name):
    """MicroPython reads no surrogate pairs, which Python's JSON writes for a character like 📶."""
    made = flashed(BROKER, {"WIFI_PASSWORD": 'päss📶 "\\x'}, {"ssid": name}, PICO)
    contents = made.contents()
    from dormouse import codec

    assert codec.load(contents["config.json"], "config.json")["ssid"] == name
    assert codec.load(contents["secrets.json"], "secrets.json")["wifi_password"] == 'päss📶 "\\x'


@pytest.mark.parametrize(
    "environment, over, words",
    [
        ({}, {"ssid": "x" * 33}, "ssid is at most 32 bytes"),
        ({}, {"ssid": "Caf\udce9"}, "ssid: not UTF-8: write the network's name as 0x and hex digits"),
        ({"WIFI_PASSWORD": "\udce9" * 8}, {}, "wifi_password: not UTF-8"),
        ({"WIFI_PASSWORD": "short"[:4]}, {}, "wifi password: expected 8 to 63 characters, or 64 hex digits; it has 4"),
        ({"WIFI_PASSWORD": "x" * 65}, {}, "it has 65 bytes"),
    ],
)
def test_a_name_or_password_that_no_network_has_is_refused_before_a_board_is_touched(flashed, environment, over, words):
    said = why(lambda: flashed(BROKER, environment, over, PICO))
    assert words in said
    assert "xxxx" not in said


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("secrets.json", b'{"user":"a","password":12345678}', 'secrets.json: password is text in "'),
        ("secrets.json", b'{"pasword":"hunter2"}', "secrets.json: unknown key pasword: expected one of user, password"),
        ("secrets.json", b'{"password":"hunter2",\n}', "secrets.json, line 2: not JSON: expected a key in"),
        ("secrets.json", b"\xef\xbb\xbf{}", "secrets.json, line 1: not JSON: expected UTF-8 without a byte order mark"),
        ("secrets.json", b"[]", "secrets.json: not a JSON object"),
        ("config.json", b'{"budget":1,"budget":2}', "config.json, line 1: the key budget stands twice"),
        ("config.json", b'{\n// mine\n"budget":1}', 'config.json, line 2: not JSON: expected a key in " or }, not /'),
        ("config.json", '{"budget":1}'.encode("utf-16"), "config.json, line 1: not JSON: expected UTF-8 without"),
    ],
)
def test_a_mistake_in_a_device_s_own_files_is_what_the_device_would_say(flashed, tmp_path, name, data, words):
    (tmp_path / "devices" / "pine").mkdir(parents=True)
    (tmp_path / "devices" / "pine" / name).write_bytes(data)
    said = why(lambda: flashed(BROKER))
    assert words in said
    assert "hunter2" not in said


def test_a_program_that_a_board_cannot_read_is_refused_by_line(tmp_path):
    app = tmp_path / "app.py"
    for data, words in (
        (b"\xef\xbb\xbfx = 1\n", "app.py, line 1: the file is UTF-8 with a byte order mark"),
        ("x = 1".encode("utf-16"), "app.py, line 1: the file is UTF-16"),
        (b"# a\r\n# caf\xe9\r\n", "app.py, line 2: not UTF-8"),
    ):
        app.write_bytes(data)
        assert words in why(lambda: written.text(app))
        assert words in why(lambda: Agent(app, tmp_path / "state", {}, 900, print))
    app.write_bytes(b"x = 1\r\ny = '\xc3\xa9'\r\n")
    assert written.text(app).startswith("x = 1")


def test_the_compiler_s_words_come_with_their_line():
    with pytest.raises(HostError, match=re.escape("app.py does not compile: line 3: SyntaxError: invalid syntax")):
        mpy.compile_mpy("\n\ndef f(:\n", "app.py")
    with pytest.raises(HostError, match=re.escape("app.py does not compile: line 2: SyntaxError: ")):
        mpy.compile_mpy("if 1:\nx = 1\n", "app.py")
