"""An update by way of a ledger and a relay: from the order to `succeeded`, or to why not."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dormouse_host import Fleet
from dormouse_host.ledger.updates import Terms
from support.device_folder import Device, DeviceInterpreter
from support.relays import Running, greet, published, say, statuses, until_sent, wake
from support.updating import install, program
from support.waiting import until

OLD = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text="old " + text)
"""
NEW = OLD.replace("old ", "new ")


@pytest.fixture(params=["cpython", "micropython"])
def world(request, tmp_path, mosquitto):
    """(fleet, device): a relay runs, and the device has had a wake."""
    device = Device(tmp_path / "dev", DeviceInterpreter(request.param), mosquitto.address.url)
    (device.folder / "app.py").unlink()
    install(device.folder, program(OLD))
    with Fleet(str(tmp_path / "ledger.db")) as fleet, Running(str(tmp_path / "ledger.db"), mosquitto):
        fleet.add("dev")
        greet(fleet, device)
        yield fleet, device


def status(fleet: Fleet, name: str) -> tuple[str, str | None]:
    view = fleet.ledger.update_view(name)
    return view.status, view.why


def until_published(fleet: Fleet) -> None:
    """Until the broker has what there is for the device."""
    until(lambda: published(fleet))


def test_an_update_succeeds_once_the_device_has_kept_it(world):
    fleet, device = world
    (name,) = fleet.ledger.enter_updates(["dev"], program(NEW), Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "sending")
    until_published(fleet)
    sent = say(fleet, "a")
    until_sent(fleet, sent)
    assert wake(fleet, device) == ["old a"]
    until(lambda: status(fleet, name)[0] == "on trial")
    sent = say(fleet, "b")
    until_sent(fleet, sent)
    assert wake(fleet, device) == ["new b"]
    until(lambda: status(fleet, name)[0] == "succeeded")
    assert statuses(fleet, sent) == ["succeeded"]
    until_published(fleet)
    wake(fleet, device)
    until(lambda: not (device.folder / "state" / "update").exists())
    assert [event[1] for event in fleet.ledger.update_view(name).events] == [
        "queued",
        "sending",
        "on trial",
        "succeeded",
    ]


BAD = {
    "does not compile": ("def (:\n", "SyntaxError"),
    "misses a module": ("import nosuchmodule\n", "nosuchmodule"),
    "raises at import": ("x = 1 // 0\n", "ero"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_release_that_does_not_run_is_rolled_back_and_the_host_knows_why(world, kind):
    """It takes nothing from the broker; the old program does what waited meanwhile, once."""
    fleet, device = world
    text, expected = BAD[kind]
    (name,) = fleet.ledger.enter_updates(["dev"], program(text), Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "sending")
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "on trial")
    sent = say(fleet, "b")
    until_sent(fleet, sent)
    assert device.wake().code == 2
    assert wake(fleet, device) == ["old b"]
    until(lambda: status(fleet, name)[0] == "failed")
    assert statuses(fleet, sent) == ["succeeded"]
    why = status(fleet, name)[1] or ""
    assert why.startswith("rolled back: "), why
    assert expected in why
    until_published(fleet)
    wake(fleet, device)
    until(lambda: not (device.folder / "state" / "update").exists())


def test_one_update_replaces_another_half_way(world):
    """The first is cancelled; the device takes the second into the same slot."""
    fleet, device = world
    (first,) = fleet.ledger.enter_updates(["dev"], program(NEW + "# one\n"), Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, first)[0] == "sending")
    until_published(fleet)
    (second,) = fleet.ledger.enter_updates(["dev"], program(NEW), Terms())
    assert status(fleet, first)[0] == "cancelled"
    until_published(fleet)
    for _ in range(4):
        wake(fleet, device)
        until_published(fleet)
    until(lambda: status(fleet, second)[0] == "succeeded")
    sent = say(fleet, "c")
    until_sent(fleet, sent)
    assert wake(fleet, device) == ["new c"]


def test_the_release_that_runs_already_succeeds_at_once(world):
    fleet, device = world
    (name,) = fleet.ledger.enter_updates(["dev"], program(OLD), Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name) == ("succeeded", "the device runs it already"))


