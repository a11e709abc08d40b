"""`dormouse demo --board` as a person runs it, for both kinds of port: every line it promises, and exit code 0."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest

from support.needs import need_micropython, need_mosquitto
from support.sampling import BOARDS

PROGRAM = [sys.executable, "-m", "dormouse_host.cli", "demo"]
SLEEP = {
    "ESP32_GENERIC": "it is in deep sleep without a process",
    "RPI_PICO_W": "it is in light sleep, radio off, watchdog off",
}


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=350, check=False)


@pytest.mark.proof
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", BOARDS)
def test_three_phases_and_three_faults_on_a_virtual_board(kind):
    """Flashed with mpremote, asleep for real, and then Wi-Fi, access point and handler fail one after the other."""
    need_micropython()
    need_mosquitto()
    done = demo("--board", kind, "--messages", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert done.stderr == ""
    assert f"First wake reported; {SLEEP[kind]}" in told
    assert f"4 sent, each acknowledged by the broker; {SLEEP[kind]}" in told
    assert re.findall(r"Received offline message: (.*)", told) == [f"Offline message {n}" for n in range(1, 5)]
    assert "The connection was lost during work 2" in told
    assert "Each ran exactly once, and each result is known" in told
    assert told.count("stopped at stage ap") == 5
    backoff = re.search(r"Backoff: (.*) s", told)
    assert backoff
    sleeps = [int(text) for text in backoff[1].split(", ")]
    assert all(1.5 < later / earlier < 2.6 for earlier, later in pairwise(sleeps)), sleeps
    assert "The watchdog reset the board" in told
    assert "hang is interrupted and not run again" in told


@pytest.mark.parametrize("arguments", [("--board", "ESP8266_GENERIC"), ("--board", "RPI_PICO_W", "--clean")])
def test_what_does_not_go_together_is_one_line(arguments):
    """Exit code 2, and nothing was started."""
    done = demo(*arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"dormouse: .+\n", done.stderr)
    assert done.stdout == ""
