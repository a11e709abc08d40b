"""Texts that mean something to whoever reads them next: a database, a shell, a spreadsheet, a terminal; and secrets.

Must stay true: each text goes every way that a text can go, from a device and from a sender; what comes out is looked
at byte by byte.
"""

import csv
import io
import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from dormouse_host.broker.client import Publisher
from dormouse_host.errors import HostError
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support.device_folder import Device
from support.waiting import until

_GROUP = "texts and secrets"
SQL = "'); DROP TABLE commands; --"
SHELL = "$(touch PWNED)`touch PWNED`;touch PWNED|touch PWNED\n"
FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1+1", "\r=1+1", " =1")
TERMINAL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x08\x08\r\x7f\u202e\u2028"
ALL = (SQL, SHELL, TERMINAL, *FORMULAS, "\0", "’", 'a,b"c\nd', "{{7*7}}", "%s%n", "../../etc/passwd")


@cache
def _poison(testbed: Testbed) -> str:
    """A device that says all of it: in its report, results, telemetry; and a sender who does. Returns its id."""
    device = testbed.device()
    name, topic = device.config["id"], f"dormouse/{device.config['id']}"
    state = testbed.meet(device)
    texts = list(ALL)
    report = {
        "wake": 50,
        "state": state,
        "next": 900,
        **dict.fromkeys(("cause", "battery", "rssi", "agent", "fw", "app"), TERMINAL),
    }
    report.update(why=SQL, last={"ended": TERMINAL, "why": SHELL}, **{text: text for text in texts})
    results = [{"status": "failed", "do": text[:40], "crc": 1, "why": text, "value": {text: text}} for text in texts]
    results += [
        {"status": "succeeded", "crc": 1, "id": f"{state}-x.{n}", "value": text} for n, text in enumerate(texts, 1)
    ]
    telemetry = {"state": state, "records": [[n, 0, {text: text}] for n, text in enumerate(texts, 100)]}
    with Publisher(testbed.of_device(device)) as publisher:
        for leaf, value in (("up/wake", report), ("up/telemetry", telemetry), ("up/result", results)):
            publisher.publish(f"{topic}/{leaf}", [json.dumps(value).encode()])
        publisher.publish(f"{topic}/up/wake", [TERMINAL.encode() + b"\xff\xfe", b'{"wake":"' + SQL.encode() + b'"}'])
        publisher.publish(f"{topic}/up/end", [SHELL.encode()])
    with testbed.fleet as fleet:
        for text in texts:
            with suppress(HostError):
                fleet.send(name, "open", {"s": 1, "note": text})
        until(lambda: len(list(fleet.export("results", 0))) >= len(results))
        until(lambda: len(list(fleet.export("telemetry", 0))) >= len(texts))
    every = " ".join(texts).replace("\0", "")
    testbed.line("send", every, "open")
    testbed.line("send", name, every)
    testbed.line("result", every)
    testbed.line("export", "wakes", "--since", every)
    return str(name)


def _outputs(testbed: Testbed, name: str) -> dict[str, str]:
    """What the commands of the line print of that device, as text for people."""
    asked = {"status": ("status",), "log": ("log", name, "--limit", "1000"), "list": ("devices", "list")}
    return {key: testbed.line(*words) for key, words in asked.items()}


@attack(_GROUP, "SQL in every text that reaches the ledger")
def try_sql(testbed: Testbed) -> Outcome:
    name = _poison(testbed)
    with testbed.fleet as fleet:
        kept = [entry for entry in fleet.export("results", 0) if entry["why"] == SQL]
        sent = [fleet.send(name, "ping").name for _ in range(2)]
        found = [fleet.result(one).do for one in sent] == ["ping", "ping"]
    return Outcome(not (kept and found), "stored as text; the tables are there")


@attack(_GROUP, "shell words in every text")
def try_shell(testbed: Testbed) -> Outcome:
    name = _poison(testbed)
    testbed.line("send", name, "open", "s=1", f"note={SHELL}")
    _outputs(testbed, name)
    found = [path for folder in (testbed.folder, Path.cwd()) for path in folder.rglob("PWNED*") if path.is_file()]
    return Outcome(bool(found), "nothing was run")


@attack(_GROUP, "terminal escapes in every text that is printed or logged")
def try_terminal(testbed: Testbed) -> Outcome:
    name = _poison(testbed)
    outputs = _outputs(testbed, name)
    outputs.update(relay=testbed.log("relay"), errors="".join(testbed.said[-20:]))
    wrong = [key for key, text in outputs.items() if any(not (c.isprintable() or c == "\n") for c in text)]
    shown = "\\x1b" in outputs["log"]
    return Outcome(
        bool(wrong) or not shown, f"{len(outputs)} outputs, escapes as \\x1b" if not wrong else f"raw in {wrong}"
    )


