"""The rows of `make pico`, each what a field trial would do with a board, with its oracle.

Must stay true: a row is green only when every command had its effect once, or was called interrupted, and no reading is
missing; what a row shows beside that is asserted in it.
"""

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dormouse_host.broker.authority import Authority
from dormouse_host.broker.local import free_port
from dormouse_host.flash.board import hand_back
from dormouse_host.flash.ports import Place
from dormouse_host.flash.project import PROVISIONED
from dormouse_host.flash.wire import catch
from proofs.pico import updates
from proofs.pico.bench import MODES, WAIT, Bench, Context, Figures, Result
from support import pages

CUTS = 50
_INBOX = 64  # commands that a device holds at once


def flash(context: Context) -> list[Result]:
    """Three rows: from blank, the first wake, and flashed again. Leaves the device for the others."""
    bench = Bench(context.firmware, context.folder)
    began = time.monotonic()
    with bench:
        first = next(e.number for e in bench.board.events if e.name == "reset") + 1
        bench.mark(0)
        blank = replace(bench.figures(first), seconds=time.monotonic() - began)
        results = [Result("flash from blank", f"{len(bench.board.files())} files", blank)]
        bench.wait("asleep", after=first)
        bench.mark(first)
        results.append(Result("first wake", "connected, reported", replace(bench.figures(), seconds=0)))
        bench.mark()
        done = bench.device.flash()
        assert not done.written, f"sent again: {done.written}"
        results.append(Result("flash again", "nothing sent", bench.figures()))
    return results


def ten_wakes(context: Context) -> list[Result]:
    """A command and a reading in each."""
    with context.bench() as bench:
        for _ in range(10):
            bench.pulse()
            wake = bench.wake()
            assert wake.asleep.get("drained"), wake
        bench.settle()
        assert bench.interrupted == 0
        readings = len(bench.device.telemetry())
        assert readings >= 10, f"{readings} readings"
        return [Result("ten wakes", f"10 commands, {readings} readings", bench.figures())]


def _tls(context: Context, name: str, note: str, *, own: bool) -> list[Result]:
    authority = Authority.create(context.folder / "ca")
    server, client = authority.server(["10.0.0.1"]), authority.client("virtual")
    files = {"ca.pem": authority.pem, "server.pem": server.pem, "server.key": server.key_pem}
    for file, data in files.items():
        (context.folder / file).write_bytes(data)
    given = context.folder / "project" / PROVISIONED / "virtual"
    given.mkdir(parents=True)
    (given / "ca.der").write_bytes(authority.der)
    if own:
        (given / "cert.der").write_bytes(client.der)
        (given / "key.der").write_bytes(client.key_der)
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", f"cafile {context.folder / 'ca.pem'}"]
    lines += [f"certfile {context.folder / 'server.pem'}", f"keyfile {context.folder / 'server.key'}"]
    lines += [f"require_certificate {str(own).lower()}"]
    names: dict[str, Any] = {"cert": "cert.der", "key": "key.der"} if own else {}
    bench = Bench(context.firmware, context.folder, tls=tuple(lines), broker="mqtts://10.0.0.1", ca="ca.der", **names)
    bench.board.wifi.names["10.0.0.1:8883"] = ("127.0.0.1", port)
    with bench:
        bench.mark()
        bench.pulse()
        bench.wake()
        bench.settle()
        assert bench.interrupted == 0
        return [Result(name, note, bench.figures())]


def tls(context: Context) -> list[Result]:
    """A broker at mqtts://, whose certificate the device checks."""
    return _tls(context, "TLS wake", "certificate checked", own=False)


def certificate(context: Context) -> list[Result]:
    """The same, and the broker wants the device's certificate."""
    return _tls(context, "TLS, own certificate", "both certificates checked", own=True)


def commands(context: Context) -> list[Result]:
    """Commands of every kind, and so many that the inbox is full and the journal is compacted."""
    with context.bench() as bench:
        others = {name: bench.device.send(name) for name in ("describe", "report", "log", "nested", "fails")}
        others["resend"] = bench.device.send("resend", **{"from": 1, "to": 9})
        others["set_interval"] = bench.device.send("set_interval", connect_every=0, sample_every=0)
        changed = bench.device.send("config", set={"linger": 0})
        for _ in range(4):
            for _ in range(_INBOX):
                bench.pulse()
            bench.wake()
        bench.settle()
        assert bench.interrupted == 0
        found = {name: bench.device.fleet.result(sent).status for name, sent in others.items()}
        assert found == {**dict.fromkeys(others, "succeeded"), "fails": "failed"}
        assert bench.device.fleet.result(changed).status == "succeeded"
        assert bench.device.fleet.result(others["nested"]).value == [[[[[[[[1]]]]]]]]
        return [Result("full inbox, 4 times", f"{4 * _INBOX + len(others) + 1} commands", bench.figures())]


def _bitten(context: Context, command: str, name: str, ended: str) -> list[Result]:
    with context.bench() as bench:
        hung = bench.device.send(command)
        bench.pulse()
        wake = bench.wake()
        assert wake.ended == ended, wake
        bench.settle()
        assert bench.device.fleet.result(hung).status == "interrupted"
        bites = [e for e in bench.board.events if e.name == "watchdog"]
        assert len(bites) == (ended == "watchdog"), f"{len(bites)} watchdog resets"
        return [Result(name, "interrupted, the next command ran", bench.figures())]


