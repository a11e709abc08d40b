"""dormouse.toml: what goes over what, and that a wrong key is named before anything is done."""

import json
import os
import re
from pathlib import Path

import pytest
import typer.testing

from dormouse_host.agent import mpy
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.flash import before, kinds, project, releases
from dormouse_host.flash.files import MAIN_TEXT, collect, new_state, outside
from dormouse_host.release import MOST_BYTES
from support.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
PICO = kinds.load("RPI_PICO_W")
POSIX = kinds.load("POSIX")  # the files are the same but for the port


@pytest.fixture
def write(tmp_path):
    """Write dormouse.toml into a project's folder and read it back as a project."""

    def _write(text):
        (tmp_path / "dormouse.toml").write_text(text)
        (tmp_path / "app.py").write_text("from dormouse import command\n")
        return project.read(tmp_path)

    return _write


def files(here, over=None, environment=None, device="pine"):
    return project.device_files(here, PICO, device, over or {}, environment or {})


def test_a_device_that_was_left_out_where_others_have_a_credential_is_told(write, tmp_path, monkeypatch):
    """Also at `dormouse agent run`: the broker's refusal would say nothing of it."""
    here = write('broker = "mqtt://127.0.0.1:1"\n')
    for name in ("DORMOUSE_BROKER", *project.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)

    def lacks(device="field-77", **environment):
        return project.lacks_credential(here, device, files(here, None, environment, device))

    assert not lacks()
    (tmp_path / "devices" / "field-01").mkdir(parents=True)
    assert lacks()
    assert not lacks("field-01")
    assert not lacks(MQTT_USERNAME="ann", MQTT_PASSWORD="hunter22")
    monkeypatch.chdir(tmp_path)
    words = ["agent", "run", "app.py", "--device", "field-77", "--state", "state"]
    told = typer.testing.CliRunner().invoke(app.app, words)
    warning = "dormouse: field-77 has no credential in devices/, as others have: dormouse provision field-77"
    assert told.stderr.splitlines().count(warning) == 1


def test_each_place_goes_over_the_one_before(write):
    here = write(
        'broker = "mqtt://a"\n[device]\nconnect_every = 60\nbudget = 30\ninbox = 32\n'
        "[devices.pine]\nconnect_every = 70\nbudget = 40\n"
    )
    config = files(here, {"budget": 50, "broker": "mqtt://b"}).full
    assert (config["inbox"], config["connect_every"], config["budget"], config["host"]) == (32, 70, 50, "b")
    assert files(here, device="oak").full["connect_every"] == 60


def test_what_was_provisioned_goes_over_the_project_and_under_the_device(write, tmp_path):
    here = write('broker = "mqtt://a"\n[mqtt]\nuser = "all"\npassword = "p"\n[devices.pine]\nbudget = 40\n')
    given = tmp_path / "devices" / "pine"
    given.mkdir(parents=True)
    (given / "config.json").write_text('{"broker": "mqtt://secure", "budget": 99}')
    (given / "secrets.json").write_text('{"user": "pine", "password": "own"}')
    (given / "ca.der").write_bytes(b"0\x82")
    mine = files(here)
    assert (mine.full["host"], mine.full["budget"]) == ("secure", 40)
    assert mine.secrets == {"user": "pine", "password": "own"}
    assert mine.contents()["ca.der"] == b"0\x82"
    assert "ca.der" not in files(here, device="oak").contents()


def test_certificate_and_key_that_do_not_belong_together_are_not_flashed(write, tmp_path):
    """`dormouse rotate`, killed between the two files: the board would be locked out."""
    here = write('broker = "mqtts://a"\n')
    given = tmp_path / "devices" / "pine"
    given.mkdir(parents=True)
    ca = Authority(tmp_path)
    (given / "ca.der").write_bytes(ca.der)
    (given / "config.json").write_text('{"ca": "ca.der", "cert": "cert.der", "key": "key.der"}')
    ca.sign(common="pine").der(given)
    assert set(files(here).keys) == {"ca.der", "cert.der", "key.der"}
    key = (given / "key.der").read_bytes()
    ca.sign(common="pine").der(given)
    for wrong in (key, b"no key"):
        (given / "key.der").write_bytes(wrong)
        with pytest.raises(HostError, match="do not match: continue with dormouse rotate pine"):
            files(here)


