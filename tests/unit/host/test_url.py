"""The broker's URL: what is taken, what is refused, and that no password is ever shown."""

import pytest

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.errors import HostError

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    "url, address",
    [
        ("mqtt://broker.local", BrokerAddress("broker.local")),
        ("mqtt://broker.local/", BrokerAddress("broker.local")),
        ("tcp://10.0.0.7:1884", BrokerAddress("10.0.0.7", 1884)),
        ("MQTT://Broker:1", BrokerAddress("broker", 1)),
        ("mqtt://[::1]:1884", BrokerAddress("::1", 1884)),
        ("mqtt://ann:pw@host", BrokerAddress("host", 1883, "ann", "pw")),
        ("mqtt://ann:p%40w%2F%3A@host", BrokerAddress("host", 1883, "ann", "p@w/:")),
        ("mqtt://ann@host", BrokerAddress("host", 1883, "ann")),
    ],
)
def test_url_is_read_as_written(url, address):
    assert parse(url, {}) == address


def test_environment_fills_in_what_the_url_leaves_out():
    """A password belongs neither in the shell's history nor in the process list."""
    environment = {"MQTT_USERNAME": "ann", "MQTT_PASSWORD": "p%40"}
    assert parse("mqtt://host", environment) == BrokerAddress("host", 1883, "ann", "p%40")
    assert parse("mqtt://bob@host", environment) == BrokerAddress("host", 1883, "bob", "p%40")
    assert parse("mqtt://bob:x@host", environment) == BrokerAddress("host", 1883, "bob", "x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker.local",
        "broker.local:1883",
        "http://broker.local",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:0",
        "mqtt://host:65536",
        "mqtt://host:seven",
        "mqtt://host:-1",
        "mqtt://host/path",
        "mqtt://host?x=1",
        "mqtt://host#x",
        "mqtt://ho st",
        "mqtt://[::1",
        "mqtt://-host",
        "mqtt://ann:pw@",
    ],
)
def test_malformed_url_is_refused_in_one_line_with_code_2(url):
    with pytest.raises(HostError) as caught:
        parse(url, {})
    assert caught.value.code == 2
    assert "malformed broker URL" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mqtt://ann:{PASSWORD}/x@host",
        f"mqtt://ann:{PASSWORD}#x@host",
        f"mqtt://ann:{PASSWORD}?x@host",
        f"mqtt://ann:12/{PASSWORD}@host",
        f"ann:{PASSWORD}@host",
        f"http://ann:{PASSWORD}@host",
        f"mqtts://ann:{PASSWORD}@host:0",
        f"mqtt://:{PASSWORD}@host",
        f"mqtt://ann:{PASSWORD}@host:99999",
        f"mqtt://ann:{PASSWORD}@[host",
    ],
)
def test_password_in_a_refused_url_is_not_repeated(url):
    with pytest.raises(HostError) as caught:
        parse(url, {})
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_address_shows_no_password_however_it_is_printed():
    address = parse(f"mqtt://ann:{PASSWORD}@host", {})
    assert PASSWORD not in f"{address} {address!r} {address.url}"


def test_tls_has_its_own_port_and_takes_the_ca_from_the_environment():
    assert parse("mqtts://host", {}) == BrokerAddress("host", 8883, tls=True)
    assert parse("mqtts://host:1", {"DORMOUSE_CA": "/ca.crt"}) == BrokerAddress("host", 1, tls=True, ca="/ca.crt")
    assert parse("mqtt://host", {"DORMOUSE_CA": "/ca.crt"}) == BrokerAddress("host")
    own = {"DORMOUSE_CERT": "/a.pem", "DORMOUSE_KEY": "/a.key"}
    address = parse("mqtts://host", own)
    assert (address.cert, address.key) == ("/a.pem", "/a.key")
    assert "/a.key" not in repr(address)
    with pytest.raises(HostError, match="go together"):
        parse("mqtts://host", {"DORMOUSE_CERT": "/a.pem"})


def test_tls_stays_tls_when_the_address_is_written_down():
    """What a device's config.json gets from here must not become a connection in clear."""
    assert parse("mqtts://ann@host", {}).url == "mqtts://host:8883"


def test_password_without_user_is_refused():
    """MQTT 3.1.1 has no such CONNECT (MQTT-3.1.2-22)."""
    with pytest.raises(HostError, match="needs a user") as caught:
        parse("mqtt://host", {"MQTT_PASSWORD": PASSWORD})
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url, shown", [("mqtt://host", "host:1883"), ("mqtt://[fe80::1]:7", "[fe80::1]:7")])
def test_address_is_shown_as_host_and_port(url, shown):
    assert str(parse(url, {})) == shown
