"""`[alerts]` and `[homeassistant]` of dormouse.toml: good defaults, and each error in one line that tells no secret."""

import pytest

from dormouse_host.desk import config
from dormouse_host.errors import HostError
from dormouse_host.ledger.alerts import KINDS, Limits
from support.receiver import SECRET


def read(folder, text, **environment):
    (folder / "dormouse.toml").write_text(text)
    return config.read(folder, environment)


def test_nothing_is_wanted_without_a_table(tmp_path):
    assert config.read(tmp_path, {}) == config.Wanted()
    assert read(tmp_path, 'broker = "mqtt://host"\n[device]\nconnect_every = 60\n') == config.Wanted()


def test_an_empty_table_is_enough(tmp_path):
    wanted = read(tmp_path, "[alerts]\n[homeassistant]\n")
    assert wanted.home == config.Home("homeassistant", 86400)
    assert wanted.alerts.rules.limits == Limits(frozenset(KINDS), 2, 10, 3.3)
    assert (wanted.alerts.rules.channels, wanted.alerts.every) == (("mqtt",), 30)


def test_everything_can_be_set(tmp_path):
    text = f"""
[alerts]
off = ["dropped"]
overdue = 4
minutes = 30
battery = 3.5
quiet = "22:00-07:00"
mqtt = false
notify = ["ntfy://host/a", "json://host/b"]
webhook = "https://host/path"
webhook_key = "{SECRET}"

[alerts.groups.coin]
battery = 2.3
"""
    alerts = read(tmp_path, text).alerts
    assert alerts.rules.limits == Limits(frozenset(KINDS) - {"dropped"}, 4, 30, 3.5)
    assert alerts.rules.groups == {"coin": Limits(frozenset(KINDS) - {"dropped"}, 4, 30, 2.3)}
    assert alerts.rules.channels == ("notify 1", "notify 2", "webhook")
    assert alerts.key == b"0123456789abcdef0123456789abcdef"
    assert not any(word in repr(alerts) for word in ("ntfy", "https", "0123"))
    over = read(tmp_path, text, DORMOUSE_NOTIFY="tgram://a/b", DORMOUSE_WEBHOOK="http://other/").alerts
    assert (over.notify, over.webhook) == (("tgram://a/b",), "http://other/")


@pytest.mark.parametrize(
    "lines, says",
    [
        ("alerts = 3", "line 1: alerts: expected a table, [alerts]"),
        ("[alerts]\nbatery = 3", "line 2: alerts.batery: unknown key: did you mean battery?"),
        ("[alerts]\nxyz = 3", "line 2: alerts.xyz: unknown key: expected one of off, overdue, minutes"),
        ("[alerts]\nbattery = '3'", "line 2: alerts.battery: expected a number"),
        ("[alerts]\nbattery = true", "line 2: alerts.battery: expected a number"),
        ("[alerts]\nbattery = 99", "line 2: alerts.battery: expected 0 to 60"),
        ("[alerts]\nbattery = nan", "line 2: alerts.battery: expected 0 to 60"),
        ("[alerts]\noverdue = 1.5", "line 2: alerts.overdue: expected a whole number"),
        ("[alerts]\noff = ['silence']", "line 2: alerts.off: expected some of overdue, battery"),
        ("[alerts]\nnotify = 's3cret'", "line 2: alerts.notify: expected a list of texts"),
        ("[alerts]\nnotify = [1]", "line 2: alerts.notify: expected a list of texts"),
        ("[alerts]\nwebhook = 's3cret'", "line 2: alerts.webhook: expected http:// or https:// and a host"),
        ("[alerts]\nwebhook = 'http://[s3cret'", "line 2: alerts.webhook: expected http:// or https:// and a host"),
        ("[alerts]\nwebhook = 'http://h/s3cret'", "line 2: alerts.webhook: webhook_key is missing: whsec_ and"),
        ("[alerts]\nwebhook_key = 's3cret'", "line 2: alerts.webhook_key: expected whsec_ and 24 to 64 bytes"),
        ("[alerts]\nwebhook_key = 'whsec_s3cret'", "line 2: alerts.webhook_key: expected whsec_ and 24 to 64 bytes"),
        ("[alerts]\nquiet = '22-7'", "line 2: alerts.quiet: expected hours of this machine's day, as 22:00-07:00"),
        ("[alerts]\ngroups = 3", "line 2: alerts.groups: expected tables, [alerts.groups.NAME]"),
        ("[alerts.groups]\na = 3", "line 2: alerts.groups.a: expected a table, [alerts.groups.a]"),
        ("[alerts.groups.a]\ncalm = 3", "line 2: alerts.groups.a.calm: unknown key: expected one of off, overdue"),
        ("[homeassistant]\nprefix = 'a/+'", "line 2: homeassistant.prefix: expected levels of letters"),
        ("[homeassistant]\nexpires = 1", "line 2: homeassistant.expires: expected 60 to 604800"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_key_and_without_its_value(tmp_path, lines, says):
    with pytest.raises(HostError) as caught:
        read(tmp_path, lines + "\n")
    assert str(caught.value).startswith(f"dormouse.toml, {says}")
    assert caught.value.code == 2
    assert "s3cret" not in str(caught.value)