def test_secrets_are_in_their_own_file_and_in_no_message(write):
    here = write('broker = "mqtt://a"\n[wifi]\npassword = "hushhush"\n[mqtt]\nuser = "u"\npassword = "hushhush"\n')
    mine = files(here, environment={"MQTT_PASSWORD": "hushhush2"})
    contents = mine.contents()
    assert json.loads(contents["secrets.json"]) == {"wifi_password": "hushhush", "user": "u", "password": "hushhush2"}
    assert b"hushhush" not in contents["config.json"]
    assert "hushhush" not in repr(mine)


@pytest.mark.parametrize("how", ["password", "certificate", "shared key", "none"])
def test_a_credential_of_its_own_is_not_replaced_by_one_of_the_environment(write, tmp_path, how):
    """A shell in which a relay was started has the relay's password, which may command every device."""
    here = write('broker = "mqtts://a"\n')
    given = tmp_path / "devices" / "pine"
    given.mkdir(parents=True)
    ca = Authority(tmp_path)
    (given / "ca.der").write_bytes(ca.der)
    own = {"password": {"user": "pine", "password": "its own"}, "shared key": {"password": "ab" * 32}}.get(how, {})
    config = {
        "certificate": {"ca": "ca.der", "cert": "cert.der", "key": "key.der"},
        "shared key": {"psk": True},
    }.get(how, {"ca": "ca.der"})
    if how == "certificate":
        ca.sign(common="pine").der(given)
    (given / "secrets.json").write_text(json.dumps({**own, "command_key": "cd" * 32}))
    (given / "config.json").write_text(json.dumps(config))
    there = {"MQTT_USERNAME": "relay", "MQTT_PASSWORD": "the relay", "WIFI_PASSWORD": "hushhush"}
    secrets = dict(files(here, environment=there).secrets)
    assert (secrets.pop("wifi_password"), secrets.pop("command_key")) == ("hushhush", "cd" * 32)
    assert secrets == ({"user": "relay", "password": "the relay"} if how == "none" else own)


def test_further_networks_are_secrets_in_their_order(write):
    text = 'broker = "mqtt://a"\n[wifi]\nssid = "home"\n'
    text += 'also = [{ssid = "barn", password = "hushhush"}, {ssid = "hall"}]\n'
    mine = files(write(text))
    contents = mine.contents()
    assert json.loads(contents["secrets.json"])["wifi"] == [["barn", "hushhush"], ["hall", ""]]
    assert (json.loads(contents["config.json"])["ssid"], b"barn" in contents["config.json"]) == ("home", False)
    assert "hushhush" not in repr(mine)
    text += '[devices.pine.wifi]\nalso = [{ssid = "shed", password = "hushhush"}]\n'
    assert json.loads(files(write(text)).contents()["secrets.json"])["wifi"] == [["shed", "hushhush"]]


