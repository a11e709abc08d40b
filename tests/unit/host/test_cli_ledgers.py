"""A ledger that is not there, is none, is damaged or may not be written: one line, with what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import refused, run


@pytest.mark.parametrize(
    "words",
    [["status"], ["send", "dev", "ping"], ["log", "dev"], ["result", "x"], ["prune", "--before", "1d"], ["watch"]],
    ids=lambda words: words[0],
)
def test_a_mistyped_path_makes_no_ledger(folder, words):
    text, code = refused(*words, "--db", "legder.db")
    assert (text, code) == ("no ledger at legder.db: dormouse relay makes one, or dormouse devices add DEVICE", 1)
    assert not (folder / "legder.db").exists()


def test_send_to_a_device_that_is_new_in_a_ledger_that_is_new(folder):
    name = run("send", "new", "ping", "--create", "--db", "new.db").strip()
    assert run("result", name, "--db", "new.db").startswith(f"{name} queued: new ping")


@pytest.mark.parametrize("content", [b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000, b"some text\n" * 100])
def test_a_file_that_is_no_ledger_is_left_as_it_is(folder, content):
    (folder / "other.db").write_bytes(content)
    for words in (["status"], ["devices", "add", "dev"], ["send", "dev", "ping", "--create"]):
        text, code = refused(*words, "--db", "other.db")
        assert (text, code) == (
            "database other.db: this is not a dormouse ledger; nothing was changed: give another path",
            2,
        )
    assert (folder / "other.db").read_bytes() == content


def test_a_ledger_that_may_only_be_read_is_one_line(folder):
    """Root may write anywhere, so the right to do so is given up first."""
    (folder / "ledger.db").chmod(0o444)
    program = str(Path(sys.executable).with_name("dormouse"))
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, program, "send", "dev", "ping"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    why = "give this user the right to write to the file and its folder, or give another path"
    assert done.stderr == f"dormouse: database ledger.db: attempt to write a readonly database: {why}\n"


def test_a_ledger_that_is_damaged_says_how_to_go_on(folder):
    run("ledger", "backup", "copy.db")
    data = bytearray((folder / "ledger.db").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (folder / "ledger.db").write_bytes(data)
    for words in (["status"], ["devices", "add", "b"], ["send", "dev", "ping"]):
        text, code = refused(*words)
        copy = "put a copy in its place that dormouse ledger backup has made, then run dormouse ledger restored"
        assert (text, code) == (f"database ledger.db: database disk image is malformed: {copy}", 1)
    (folder / "copy.db").rename("ledger.db")
    run("ledger", "restored")
    assert run("devices", "list").split() == ["dev"]


@pytest.mark.parametrize(
    "path, why",
    [
        ("/proc/x.db", "no file can be made in /proc: give another path"),
        (
            "/sys/x.db",
            "(Permission denied|Read-only file system): give a path in a folder in which this user may make files",
        ),
        ("/nowhere/x.db", "there is no folder /nowhere: make it, or give another path"),
        ("/tmp/nobody-has-this.db", "everybody may write in its folder, .*: give a path in a folder of your own"),
    ],
)
def test_a_ledger_where_no_file_can_be_made_says_what_to_do(folder, path, why):
    text, code = refused("devices", "add", "dev", "--db", path)
    assert re.fullmatch(f"database {path}: {why}", text)
    assert code == (2 if path.startswith("/tmp") else 1)
    assert not Path(path).exists()
