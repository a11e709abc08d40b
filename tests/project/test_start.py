"""The start that README and docs/start.md show, run as it stands there: the same commands in the same order."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dormouse_host.broker.local import Mosquitto
from dormouse_host.flash import starter
from support import pages
from support.device_folder import Device, DeviceInterpreter
from support.needs import need_mosquitto
from support.waiting import until

pytestmark = pytest.mark.timeout(120)


def lines_of_readme() -> list[str]:
    """The commands of README's second block, from `dormouse init` on."""
    (block,) = re.findall(r"^```console\n(.*?)^```", pages.README.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)$", block, re.MULTILINE)


def lines_of_start() -> list[str]:
    """The commands of the first device, up to the one that waits for a further wake."""
    part = pages.page("start").partition("## A first device")[2].partition("With `--wait`")[0]
    assert "terminal 3" in part
    return re.findall(r"^    \$ (.*)$", part, re.MULTILINE)


class Shell:
    """What a person at terminals has: a folder, an environment, programs in the other two."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        programs = folder / "bin"
        programs.mkdir()
        (programs / "dormouse").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dormouse_host.cli "$@"\n')
        (programs / "dormouse").chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(folder / "data"), "PYTHONPATH": ""}
        self.folder = folder
        self.behind: list[subprocess.Popen[bytes]] = []
        self.sent = ""

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """One line, as typed, but with the id that was printed and not that of the page, and a free port."""
        line, _, remark = line.partition("  #")
        line = line.strip()
        line = line.replace("dormouse broker run", f"dormouse broker run --port {self.port}")
        line = re.sub(r"(dormouse result) \w+", rf"\1 {self.sent}", line)
        if "terminal 2" in remark or "terminal 3" in remark:
            self.behind.append(
                subprocess.Popen(shlex.split(line), cwd=self.folder, env=self.env, stderr=subprocess.DEVNULL)
            )
            until(self.listens if "broker" in line else (self.folder / "ledger.db").exists)
            return subprocess.CompletedProcess(line, 0, "", "")
        done = self._shell(f"{line} && pwd >&3")
        if "dormouse init" in line:
            settings = self.folder / "dormouse.toml"
            settings.write_text(settings.read_text().replace("mqtt://127.0.0.1", f"mqtt://127.0.0.1:{self.port}"))
        if line.startswith("dormouse send") and done.returncode == 0:
            self.sent = done.stdout.strip()
            until(lambda: "sent" in self._shell(f"dormouse result {self.sent}").stdout)
        if "agent run" in line and self.sent:
            until(lambda: "succeeded" in self._shell(f"dormouse result {self.sent}").stdout)
        return done

    def _shell(self, line: str) -> subprocess.CompletedProcess[str]:
        where = self.folder.parent / "where"
        done = subprocess.run(
            ["bash", "-c", f"{{ {line}\n}} 3>{shlex.quote(str(where))}"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        self.folder = Path(where.read_text().strip() or self.folder)
        return done

    def listens(self) -> bool:
        """Does the broker?"""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        """End what runs behind."""
        for process in reversed(self.behind):
            process.terminate()
            process.wait(20)


@pytest.mark.parametrize("lines", [lines_of_readme(), lines_of_start()], ids=["README", "start"])
def test_the_start_works_as_it_is_shown(tmp_path, lines):
    need_mosquitto()
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    assert len(lines) > 6
    try:
        done = {line: shell.run(line) for line in lines}
        told = shell._shell(f"dormouse result {shell.sent}").stdout
    finally:
        shell.close()
    wrong = {line: one.stderr for line, one in done.items() if one.returncode != (2 if "times=much" in line else 0)}
    assert wrong == {}
    assert told.startswith(f"{shell.sent} succeeded: greenhouse blink")
    assert '{"blinked":3}' in told


def test_any_mqtt_client_speaks_to_the_device_as_it_is_shown(tmp_path):
    """The lines of docs/start.md, the program of `dormouse init`, and the very result that the page shows."""
    part = pages.page("start").partition("## From any MQTT client")[2]
    (block,) = re.findall(r"^```\n(.*?)^```", part.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    publish, subscribe, shown = block.splitlines()
    with Mosquitto(need_mosquitto()) as broker:
        device = Device(tmp_path / "d", DeviceInterpreter("cpython"), broker.address.url, starter.APP, id="greenhouse")
        assert device.wake().code == 0

        def typed(line: str, more: str = "") -> str:
            words = [*shlex.split(line.removeprefix("$ "), comments=True), "-p", str(broker.address.port)]
            words += more.split()
            return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout

        typed(subscribe, "-c -i ann -E")  # so that it has subscribed before the device wakes
        typed(publish)
        assert device.wake().code == 0
        assert typed(subscribe, "-c -i ann -C 1").strip() == shown
