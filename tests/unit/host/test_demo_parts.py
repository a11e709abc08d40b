"""The parts of the demo by themselves: how a log is read, how a device process is kept in bounds, how it is judged."""

import json
import sys
import time

import pytest

from dormouse_host.address import BrokerAddress
from dormouse_host.agent.log import Event, parse
from dormouse_host.errors import HostError
from dormouse_host.lab.demo import Outcome, Run, Variant, ranges
from dormouse_host.lab.demo_device import DemoDevice
from dormouse_host.terminal import Console

KEPT = Variant(clean=False, qos=1)
ADDRESS = BrokerAddress("127.0.0.1", 1, "ann", "hunter2")


@pytest.mark.parametrize(
    "line, event",
    [
        ('dormouse 12 say {"text":"a b"}', Event("say", {"text": "a b"})),
        ("dormouse 12 boot", Event("boot", {})),
        ("dormouse", None),
        ("dormouse soon say {}", None),
        ("dormouse 12 say {", None),
        ("dormouse 12 say [1]", None),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_log_line_is_an_event_or_somebody_elses(line, event):
    assert parse(line) == event


@pytest.mark.parametrize(
    "arrived, complete, fault",
    [
        ([1, 2, 3, 4], True, ""),
        ([1, 2, 4], False, "3 of 4 messages arrived; missing: 3"),
        ([1, 2, 2, 3, 4], False, "4 of 4 messages arrived; more than once: 2"),
        ([1, 3, 2, 4], False, "4 of 4 messages arrived; out of order: 2"),
        ([4, 4, 1], False, "2 of 4 messages arrived; missing: 2–3; more than once: 4; out of order: 1"),
        ([], False, "0 of 4 messages arrived; missing: 1–4"),
    ],
)
def test_outcome_is_complete_only_if_each_came_once_and_in_order(arrived, complete, fault):
    outcome = Outcome(KEPT, 4, arrived, present=True, how="fence")
    assert outcome.complete == complete
    assert outcome.fault() == fault


@pytest.mark.parametrize(
    "outcome, cause",
    [
        (Outcome(KEPT, 9, [1, 2], True, how="fence"), "max_queued_messages"),
        (Outcome(KEPT, 9, [1, 2], False, how="fence"), "the broker lost the session"),
        (Outcome(KEPT, 9, [1, 2], True, how=""), "could not drain its queue"),
        (Outcome(Variant(clean=True, qos=1), 9, [], False, how="fence"), "clean_session=True"),
        (Outcome(Variant(clean=False, qos=0), 9, [], True, how="fence"), "QoS 0"),
    ],
)
def test_cause_is_named_where_the_numbers_prove_it(outcome, cause):
    assert cause in outcome.fault()


def test_ranges_are_short():
    assert ranges([1, 2, 3, 5, 7, 8]) == "1–3, 5, 7–8"
    assert ranges([]) == ""


def device(folder, program: str) -> DemoDevice:
    """A device whose wakes are a Python program of ours."""
    return DemoDevice(folder, "d", ADDRESS, ([sys.executable, "-c", program], {}))


def test_folder_holds_configuration_and_secrets_apart(tmp_path):
    device(tmp_path, "").wake(lambda event: None, budget=20)
    assert json.loads((tmp_path / "secrets.json").read_text()) == {"user": "ann", "password": "hunter2"}
    assert "hunter2" not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["broker"] == "mqtt://127.0.0.1:1"


def test_events_are_handed_on_while_the_device_is_awake(tmp_path):
    """A step is told as it happens, not when the wake is over."""
    handed_on = tmp_path / "handed on"
    program = (
        "import os, time; print('dormouse 1 a', flush=True); end = time.monotonic() + 30\n"
        f"while not os.path.exists({str(handed_on)!r}) and time.monotonic() < end: time.sleep(.01)\n"
        f"print('dormouse 2', 'b' if os.path.exists({str(handed_on)!r}) else 'late', end='')"
    )
    told: list[str] = []

    def on_event(event: Event) -> None:
        told.append(event.name)
        handed_on.touch()

    device(tmp_path, program).wake(on_event, budget=60)
    assert told == ["a", "b"]


@pytest.mark.parametrize(
    "program, code, words",
    [
        ('import sys; print(\'dormouse 1 error {"why":"refused","stage":"connect"}\'); sys.exit(1)', 1, "refused"),
        ('import sys; print(\'dormouse 1 error {"why":"id","stage":null}\'); sys.exit(2)', 2, "device d: id$"),
        ("raise OSError('boom')", 1, "device d: OSError: boom"),
        ("import os; os._exit(3)", 1, "device d: ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", 1, "device d: ended with -9"),
    ],
)
def test_wake_that_fails_says_why_in_one_line(tmp_path, program, code, words):
    with pytest.raises(HostError, match=words) as caught:
        device(tmp_path, program).wake(lambda event: None, budget=20)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_device_process_that_hangs_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("dormouse_host.lab.demo_device._MARGIN", 0.5)
    began = time.monotonic()
    program = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(HostError, match="hung"):
        device(tmp_path, program).wake(lambda event: None, budget=0.5)
    assert time.monotonic() - began < 40


TWO_WAKES = """
import json, os
n = len(os.listdir("{folder}/wakes"))
open("{folder}/wakes/" + str(n), "w").close()
def log(name, **fields): print("dormouse 1", name, json.dumps(fields))
log("connected", present=True)
if n < {productive}: log("say", text="Offline message " + str(n + 1))
if n + 1 >= {wakes}: log("drained", how="fence")
log("asleep", ms=10, drained=n + 1 >= {wakes}, turns=3)
"""


@pytest.mark.parametrize("productive, wakes, complete, count", [(3, 3, True, 3), (1, 99, False, 2)])
def test_long_queue_gets_further_wakes_while_they_bring_something(tmp_path, productive, wakes, complete, count):
    """A wake that ends at its budget is reported and followed by another; one that brings nothing ends the demo."""
    (tmp_path / "wakes").mkdir()
    program = TWO_WAKES.format(folder=tmp_path, productive=productive, wakes=wakes)
    run = Run(device(tmp_path, program), ADDRESS, KEPT, 3, 5, Console(quiet=True))
    run.receive()
    assert run.outcome.complete == complete
    assert (run.outcome.wakes, run.outcome.turns, run.outcome.ms) == (count, 3 * count, 10 * count)
