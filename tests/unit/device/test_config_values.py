"""Values of the configuration: secrets, a network's name, pins."""

from desk import reason
from runner import folder

from dormouse.config import check, check_secrets, in_force
from dormouse.errors import ConfigError
from dormouse.ports.storage import Storage


def test_secrets_are_texts_under_known_keys_and_no_error_tells_one():
    """A number used to end in an AttributeError at the first CONNECT."""
    good = {"user": "a", "password": "p", "wifi_password": "w", "command_key": "00"}
    check_secrets(good)
    for value in (12345678, None, True, ["hunter2"], {"a": "hunter2"}, 1.5):
        for key in good:
            why = reason(ConfigError, check_secrets, dict(good, **{key: value}))
            assert why == 'secrets.json: %s is text in "' % key
    why = reason(ConfigError, check_secrets, {"wifi_pasword": "hunter2"})
    assert why.startswith("secrets.json: unknown key wifi_pasword: expected one of user, ")
    assert "hunter2" not in why
    base = {"id": "d", "broker": "mqtt://h"}
    why = reason(ConfigError, in_force, base, Storage(folder()), {"password": 5})
    assert why == 'secrets.json: password is text in "'


def test_a_networks_name_is_32_bytes_of_any_kind():
    """UTF-8, or hex digits where it is none."""
    base = {"id": "d", "broker": "mqtt://h"}
    for name, network in (
        ("", b""),
        ("home", b"home"),
        ("Caf\u00e9 \U0001f4f6", b"Caf\xc3\xa9 \xf0\x9f\x93\xb6"),
        ("0x436166e9", b"Caf\xe9"),
        ("0x" + "00" * 32, b"\0" * 32),
        ("0xCAFE", b"\xca\xfe"),
        ("0x1", b"0x1"),
        ("0xzz", b"0xzz"),
        ("x" * 32, b"x" * 32),
    ):
        assert check(dict(base, ssid=name))["network"] == network, name
    for name in ("x" * 33, "\u20ac" * 11, "0x" + "00" * 33):
        assert reason(ConfigError, check, dict(base, ssid=name)) == "config: ssid is at most 32 bytes"


def test_a_pin_is_a_whole_number():
    """4.5 would raise where the pin is used."""
    base = {"id": "d", "broker": "mqtt://h"}
    for key in ("battery_pin", "hold_pin", "wake_pin", "inbox", "payload"):
        assert reason(ConfigError, check, dict(base, **{key: 64.5 if key == "payload" else 4.5}))
    assert check(dict(base, budget=1.5, battery_floor=3.3))["budget"] == 1.5
