"""What Tab completes, asked as the shell's script asks; and in a real bash, where no space follows `key=`."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dormouse_host import Fleet

PROGRAM = Path(sys.executable).with_name("dormouse")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a ledger: two devices, a group, and what `pump` understands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DORMOUSE_DB", "ledger.db")
    with Fleet("ledger.db") as fleet:
        fleet.add("pump", "pine")
        fleet.group("north", ["pump"])
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:{os.environ['PATH']}")
    return tmp_path


def tab(*words: str) -> list[str]:
    """What is offered for the last word."""
    line = "\n".join(["dormouse", *words])
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), "_DORMOUSE_COMPLETE": "complete_bash"}
    env = {**os.environ, **asked}
    done = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_values_of_options_and_arguments_are_completed(here):
    with Fleet("ledger.db") as fleet:
        sent = fleet.send("pump", "ping").name
    assert tab("flash", "x", "--board", "RPI") == ["RPI_PICO2_W", "RPI_PICO_W"]
    assert "ESP32_GENERIC" in tab("board", "run", "")
    assert tab("status", "--group", "") == ["north"]
    assert tab("send", "--group", "no") == ["north"]
    assert tab("result", "") == [sent]
    assert tab("cancel", sent[:3]) == [sent]
    assert tab("provision", "pu") == ["pump"]
    assert tab("export", "w") == ["wakes"]
    assert tab("send", "p") == ["pine", "pump"]
    assert tab("send", "pump", "set_int") == ["set_interval"]
    assert tab("send", "pump", "set_interval", "conn") == ["connect_every="]


def test_an_argument_that_is_given_is_not_offered_again(here):
    asked = tab("send", "pump", "resend", "")
    assert sorted(asked) == ["from=", "to="]
    assert tab("send", "pump", "resend", "from=1", "") == ["to="]
    assert tab("send", "pump", "resend", "from", "=", "1", "") == ["to="], "bash takes a word apart at ="


def test_without_a_ledger_nothing_is_offered_and_nothing_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DORMOUSE_DB", "none.db")
    for words in (("result", ""), ("send", "--group", ""), ("send", "")):
        assert tab(*words) == []
    assert list(tmp_path.iterdir()) == []


def test_in_bash_a_value_is_typed_right_behind_its_key(here):
    """The line that Tab has made is run, and its argument is in the ledger."""
    script = subprocess.run(
        ["dormouse", "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (here / "rc").write_text(f"{script.stdout}\nPS1='ready> '\nbind 'set bell-style none'\n")
    master, slave = pty.openpty()
    argv = ["bash", "--noprofile", "--rcfile", str(here / "rc"), "-i"]
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as shell:
        os.close(slave)
        try:
            said = _until(master, "ready> ")
            os.write(master, b"dormouse send pump resend fr\t")
            said += _until(master, "from=")
            os.write(master, b"1 to\t")
            said += _until(master, "to=")
            os.write(master, b"2\n")
            said += _until(master, "ready> ")
        finally:
            shell.kill()
    os.close(master)
    with Fleet("ledger.db") as fleet:
        (name,) = fleet.recent()
        assert fleet.result(name).args == {"from": 1, "to": 2}, said


def _until(terminal: int, text: str, seconds: float = 60) -> str:
    """What is written up to this text."""
    said, end = "", time.monotonic() + seconds
    while text not in said:
        assert time.monotonic() < end, said
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
    return said