def watchdog(context: Context) -> list[Result]:
    """A handler that never ends: the agent's own timer resets the board, before its watchdog would."""
    return _bitten(context, "hang", "hang", "reset")


def interrupts_off(context: Context) -> list[Result]:
    """A handler that turns interrupts off and never ends."""
    return _bitten(context, "stop", "hang, interrupts off", "watchdog")


def wifi_drop(context: Context) -> list[Result]:
    """The connection is lost while a handler runs."""
    with context.bench() as bench:
        work = bench.device.send("work", s=1.0)
        bench.pulse()
        said, before = len(bench.board.console), len(bench.board.events)
        bench.board.speed = 1000
        bench.board.wait_console("working", WAIT, after=said)
        bench.board.wifi.drop()
        bench.wait("asleep", after=bench.wait("wifi lost", after=before).number)
        bench.settle()
        assert bench.device.fleet.wait(work, 20).status == "succeeded"
        return [Result("Wi-Fi drop in a wake", "both commands once", bench.figures())]


def _wrong_wifi(context: Context, name: str, stage: str, change: Callable[[Bench], None]) -> list[Result]:
    with context.bench() as bench:
        bench.pulse()
        change(bench)
        wake = bench.wake()
        stages = [fields.get("stage") for fields in wake.all("error")]
        assert stages == [stage], f"stages {stages}"
        bench.board.wifi.present, bench.board.wifi.refuses = True, False
        bench.settle()
        return [Result(name, f"stage {stage}, then delivered", bench.figures())]


def no_access_point(context: Context) -> list[Result]:
    """The access point is gone for a wake."""
    return _wrong_wifi(context, "no access point", "ap", lambda bench: setattr(bench.board.wifi, "present", False))


def wrong_password(context: Context) -> list[Result]:
    """The access point refuses the password for a wake."""
    return _wrong_wifi(context, "wrong password", "password", lambda bench: setattr(bench.board.wifi, "refuses", True))


def rescue(context: Context) -> list[Result]:
    """Somebody at the port wants the prompt in the middle of a wake."""
    with context.bench() as bench:
        bench.pulse()
        said = len(bench.board.console)
        bench.board.speed = 1000
        bench.board.wait_console("connecting", WAIT, after=said)
        bench.board.speed = 1
        place, patience = Place(bench.board.port), bench.board.patience
        with catch(place, 120, lambda left: None, patience=patience) as wire:
            assert wire.ask("import json; print(json.dumps(6 * 7))") == 42
            before = len(bench.board.events)
            hand_back(wire)
        bench.wait("asleep", after=before)
        bench.settle()
        return [Result("rescue by Ctrl-C", "prompt, then as before", bench.figures())]


def cuts(context: Context) -> list[Result]:
    """Power is cut at a sampled flash operation of each of so many wakes, a command in each."""
    chance = random.Random("pico")
    with context.bench() as bench:
        bench.pulse()
        bench.wake()
        bench.wait("asleep", after=len(bench.board.events))
        last = bench.operations()
        bench.mark()
        hit = 0
        for _ in range(CUTS):
            bench.pulse()
            before = len(bench.board.events)
            bench.board.cut_at(f"{chance.randint(1, last)}:{chance.choice(MODES)}")
            if bench.board.state == "off":
                bench.board.power_on()
            else:
                bench.board.press_reset()
            hit += bench.wait("cut", "asleep", after=before).name == "cut"
        if bench.board.state == "off":
            bench.board.power_on()
        bench.settle(6)
        note = f"{hit} of {CUTS} hit within {last} operations; {bench.interrupted} interrupted"
        return [Result(f"power cut, {CUTS} wakes", note, bench.figures())]


def example(context: Context) -> list[Result]:
    """The example of docs/testing.md, with device/app.py, in a pytest run of its own."""
    began = time.monotonic()
    found = re.search(r"```python\n(def test_the_firmware.*?)```", pages.page("testing"), re.DOTALL)
    assert found, "no example in docs/testing.md"
    shutil.copy(context.firmware, context.folder / "RPI_PICO_W.uf2")
    shutil.copy(pages.ROOT / "device" / "app.py", context.folder / "app.py")
    (context.folder / "test_app.py").write_text(found[1])
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(context.folder)]
    done = subprocess.run(argv, cwd=context.folder, capture_output=True, text=True, timeout=WAIT, check=False)
    assert "1 passed" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    return [Result("fixture emulated_device", "the example of docs", Figures(seconds=time.monotonic() - began))]


ROWS: dict[str, Callable[[Context], list[Result]]] = {
    "flash": flash,
    "wakes": ten_wakes,
    "tls": tls,
    "certificate": certificate,
    "commands": commands,
    "watchdog": watchdog,
    "drop": wifi_drop,
    "cuts": cuts,
    "update": updates.update,
    "ap": no_access_point,
    "password": wrong_password,
    "rescue": rescue,
    "interrupts": interrupts_off,
    "example": example,
}