@pytest.mark.parametrize(
    "also, message",
    [
        ("'barn'", "expected a list"),
        ("['barn']", "expected tables of texts"),
        ("[{ssid = 'barn', password = 5}]", "expected tables of texts"),
        ("[{password = 'hushhush'}]", "expected ssid and password of each network"),
        ("[{ssid = 'barn', key = 'hushhush'}]", "expected ssid and password of each network"),
        ("[{ssid = 'barn', password = 'hush'}]", "barn: expected 8 to 63 characters, or 64 hex digits; it has 4 bytes"),
        ("[{ssid = '" + 33 * "x" + "'}]", "wifi is at most 8 pairs [name, password]"),
        ("[" + 9 * "{ssid = 'barn'}, " + "]", "wifi is at most 8 pairs [name, password]"),
    ],
)
def test_further_networks_that_are_none_are_refused_and_no_password_is_told(write, also, message):
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        files(write(f"broker = 'mqtt://a'\n[wifi]\nssid = 'home'\nalso = {also}\n"))
    assert caught.value.code == 2
    assert "hush" not in str(caught.value).replace("hushhush", "")
    assert "hushhush" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("lan = 'phy_type=LAN8720'", "lan: a Raspberry Pi Pico W has no Ethernet"),
        ("gateway = '10.0.0.1'", "gateway: expected address, too"),
        ("address = '10.0.0.300/24'", "address is an IPv4 address"),
        ("dns = 'router'", "dns is an IPv4 address"),
    ],
)
def test_a_network_that_the_board_cannot_have_is_refused(write, text, message):
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        files(write(f"broker = 'mqtt://a'\n[device]\n{text}\n"))
    assert caught.value.code == 2


def test_a_board_with_ethernet_needs_no_wifi(write):
    board = kinds.load("OLIMEX_ESP32_POE")
    mine = project.device_files(write('broker = "mqtt://a"\n'), board, "pine", {}, {})
    assert "power=12" in mine.config["lan"]
    before.check_network(mine)
    with pytest.raises(HostError, match="ssid is missing"):
        before.check_network(project.device_files(write('broker = "mqtt://a"\n'), board, "pine", {"lan": ""}, {}))


@pytest.mark.parametrize(
    "text, message",
    [
        ("brokr = 'mqtt://a'", "unknown key brokr"),
        ("broker = 5", "broker: expected text"),
        ("[wifi]\nname = 'x'", "unknown key wifi.name: expected one of ssid, password"),
        ("[wifi]\nssid = 5", "wifi.ssid: expected text"),
        ("[app]\nfiles = 'x'", "app.files: expected a list of texts"),
        ("[app]\nfiles = [1]", "app.files: expected a list of texts"),
        ("[app]\npackages = ['']", "line 2: app.packages: one of its names is empty"),
        ("[app]\nfiles = ['a.py', ' ']", "line 2: app.files: one of its names is empty"),
        ('[app]\nfiles = ["a\\u0000b"]', "line 2: app.files: expected no control characters"),
        ('[app]\nmain = "a\\nb"', "line 2: app.main: expected no control characters"),
        ("wifi = 'x'", "wifi: expected a table, [wifi]"),
        ("[devices]\npine = 1", "devices.pine: expected a table"),
        ("[devices.pine]\nboard = 1", "devices.pine.board: expected text"),
        ("[devices.pine.mqtt]\nname = 'x'", "unknown key devices.pine.mqtt.name"),
        ("broker = ", "Invalid value"),
        ("broker = 'http://a'", "broker is mqtt"),
        ("broker = 'mqtt://u:p@a'", "broker is mqtt"),
        ("broker = 'mqtt://a'\n[device]\nconnect_evry = 1", "unknown key connect_evry"),
        ("broker = 'mqtt://a'\n[device]\nconnect_every = '1'", "connect_every is a number from 1 to 604800"),
        ("broker = 'mqtt://a'\n[device]\nconnect_every = 0", "connect_every is a number from 1 to 604800"),
        ("broker = 'mqtt://a'\n[device]\nconnect_every = [1]", "connect_every: expected text, a number"),
        ("broker = 'mqtt://a'\n[devices.pine]\nid = 'oak'", "id: the configuration of pine"),
        ("", "broker is missing"),
    ],
)
def test_what_is_wrong_is_one_line_naming_the_key(write, text, message):
    with pytest.raises(HostError, match=re.escape(message)) as caught:
        files(write(text))
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)


def test_a_device_name_that_no_topic_can_hold_is_refused(write):
    with pytest.raises(HostError, match="id"):
        files(write("broker = 'mqtt://a'"), device="pine/+")


