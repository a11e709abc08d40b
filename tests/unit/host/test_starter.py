"""`dormouse init`: what it makes works as it stands, and nothing secret gets into git (CASES F3)."""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dormouse_host import settings
from dormouse_host.broker import credentials
from dormouse_host.flash import kinds, project, starter
from dormouse_host.flash.files import collect
from support import made_broker, needs

ROOT = Path(__file__).resolve().parents[3]
MADE = [".gitignore", "app.py", "dormouse.toml", "README.md", "pytest.ini", "tests/test_app.py"]


def test_what_init_makes_can_be_flashed_and_is_the_example_in_git(tmp_path):
    assert starter.init(tmp_path / "pine") == MADE
    here = project.read(tmp_path / "pine")
    assert stat.S_IMODE((here.folder / "dormouse.toml").stat().st_mode) == 0o600, "passwords go there"
    posix = kinds.load("POSIX")
    assert collect(here, posix, None).files["app.py"] == starter.APP.encode()
    said = settings.read(None, None, {}, here.folder)
    assert (said.broker, said.db) == ("mqtt://127.0.0.1", "ledger.db"), "the fleet's commands read it too"
    assert (ROOT / "dormouse.example.toml").read_text() == starter.SETTINGS
    assert "dormouse agent run app.py --device pine" in (here.folder / "README.md").read_text()


def test_init_touches_nothing_that_is_there(tmp_path):
    (tmp_path / "app.py").write_text("mine")
    assert starter.init(tmp_path) == [name for name in MADE if name != "app.py"]
    assert (tmp_path / "app.py").read_text() == "mine"
    assert starter.init(tmp_path) == []


def test_a_folder_whose_name_no_device_can_have_gets_another_one_in_its_readme(tmp_path):
    starter.init(tmp_path / "my sensor")
    assert "--device greenhouse" in (tmp_path / "my sensor" / "README.md").read_text()


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_nothing_secret_gets_into_git_by_itself(tmp_path):
    """`git add -A` after init, a broker's folder, two credentials, a ledger and a device's state."""
    needs.need_mosquitto()
    git(tmp_path, "init", "-q")
    starter.init(tmp_path)
    made = made_broker.make(tmp_path / "broker")
    made_broker.make(tmp_path / "elsewhere")
    credentials.provision(made, "pine", tmp_path)
    credentials.provision(made, "oak", tmp_path, cert=True)
    for name in ("ledger.db", "ledger.db-wal", "state/cmd.t0", ".venv/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    git(tmp_path, "add", "-A")
    assert git(tmp_path, "ls-files").split() == [".gitignore", "README.md", "app.py", "pytest.ini", "tests/test_app.py"]


@pytest.mark.parametrize(
    "ssid, password, kept",
    [("attic", "hush hush", True), ("open", "", True), ('say "x"', "hushhush", False), ("a", "back\\slash", False)],
)
def test_a_wifi_is_kept_in_the_settings_as_they_were_made(tmp_path, ssid, password, kept):
    starter.init(tmp_path)
    before = (tmp_path / "dormouse.toml").read_text()
    assert starter.remember_wifi(tmp_path, ssid, password) is kept
    if not kept:
        assert (tmp_path / "dormouse.toml").read_text() == before
        return
    assert stat.S_IMODE((tmp_path / "dormouse.toml").stat().st_mode) == 0o600
    values = project.read(tmp_path).values["wifi"]
    assert values == {"ssid": ssid, **({"password": password} if password else {})}
    assert starter.remember_wifi(tmp_path, "other", "hushhush") is False, "it is theirs from now on"


def test_flash_at_a_terminal_asks_for_a_wifi_that_is_missing_and_keeps_it(tmp_path):
    """The question comes before any board is looked for; a password is not echoed."""
    starter.init(tmp_path)
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "dormouse_host.cli", "flash", "pine", "--board", "RPI_PICO_W", "--broker", "mqtt://b"]
    env = {key: value for key, value in os.environ.items() if key != "WIFI_PASSWORD"}
    with subprocess.Popen(
        [*argv, "--port", str(tmp_path / "none"), "--wait", "0"], cwd=tmp_path, env=env, stdin=slave, stdout=slave,
        stderr=slave, start_new_session=True,
    ) as running:  # fmt: skip
        os.close(slave)
        said = b""
        for question, answer in ((b"Wi-Fi name: ", b"attic\n"), (b"Wi-Fi password: ", b"hushhush\n")):
            while question not in said:
                said += os.read(master, 4096)
            os.write(master, answer)
        while True:
            try:
                said += os.read(master, 4096)
            except OSError:
                break
    os.close(master)
    assert running.returncode == 4, said
    assert b"kept in dormouse.toml" in said
    assert b"hushhush" not in said
    assert project.read(tmp_path).values["wifi"] == {"ssid": "attic", "password": "hushhush"}


def test_flash_without_a_terminal_says_what_is_missing_before_it_looks_for_a_board(tmp_path):
    starter.init(tmp_path)
    argv = [sys.executable, "-m", "dormouse_host.cli", "flash", "pine", "--board", "RPI_PICO_W", "--broker", "mqtt://b"]
    done = subprocess.run(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "dormouse: ssid is missing: --ssid, or ssid in [wifi] of dormouse.toml\n"
