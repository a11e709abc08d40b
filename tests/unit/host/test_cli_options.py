"""Options that mean nothing without another, or beside another: whoever gives one is told so."""

import os
import shlex

import pytest

from support.command_line import refused, run


@pytest.mark.parametrize(
    "words, why",
    [
        ("export telemetry --name place", "--name needs --follow"),
        ("export telemetry --name export", "--name needs --follow"),
        ("export telemetry --influx --times iso", "--times means nothing with --influx"),
        ("export telemetry --influx --follow --times unix", "--times means nothing with --influx"),
        ("relay --broker mqtt://127.0.0.1:1 --name ''", "relay id"),
        ("status --db ''", "--db is empty: expected a file or postgresql://…, or leave it out"),
        ("relay --broker ''", "--broker is empty: expected mqtt://host"),
        ("devices add b c --first 7", "--first needs --count"),
        ("devices remove dev --offline --broker mqtt://a", "--broker means nothing with --offline"),
        ("provision b --first 7", "--first needs --count"),
        ("sign dev --off --project .", "--project means nothing with --off"),
        ("metrics --write grafana --port 9641", "--port means nothing with --write"),
        ("metrics --write grafana --listen 0.0.0.0", "--listen means nothing with --write"),
        ("report -o - --json", "--json means nothing with --out -"),
        ("alerts --broker mqtt://a", "--broker needs --test"),
        ("alerts dev --test", "DEVICE means nothing with --test"),
        ("service systemd units --app app.py", "--app needs --device"),
        ("update list --app .", "update list takes no option but --db and --json"),
        ("update cancel x --expires ''", "update cancel takes no option"),
        ("update dev --dry-run --wait", "use --dry-run or --wait, not both"),
        ("demo --board ESP32_GENERIC --budget 8", "--budget means nothing with --board"),
        ("demo --board ESP32_GENERIC --session-expiry 2s", "--session-expiry means nothing with --board"),
        ("demo mqtt://a --board ''", "BROKER means nothing with --board"),
        ("demo --session-expiry 2s --budget 8", "--budget means nothing with --session-expiry"),
        ("demo --session-expiry ''", "an empty time: expected 30s"),
        ("energy --device dev --commands 1", "--commands means nothing here: --device has its own times"),
        ("energy --device dev --rtt 50", "--rtt means nothing here: --device has its own times"),
        ("board run ESP32_GENERIC --dir b --device dev", "--device needs --app"),
        ("board run ESP32_GENERIC --dir b --broker mqtt://a", "--broker needs --app"),
        ("firmware --board RPI_PICO_W --file x.uf2 --port /dev/x", "--port means nothing here: only a .uf2"),
        ("firmware --board ESP32_GENERIC --file x.bin --wait 5", "--wait means nothing here: only a .uf2"),
        ("broker check --folder b --device dormouse.toml", "--device means nothing with --folder"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(folder, words, why):
    """Also where its value is the default's: whoever wrote it expected something of it."""
    before = sorted(path.name for path in folder.iterdir())
    text, code = refused(*shlex.split(words))
    assert text.startswith(why)
    assert code == 2
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_option_that_means_something_beside_another_is_taken(folder, monkeypatch):
    assert run("devices", "add", "b", "--count", "2", "--first", "7") == "2 added\n"
    assert run("devices", "list").split() == ["b-07", "b-08", "dev"]
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    why = "--user needs root: started by anyone else, mosquitto stays that user"
    assert refused("broker", "init", "b", "--user", "root") == (why, 2)