@pytest.mark.parametrize("pair, value", [("a=1", 1), ("a=true", True), ("a=x", "x"), ("a=", ""), ("a=1=2", "1=2")])
def test_a_set_option_is_json_where_it_can_be(pair, value):
    assert project.settings([pair]) == {"a": value}
    with pytest.raises(HostError, match="KEY=VALUE"):
        project.settings(["a"])


@pytest.mark.parametrize(
    "name, message",
    [
        ("../x.py", "inside the project"),
        ("/etc/passwd", "inside the project"),
        ("main.py", "belongs to the agent"),
        ("secrets.json", "belongs to the agent"),
        ("lib/dormouse/agent.py", "belongs to the agent"),
        ("lib/dormouse", "belongs to the agent"),
        ("lib/umqtt/simple.py", "belongs to the agent"),
        ("dormouse", "belongs to the agent"),
        ("./dormouse/__init__.py", "belongs to the agent"),
        ("dormouse.py", "belongs to the agent"),
        ("dormouse.mpy", "belongs to the agent"),
        ("lib/dormouse.py", "belongs to the agent"),
        ("umqtt/simple.py", "belongs to the agent"),
        ("lib/umqtt.py", "belongs to the agent"),
        ("state/cmd", "belongs to the agent"),
        ("out.bin", "inside the project"),
        ("away/out.bin", "inside the project"),
        ("pipe", "is not a plain file"),
        ("folder", "is not a plain file"),
        ("huge.bin", "is too big: a release has 4 MB at most"),
        ("missing.py", "No such file"),
        ("broken.py", "does not compile"),
    ],
)
def test_a_file_of_the_app_that_cannot_be_flashed_is_named(write, tmp_path, name, message):
    here = write(f"broker = 'mqtt://a'\n[app]\nfiles = ['{name}']")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "out.bin").symlink_to("/dev/zero")
    (tmp_path / "away").symlink_to(tmp_path.parent)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge.bin").open("wb") as huge:
        huge.truncate(MOST_BYTES + 1)
    for make in (lambda: collect(here, POSIX, None), lambda: releases.build(here, POSIX)):
        with pytest.raises(HostError, match=message) as caught:
            make()
        assert name.rpartition("/")[2] in str(caught.value)


def test_a_link_within_a_project_is_followed_and_so_is_one_to_its_folder(write, tmp_path):
    write("broker = 'mqtt://a'\n[app]\nfiles = ['table.csv']")
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / "table.csv").symlink_to("data.csv")
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    assert collect(project.read(link), POSIX, None).files["table.csv"] == b"1,2\n"


def test_a_program_that_never_ends_is_not_read(write, tmp_path):
    here = write("broker = 'mqtt://a'")
    (tmp_path / "app.py").unlink()
    (tmp_path / "app.py").symlink_to("/dev/zero")
    with pytest.raises(HostError, match=r"app\.py is not a plain file"):
        collect(here, POSIX, tmp_path / "app.py")
    with pytest.raises(HostError, match=r"^app\.main: app\.py: expected a path inside the project's folder$"):
        collect(here, POSIX, None)


@pytest.mark.parametrize("name", ["../x.py", "/etc/passwd", "linked.py", "", "."])
def test_a_program_outside_the_project_is_refused(write, tmp_path, name):
    """As a file of the app is: what is flashed is what lies in the project, unless --app names another."""
    here = write(f"broker = 'mqtt://a'\n[app]\nmain = '{name}'")
    elsewhere = tmp_path.parent / "x.py"
    elsewhere.write_text("x = 1\n")
    (tmp_path / "linked.py").symlink_to(elsewhere)
    for make in (lambda: collect(here, POSIX, None), lambda: releases.build(here, POSIX)):
        with pytest.raises(HostError, match=f"^app.main: {re.escape(name)}: expected a path inside") as caught:
            make()
        assert caught.value.code == 2
    assert collect(here, POSIX, elsewhere).files["app.py"] == b"x = 1\n"


