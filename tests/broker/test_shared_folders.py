"""Root in a folder that another user may write to: it reads and writes nothing that this user has put in the way."""

import contextlib
import os
import pwd
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dormouse_host import files
from dormouse_host.agent import toolchain
from dormouse_host.broker import credentials, setup
from dormouse_host.broker.folder import open_folder as open_broker_folder
from dormouse_host.broker.folder import put_password, remove_password, users
from dormouse_host.errors import HostError
from dormouse_host.ledger.store import Ledger
from support import made_broker
from support.another_user import does, keeps_doing, needs_root, open_folder, readable

pytestmark = needs_root
SECRET = "-----BEGIN EC PRIVATE KEY----- of the CA: 7c1f\n"
WITHIN = 3.0  # seconds of a race


@pytest.fixture
def place():
    """Root's folder with a secret in it, and beside it one of another user's with a file of ours."""
    with open_folder() as folder:
        (folder / "ca").mkdir(mode=0o700)
        (folder / "ca" / "ca.key").write_text(SECRET)
        (folder / "ca" / "ca.key").chmod(0o600)
        theirs = folder / "broker"
        theirs.mkdir()
        (theirs / "passwd").write_text("a:x\n")
        for path in (theirs, theirs / "passwd"):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        yield folder


def symbolic(folder):
    (folder / "broker" / "passwd").unlink()
    (folder / "broker" / "passwd").symlink_to("../ca/ca.key")


def hard(folder):
    """Root does it, as a kernel without protected_hardlinks lets the other one do."""
    (folder / "broker" / "passwd").unlink()
    (folder / "broker" / "passwd").hardlink_to(folder / "ca" / "ca.key")


def pipe(folder):
    (folder / "broker" / "passwd").unlink()
    os.mkfifo(folder / "broker" / "passwd")


def folder_instead(folder):
    """The folder itself is a link to root's, in which the file is the secret."""
    shutil.copy2(folder / "ca" / "ca.key", folder / "ca" / "passwd")
    shutil.rmtree(folder / "broker")
    (folder / "broker").symlink_to("ca")
    os.chown(folder / "broker", pwd.getpwnam("nobody").pw_uid, -1, follow_symlinks=False)


USES: dict[str, Callable[[Path], object]] = {
    "read": files.read,
    "find": files.find,
    "read_object": files.read_object,
    "users": users,
    "put": lambda path: put_password(path, "b", "word"),
    "remove": lambda path: remove_password(path, "a"),
    "lock": files.lock,
    "ledger": lambda path: Ledger(str(path)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("trap", [symbolic, hard, pipe, folder_instead])
def test_nothing_is_read_through_what_another_user_put_there(place, trap, use):
    trap(place)
    began = time.monotonic()
    with pytest.raises(HostError) as caught:
        USES[use](place / "broker" / "passwd")
    assert time.monotonic() - began < 5, "a pipe is waited for"
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    assert SECRET[:20].encode() not in readable(place)
    assert (place / "ca" / "ca.key").read_text() == SECRET


@pytest.mark.parametrize("trap", [symbolic, hard, pipe])
def test_nothing_is_written_through_a_trap(place, trap):
    trap(place)
    if trap is hard:
        files.write(place / "broker" / "passwd", "new\n", files.SHARED)
        assert (place / "broker" / "passwd").read_text() == "new\n"
    else:
        with pytest.raises(HostError, match="not a plain file"):
            files.write(place / "broker" / "passwd", "new\n", files.SHARED)
    files.fresh(place / "broker" / "passwd").close()
    assert (place / "broker" / "passwd").read_bytes() == b""
    assert (place / "ca" / "ca.key").read_text() == SECRET
    assert (place / "ca" / "ca.key").stat().st_nlink == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda path: files.write(path, "new"),
        files.remove,
        lambda path: files.folder(path.parent / "more"),
        lambda path: files.give(path.parent, pwd.getpwnam("nobody").pw_uid, 0, 0o777),
        lambda path: files.alone(path.parent).__enter__(),
    ],
)
def test_a_folder_that_is_a_link_is_not_gone_into(place, use):
    folder_instead(place)
    with pytest.raises(HostError):
        use(place / "broker" / "passwd")
    assert sorted(path.name for path in (place / "ca").iterdir()) == ["ca.key", "passwd"]
    assert (place / "ca" / "passwd").read_text() == SECRET
    assert (place / "ca").stat().st_uid == 0


def test_a_link_that_root_has_put_in_a_folder_of_its_own_is_followed(place):
    """Who keeps a project on another disk has put it there himself."""
    (place / "short").symlink_to("broker")
    assert files.read(place / "short" / "passwd") == "a:x\n"
    files.write(place / "short" / "passwd", "b:x\n")
    assert (place / "broker" / "passwd").read_text() == "b:x\n"