@attack(_GROUP, "log lines that are not one's own")
def try_log_lines(testbed: Testbed) -> Outcome:
    device = testbed.device()
    testbed.meet(device)
    before = testbed.log("relay").count("not understood")
    with Publisher(testbed.of_device(device)) as publisher:
        forged = "x\n2026-01-01T00:00:00Z info started relay=forged"
        publisher.publish(f"dormouse/{device.config['id']}/up/wake", [json.dumps({"wake": forged}).encode()])
        with suppress(HostError):
            publisher.publish(f"dormouse/{device.config['id']}/up/{forged}", [b"x"])
    until(lambda: testbed.log("relay").count("not understood") > before)
    lines = [
        line
        for line in testbed.log("relay").splitlines()
        if "started relay=forged" in line and line.startswith("2026-01")
    ]
    return Outcome(bool(lines), "a line stays one line")


@attack(_GROUP, "formulas in every cell of a CSV export")
def try_csv(testbed: Testbed) -> Outcome:
    _poison(testbed)
    wrong = []
    for what in ("telemetry", "results", "wakes"):
        text = testbed.line("export", what, "--csv")
        for row in csv.reader(io.StringIO(text)):
            wrong += [
                cell
                for cell in row
                if cell[:1] in ("=", "+", "@", "\t", "\r") or (cell[:1] == "-" and not _number(cell))
            ]
    return Outcome(bool(wrong), f"no cell begins with one: {wrong[:1] or 'quoted'}")


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@attack(_GROUP, "secrets in logs, errors, exports, reports, views, process lists")
def try_secrets(testbed: Testbed) -> Outcome:
    device, signed, cert = testbed.device(), testbed.device(key=True), testbed.device(cert=True)
    for one in (device, signed, cert):
        testbed.meet(one)
        testbed.settled_after_wake(testbed.send(one, "report"), one)
        one.configure(broker="mqtts://127.0.0.1:1", budget=2)
        testbed.wake(one)
    wrong = {"MQTT_USERNAME": device.config["id"], "MQTT_PASSWORD": testbed.secrets_of(device)["password"]}
    url = f"mqtts://{wrong['MQTT_USERNAME']}:{wrong['MQTT_PASSWORD']}@127.0.0.1:1/x"
    testbed.line("broker", "check", url)
    name = device.config["id"]
    fresh = _rotated(testbed, signed, cert)
    for words in (
        ("log", signed.config["id"], "--json"),
        ("log", cert.config["id"], "--json"),
        ("status", "--json"),
        ("log", name),
        ("export", "wakes"),
        ("export", "results"),
        ("export", "telemetry"),
    ):
        testbed.line(*words)
    testbed.line("provision", name, "--folder", str(testbed.made.path))
    testbed.line("ledger", "backup", "copy.db")
    found = where(testbed, device, signed, cert)
    found += [f"a rotated one in {place}" for place, text in _shown(testbed).items() for new in fresh if new in text]
    count = len(testbed.secrets) + len(fresh)
    return Outcome(bool(found) or len(testbed.secrets) < 4, f"{count} secrets looked for: {found or 'none found'}")


def where(testbed: Testbed, *devices: Device) -> list[str]:
    """Which secrets stand where they should not."""
    places = {
        **_shown(testbed),
        "devices' state": _texts(
            path for device in devices for path in device.folder.rglob("state/*") if path.name != "good"
        ),  # which is the copy of secrets.json itself
        "the broker's files": _texts(testbed.made.broker.rglob("*")),
    }
    pairs = [(place, text, secret) for place, text in places.items() for secret in testbed.secrets]
    return [f"{testbed.secrets[secret]} in {place}" for place, text, secret in pairs if secret in text]


def _shown(testbed: Testbed) -> dict[str, str]:
    """What people see."""
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=False).stdout
    return {
        "the relay's log": testbed.log("relay"),
        "the broker's log": testbed.log("broker"),
        "what was printed": "\n".join(testbed.said),
        "arguments": "\n".join(testbed.arguments) + shown,
    }


def _rotated(testbed: Testbed, signed: Device, cert: Device) -> list[str]:
    """A new password and a new key that came by command; their devices hold them, and so does the broker's queue."""
    for device in (signed, cert):
        device.configure(broker=testbed.made.url(cert=device is cert), budget=20)
        testbed.rotated(device)
    files = [testbed.folder / "devices" / device.config["id"] for device in (signed, cert)]
    password = json.loads((files[0] / "secrets.json").read_text())["password"]
    key = (files[1] / "key.der").read_bytes()
    return [str(password), b64encode(key).decode(), key.hex()]


def _texts(paths: Iterable[Path]) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in paths if path.is_file())