def test_a_cancelled_update_leaves_nothing_behind(world):
    fleet, device = world
    (name,) = fleet.ledger.enter_updates(["dev"], program(NEW), Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "sending")
    until_published(fleet)
    assert fleet.ledger.cancel_update(name).status == "cancelled"
    until_published(fleet)
    wake(fleet, device)
    wake(fleet, device)
    assert not (device.folder / "state" / "update").exists()
    assert [path.name for path in (device.folder / "b").iterdir()] == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"port": "esp32"}, "made for esp32"),
        ({"mpy": (5, 0)}, "made for .mpy [5,0]"),
        ({"mpy": (6, 3)}, "made for .mpy [6,3]"),
    ],
)
def test_what_does_not_fit_the_board_is_refused_before_the_first_byte(world, changed, why):
    fleet, device = world
    release = replace(program(NEW), **changed)
    (name,) = fleet.ledger.enter_updates(["dev"], release, Terms())
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "failed")
    assert why in (status(fleet, name)[1] or "").replace(", ", ",")
    assert not (device.folder / "state" / "update").exists()


def dormouse(*words: str, db: str) -> subprocess.CompletedProcess[str]:
    """The command line."""
    argv = [sys.executable, "-m", "dormouse_host.cli", *words, "--db", db]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_updates_shows_and_cancels(world, tmp_path):
    fleet, device = world
    db = str(tmp_path / "ledger.db")
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "app.py").write_text(NEW)
    (folder / "dormouse.toml").write_text('[app]\nfiles = ["table.csv"]\n')
    (folder / "table.csv").write_text("1,2,3\n" * 3000)
    begun = dormouse("update", "dev", "--app", str(folder), "--min-battery", "3.3", db=db)
    assert begun.returncode == 0, begun.stderr
    assert "2 files" in begun.stderr
    name = begun.stdout.strip()
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "sending")
    assert "sending 0 of 18 KB" in dormouse("update", "list", db=db).stdout
    shown = dormouse("status", "dev", db=db).stdout
    assert f"  update     to {fleet.updates('dev')[0].release}, sending 0 of 18 KB\n" in shown
    assert "  program " not in shown
    until_published(fleet)
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "on trial")
    late = dormouse("update", "cancel", name, db=db)
    assert late.returncode == 1
    assert late.stderr.startswith("dormouse: release ")
    wake(fleet, device)
    until(lambda: status(fleet, name)[0] == "succeeded")
    assert (device.folder / "b" / "table.csv").read_text() == "1,2,3\n" * 3000
    assert "succeeded" in dormouse("update", "history", "dev", db=db).stdout
    (done,) = fleet.updates("dev", final=True)
    assert f"  program    release {done.release}\n" in dormouse("status", "dev", db=db).stdout
    assert json.loads(dormouse("status", "dev", "--json", db=db).stdout)["release"] == done.release
    assert dormouse("send", "dev", "update", "step=end", "release=x", db=db).returncode == 2
    again = dormouse("update", "dev", "--app", str(tmp_path / "none"), db=db)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("world", ["cpython"], indirect=True)
def test_the_command_line_waits_for_a_group_with_a_bar_and_gives_up_in_time(world, tmp_path):
    """`--wait` ends with the verdict, `--within` without; `--expires` withdraws what the device has not agreed to."""
    fleet, device = world
    db = str(tmp_path / "ledger.db")
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "app.py").write_text(NEW)
    fleet.group("field", ["dev"])
    words = ("update", "--group", "field", "--app", str(folder), "--wait")

    def waited(*more: str) -> subprocess.CompletedProcess[str]:
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(dormouse, *words, *more, db=db)
            until(lambda: fleet.updates())
            while not waits.done():
                time.sleep(1.5)
                until_published(fleet)
                wake(fleet, device)
            return waits.result()

    late = waited("--expires", "1s")
    assert (late.returncode, " dev expired" in late.stdout) == (1, True), late.stdout + late.stderr
    gave_up = dormouse(*words, "--within", "1s", db=db)
    assert (gave_up.returncode, " dev " in gave_up.stdout) == (1, True)
    done = waited()
    assert done.returncode == 0, done.stdout + done.stderr
    assert " dev succeeded" in done.stdout
    assert "changed" not in done.stderr, "nobody knows what was flashed"
    again = dormouse("update", "dev", "--app", str(folder), "--dry-run", db=db)
    assert "app.py" in again.stderr
    assert ": 1 file, " in again.stderr
    assert "same" in again.stderr
    for wrong in (("--within", "1s"), ("--wait", "--within", "soon"), ("--all", "--group", "field")):
        refused = dormouse("update", *(() if "--all" in wrong else ("dev",)), "--app", str(folder), *wrong, db=db)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