@pytest.mark.parametrize("what", ["file", "hard", "folder"])
def test_a_trap_set_between_the_check_and_the_use_catches_nothing(place, what):
    """The other user changes file, or folder, as fast as it can; root reads and writes as fast as it can."""
    deep = place / "broker" / "deep"
    deep.mkdir()
    os.chown(deep, pwd.getpwnam("nobody").pw_uid, -1)
    (place / "ca" / "passwd").write_text(SECRET)
    target = deep / "passwd"
    target.write_text("a:x\n")
    pool = place / "pool"  # of hard links that a kernel without protected_hardlinks would have let it make
    pool.mkdir()
    os.chown(pool, pwd.getpwnam("nobody").pw_uid, -1)
    (pool / "key").hardlink_to(place / "ca" / "passwd")

    def swap_file() -> None:
        aside = target.with_name("aside")
        aside.symlink_to("../../ca/passwd")
        aside.rename(target)
        aside.write_text("a:x\n")
        aside.rename(target)

    def swap_hard() -> None:
        (pool / "key").rename(target)
        target.rename(pool / "key")
        target.write_text("a:x\n")

    def swap_folder() -> None:
        deep.rename(place / "broker" / "away")
        deep.symlink_to("../ca")
        deep.unlink()
        (place / "broker" / "away").rename(deep)

    until, good, refused = time.monotonic() + WITHIN, 0, 0
    with keeps_doing({"file": swap_file, "hard": swap_hard, "folder": swap_folder}[what]):
        while time.monotonic() < until:
            try:
                said = files.read(target)
                assert said in ("a:x\n", "ours\n", ""), "the secret was read"
                files.write(target, "ours\n")
                good += 1
            except HostError:
                refused += 1
    assert good, refused
    assert refused, good
    assert (place / "ca" / "passwd").read_text() == SECRET
    assert sorted(path.name for path in (place / "ca").iterdir()) == ["ca.key", "passwd"]


@pytest.fixture
def made():
    """What root's `broker init` makes, for a mosquitto that becomes another user."""
    with open_folder() as folder:
        port, cert_port = made_broker.free_port(), made_broker.free_port()
        yield setup.init(folder / "b", ["127.0.0.1"], user="nobody", port=port, cert_port=cert_port)


def test_the_brokers_user_changes_nothing_that_root_reads_or_writes(made):
    for path in sorted(made.path.rglob("*")):
        if made.broker / "data" in (path, *path.parents) or path == made.pid:
            continue
        assert path.stat().st_uid == 0, path
        assert not does(partial(path.write_bytes, b"")), path
        assert not does(path.rmdir if path.is_dir() else path.unlink), path
        assert not does(partial((path.parent / "x").symlink_to, "../ca/ca.key")), path.parent
    for name in ("passwd", "acl", "broker.key", "broker.crt", "revoked.pem"):
        assert does((made.broker / name).read_bytes), f"the broker can't read {name}"
    for secret in (made.path / "ca" / "ca.key", made.relay_file("main")):
        assert not does(secret.read_bytes), secret


def test_provision_hands_the_brokers_user_no_key_of_the_ca(made):
    """The link that it could put in the place of its passwords, in a folder made while that was still its own."""
    nobody = pwd.getpwnam("nobody")
    for path in (made.broker, *made.broker.iterdir()):
        os.chown(path, nobody.pw_uid, -1)
        path.chmod(0o700 if path.is_dir() else 0o600)
    made.pid.unlink()
    made.path.chmod(0o755)
    assert does(lambda: (made.passwd.unlink(), made.passwd.symlink_to("../ca/ca.key")))
    with pytest.raises(HostError, match="not a plain file"):
        credentials.provision(open_broker_folder(made.path), "a", made.path.parent)
    assert b"PRIVATE KEY" not in readable(made.broker).replace(files.read(made.broker / "broker.key").encode(), b"")
    assert made.broker.stat().st_uid == 0
    assert made.broker.stat().st_gid == nobody.pw_gid
    made.passwd.unlink()
    files.write(made.passwd, "", files.SHARED)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(made.path.parent / "devices" / "a")
    credentials.provision(open_broker_folder(made.path), "a", made.path.parent)
    assert (made.passwd.stat().st_uid, made.passwd.stat().st_gid) == (0, nobody.pw_gid)
    assert does(made.passwd.read_bytes)


def _of_another_user(folder: Path) -> None:
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)


def _for_everybody(folder: Path) -> None:
    folder.chmod(0o1777)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("open_to_others", "why"), [(_of_another_user, "belongs to another user"), (_for_everybody, "everybody may write")]
)
def test_a_ledger_lies_in_no_folder_in_which_another_user_could_replace_it(tmp_path, open_to_others, why, there):
    """SQLite opens its file, and what lies beside it, by their paths."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if there:
        Ledger(str(folder / "ledger.db")).close()
    open_to_others(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(HostError, match=why) as caught:
        Ledger(str(folder / "ledger.db"))
    assert caught.value.code == 2
    assert sorted(folder.iterdir()) == before
    (tmp_path / "short").symlink_to(folder / "ledger.db")
    with pytest.raises(HostError, match=why):
        Ledger(str(tmp_path / "short"))


def test_a_copy_of_the_ledger_is_not_written_through_a_link(place):
    with Ledger(str(place / "ledger.db")) as ledger:
        for name in ("link", "dangling"):
            target = place / "broker" / name
            assert does(partial(target.symlink_to, f"../ca/{name}"))
            with pytest.raises(HostError, match="exists already"):
                ledger.back_up(target)
        ledger.back_up(place / "broker" / "copy.db")
    assert sorted(path.name for path in (place / "ca").iterdir()) == ["ca.key"]
    assert (place / "broker" / "copy.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


def test_what_is_run_from_a_cache_was_put_there_by_nobody_else(place, monkeypatch):
    """MicroPython and compiled code: whoever may write there would be obeyed with root's rights."""
    monkeypatch.setattr(toolchain, "__file__", "/nowhere/dormouse_host/agent/toolchain.py")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "broker"))
    assert toolchain.cache_folder() == place / "broker" / "dormouse"
    assert does((place / "broker" / "dormouse").mkdir)
    with pytest.raises(HostError, match="another user"):
        toolchain.cache_folder()
