"""The agent on Linux as a user runs it: `dormouse agent run app.py`, one process per wake or one for all of them."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import pytest

from dormouse_host.agent.log import Event, Lines, parse
from dormouse_host.broker.client import Publisher
from dormouse_host.flash import kinds
from support.device_folder import APP, Host
from support.updating import Sender, program

PATIENCE = 40  # seconds for a process that a busy machine starts


@pytest.fixture
def run(tmp_path, mosquitto):
    """Start the command with a program, a state folder and a broker of the test's own."""
    (tmp_path / "app.py").write_text(APP)
    running = []

    def _run(*more, state="state", broker=mosquitto.address):
        argv = [sys.executable, "-m", "dormouse_host.cli", "agent", "run", "app.py", "--device", "dev"]
        argv += ["--state", str(tmp_path / state), "--broker", f"mqtt://{broker.host}:{broker.port}", *more]
        process = subprocess.Popen(
            argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        running.append(process)
        return process

    yield _run
    for process in running:
        process.kill()
        process.communicate()


def ended(process):
    """Exit code, the device's events and stderr of a process that ends by itself."""
    out, err = (data.decode() for data in process.communicate(timeout=PATIENCE))
    assert "Traceback" not in err
    return process.returncode, list(filter(None, map(parse, out.splitlines()))), err


def names(events):
    return [event.name for event in events]


def until(process, name):
    """Read the process's log until event `name` has come. What came with it in one piece is passed over, too."""
    deadline = time.monotonic() + PATIENCE
    lines = Lines()
    seen: list[Event] = []
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.2)[0]:
            seen += filter(None, map(parse, lines.feed(os.read(process.stdout.fileno(), 65536))))
            found = [event for event in seen if event.name == name]
            if found:
                return found[-1]
    raise AssertionError(f"no {name} in {seen}")


def say(mosquitto, text):
    with Publisher(mosquitto.address) as publisher:
        publisher.publish("dormouse/dev/down/cmd", [f'{{"do":"say","args":{{"text":"{text}"}}}}'.encode()])


def test_one_process_is_one_wake_and_what_came_in_between_is_there(run, mosquitto):
    code, events, _ = ended(run())
    assert code == 0
    assert names(events)[-1] == "asleep"
    say(mosquitto, "hello")
    code, events, _ = ended(run())
    assert code == 0
    assert [event.fields["text"] for event in events if event.name == "say"] == ["hello"]


def test_under_a_timer_the_device_itself_decides_when_it_is_time(run):
    """The timer asks every minute; intervals and backoff are the device's."""
    assert ended(run("--set", "connect_every=900"))[0] == 0
    code, events, _ = ended(run("--timer"))
    assert (code, events) == (0, []), "a quarter of an hour is not over"


def test_a_timer_s_wake_that_is_due_says_that_a_timer_woke_it(run, tmp_path):
    assert ended(run("--set", "connect_every=1"))[0] == 0
    time.sleep(max(0.0, float((tmp_path / "state" / "due").read_text()) - time.time()))
    code, events, _ = ended(run("--timer", "--set", "connect_every=1"))
    assert code == 0
    assert next(event.fields["cause"] for event in events if event.name == "boot") == "timer"


def test_staying_in_memory_it_wakes_again_and_again_with_one_session(run, mosquitto):
    process = run("--stay", "--set", "connect_every=1")
    until(process, "asleep")
    say(mosquitto, "later")
    assert until(process, "say").fields["text"] == "later"
    assert until(process, "connected").fields["present"] is True
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def test_sigterm_ends_a_pause_at_once(run):
    process = run("--stay", "--set", "connect_every=900")
    until(process, "asleep")
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    assert time.monotonic() - before < 60, "and not after the 900 s it would have slept"


def test_sigterm_in_the_middle_of_a_wake_lets_it_end(run, tmp_path, mosquitto):
    """A handler is not cut short, and its result is sent; the next wake finds nothing interrupted."""
    slow = "\n@command('slow', limit=20)\ndef slow(wake):\n    wake.log('began')\n    wake.hold(2)\n    return 7\n"
    (tmp_path / "app.py").write_text(APP + slow)
    process = run("--set", "connect_every=1")
    assert ended(process)[0] == 0
    with Publisher(mosquitto.address) as publisher:
        publisher.publish("dormouse/dev/down/cmd", [b'{"do":"slow"}'])
    process = run("--stay", "--set", "connect_every=900")
    until(process, "began")
    process.send_signal(signal.SIGTERM)
    code, events, _ = ended(process)
    assert code == 0, "and nothing of it is cut off"
    done = [event.fields for event in events if event.name == "result"]
    assert [fields.get("status") for fields in done] == ["succeeded"]
    assert names(events)[-1] == "asleep"


def test_a_second_agent_on_the_same_state_is_refused_and_on_another_is_not(run):
    first = run("--stay")
    until(first, "asleep")
    code, events, err = ended(run())
    assert (code, events) == (1, [])
    assert re.fullmatch(rf"dormouse: .*another agent runs on this state \(process {first.pid}\)\n", err)
    assert ended(run(state="other"))[0] == 0


def test_a_killed_agent_leaves_no_lock_behind(run):
    first = run("--stay")
    until(first, "asleep")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert ended(run())[0] == 0


def test_what_is_wrong_is_one_line_and_an_exit_code(run, tmp_path):
    code, _, err = ended(run("--set", "connect_every=0"))
    assert (code, err) == (2, "dormouse: connect_every is a number from 1 to 604800\n")
    (tmp_path / "app.py").unlink()
    code, _, err = ended(run())
    assert code == 2
    assert err == "dormouse: app.py: no such program: dormouse init makes one, app.py\n"


def test_the_units_for_systemd_run_a_command_that_there_is():
    """systemd is not on every machine that tests: what can be seen without it is."""
    folder = kinds.load("POSIX").folder
    help_text = subprocess.run(
        [sys.executable, "-m", "dormouse_host.cli", "agent", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("dormouse@.service", "dormouse-stay@.service"):
        unit = ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[method-assign, assignment]
        unit.read(folder / name)
        words = unit["Service"]["ExecStart"].split()
        assert words[1:4] == ["agent", "run", "app.py"]
        assert Path(words[0]).name == "dormouse"
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text
        assert unit["Service"]["StateDirectory"] == words[words.index("--state") + 1].removeprefix("%S/")


def test_full_disk_costs_a_line_and_not_the_device(run, tmp_path):
    """Staying in memory it wakes again; one wake by itself says so and exits with 1. No wake is lost for its log."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "due~").symlink_to("/dev/full")
    process = run("--stay", "--set", "connect_every=1")
    why = f"{tmp_path / 'state'}: No space left on device"
    assert until(process, "error").fields["why"] == why
    assert until(process, "connected").fields["present"] is True, "the next wake"
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    code, events, err = ended(run())
    assert (code, names(events)[-1], err) == (1, "asleep", f"dormouse: {why}\n")


def test_a_process_without_slots_refuses_an_update_and_its_wakes_go_on(run, mosquitto):
    """Its wake had failed over it, and it backed off."""
    with Host(mosquitto.address) as host:
        assert ended(run())[0] == 0
        sender = Sender(host, host.wait("up/wake")["state"])
        begun = sender.step(program("x = 1\n"), "begin")
        code, events, err = ended(run())
        assert (code, [event.fields for event in events if event.name == "error"]) == (0, []), err
        answer = host.answers(1)[begun]
        assert (answer["status"], answer["why"]) == ("failed", "ConfigError: no slots: flash it once more")
