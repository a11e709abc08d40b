"""The network in the configuration: a fixed address, and Wi-Fis in order of preference."""

from desk import full, reason, why
from runner import folder

from dormouse.config import check, in_force
from dormouse.errors import ConfigError
from dormouse.ports.storage import Storage


def test_a_fixed_address_is_what_ifconfig_takes():
    """With its mask; the gateway answers for names where nobody else is to."""
    assert check(full())["static"] is None
    assert check(full(dns="9.9.9.9"))["static"] is None
    own = {"address": "192.168.1.50/20", "gateway": "192.168.1.1"}
    assert check(full(**own))["static"] == ("192.168.1.50", "255.255.240.0", "192.168.1.1", "192.168.1.1")
    own["dns"] = "9.9.9.9"
    assert check(full(**own))["static"] == ("192.168.1.50", "255.255.240.0", "192.168.1.1", "9.9.9.9")
    assert check(full(address="10.0.0.9"))["static"] == ("10.0.0.9", "255.255.255.0", "0.0.0.0", "0.0.0.0")
    assert check(full(address="10.0.0.9/30"))["static"][1] == "255.255.255.252"
    assert check(full(address="10.0.0.9/8"))["static"][1] == "255.0.0.0"


def test_an_address_that_is_none_is_named():
    """Nobody would find out before the board is out of reach."""
    for wrong in ("10.0.0", "10.0.0.256", "10.0.0.1.2", "broker", "10.0.0.x", "::1", "-1.0.0.1"):
        for key in ("address", "gateway", "dns"):
            values = {"address": "10.0.0.9/24"}
            values[key] = wrong
            assert why(**values) == "config: %s is an IPv4 address" % key, wrong
    for wrong in ("10.0.0.9/33", "10.0.0.9/x", "10.0.0.9/-1"):
        assert why(address=wrong) == "config: address is an IPv4 address"


def test_networks_are_the_first_and_those_of_the_secrets():
    """In order of preference, names and keys in bytes."""
    base = full(ssid="0x436166e9")
    assert in_force(base, Storage(folder()))[0]["networks"] == [(b"Caf\xe9", b"")]
    secrets = {"wifi_password": "p\xe4ss", "wifi": [["barn", "hay"], ["0xff", ""]]}
    found = in_force(base, Storage(folder()), secrets)[0]["networks"]
    assert found == [(b"Caf\xe9", b"p\xc3\xa4ss"), (b"barn", b"hay"), (b"\xff", b"")]


def test_networks_that_are_none_are_refused_without_a_value():
    """secrets.json is edited by hand now and then."""
    wrong: list = ["barn", "ab", {"ab": 1}, ["barn"], [["barn"]], [["barn", 5]], [["barn", None]], [[5, "hush"]]]
    wrong += [[["", "hush"]], [["x" * 33, "hush"]], [["barn", "hush", 1]], [["barn", "hush"]] * 9, 7, None, True]
    for value in wrong:
        said = reason(ConfigError, in_force, full(), Storage(folder()), {"wifi": value})
        assert said == "secrets.json: wifi is at most 8 pairs [name, password]", value
    assert in_force(full(), Storage(folder()), {"wifi": [["barn", "hush"]] * 8})[0]["networks"][8] == (b"barn", b"hush")