@pytest.mark.parametrize(
    "name, message",
    [
        ("dormouse/agent.py", "lib/dormouse/agent.py: that path on the board belongs to the agent"),
        ("dormouse.py", "lib/dormouse.py: that path on the board belongs to the agent"),
        ("umqtt/simple.py", "lib/umqtt/simple.py: that path on the board belongs to the agent"),
        ("../boot.py", "lib/../boot.py: its path leads out of lib"),
        ("../../../../../escaped", "escaped: its path leads out of lib"),
    ],
)
def test_a_package_brings_no_file_of_the_agent_s_and_writes_nowhere_else(write, tmp_path, monkeypatch, name, message):
    """Neither on the board nor here, where a copy of it is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "bad"
    package.mkdir()
    (package / "a.py").write_text("y = 2\n")
    (package / "package.json").write_text(json.dumps({"urls": [["fine.py", "a.py"], [name, "a.py"]]}))
    here = write(f"broker = 'mqtt://a'\n[app]\npackages = ['{package}/package.json']")
    for make in (lambda: collect(here, POSIX, None), lambda: releases.build(here, POSIX)):
        with pytest.raises(HostError, match=re.escape(message)) as caught:
            make()
        assert (caught.value.code, str(package) in str(caught.value)) == (2, True)
    assert not list(tmp_path.rglob("escaped"))


def test_main_takes_effect_last_and_configuration_just_before_it(write, tmp_path):
    here = write("broker = 'mqtt://a'\n[app]\nfiles = ['lib/sensor.py']")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sensor.py").write_text("x = 1\n")
    assert list(outside(files(here))) == ["guard.mpy", "config.json", "secrets.json", "main.py"]
    assert "lib/sensor.py" in collect(here, POSIX, None).files


def test_main_starts_the_guard_that_is_flashed_beside_it():
    assert f"import {mpy.GUARD}\n".encode() in MAIN_TEXT


def test_a_board_s_battery_pin_is_its_default_and_the_led_stays_off(write):
    """Pico W measures VSYS by itself; an ESP32's divider is its owner's."""
    here = write("broker = 'mqtt://a'")
    full = files(here).full
    assert (full["battery_pin"], full["battery_divider"], full["led"]) == (29, 3.0, "")
    assert files(here, {"battery_pin": -1}).full["battery_pin"] == -1
    esp = project.device_files(here, kinds.load("ESP32_GENERIC"), "pine", {}, {})
    assert esp.full["battery_pin"] == -1


def test_a_package_is_found_by_mpremote_s_mip_and_kept_for_a_flash_without_it(write, tmp_path, monkeypatch):
    """From a folder here, as from any URL; then the folder is gone, and what was fetched is used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "bme"
    package.mkdir()
    (package / "bme.py").write_text("y = 2\n")
    (package / "package.json").write_text(json.dumps({"urls": [["bme/driver.py", "bme.py"]]}))
    here = write(f"broker = 'mqtt://a'\n[app]\npackages = ['{package}/package.json']")
    found = collect(here, POSIX, None).files
    assert found["lib/bme/driver.py"] == b"y = 2\n"
    (package / "bme.py").unlink()
    assert collect(here, POSIX, None).files["lib/bme/driver.py"] == b"y = 2\n"


def test_a_package_that_is_nowhere_is_named(write):
    here = write("broker = 'mqtt://a'\n[app]\npackages = ['./nowhere/package.json']")
    with pytest.raises(HostError, match=r"package ./nowhere/package.json: "):
        collect(here, POSIX, None)


def test_a_new_state_is_one_that_the_agent_finds(tmp_path):
    """The device takes the name that flash has made, and does not make one of its own."""
    from dormouse.inbox import Inbox
    from dormouse.ports.storage import Storage

    name, written = new_state()
    for path, data in written.items():
        (tmp_path / Path(path).name).write_bytes(data)
    assert Inbox(Storage(str(tmp_path)), lambda n: b"\xff" * n, 8, lambda name: None).state == name
    assert new_state()[0] != name
