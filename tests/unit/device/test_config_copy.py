"""Files of settings that a program has damaged: the copy of the last wake that finished stands in for them."""

from desk import reason
from runner import folder

from dormouse.config import in_force, read
from dormouse.errors import ConfigError
from dormouse.ports.storage import Storage

CONFIG = b'{"id":"d","broker":"mqtt://h"}'
SECRETS = b'{"password":"hunter2"}'
DAMAGED = (None, b"", b"{}", b"\0\xff" * 40, b'{"id":"d"', b'{"id":"d","broker":5}')


def device(config=CONFIG, secrets=SECRETS):
    """Flash on which a wake that finished has left its copy."""
    storage = Storage(folder())
    storage.replace("good", config + b"\0" + secrets)
    return storage


def test_a_config_that_is_missing_or_wrong_gives_way_to_its_copy_and_that_is_told():
    """Whatever the program has done to it."""
    for damaged in DAMAGED:
        full, trial, undone, secrets, wrong = read((damaged, SECRETS), device())
        assert (full["id"], full["host"], trial, undone) == ("d", "h", {}, None)
        assert secrets == {"password": "hunter2"}
        assert wrong.endswith(": its copy is used"), wrong
        assert "hunter2" not in wrong


def test_secrets_that_are_missing_or_wrong_give_way_to_their_copy():
    """A device that has never had any lacks none, and one that has lost them does not join as nobody."""
    for damaged in (None, b"{", b"[]", b'{"password":5}', b'{"pass":"x"}'):
        assert read((CONFIG, damaged), device())[3] == {"password": "hunter2"}
    assert read((CONFIG, b"{}"), device())[3:] == ({}, None)
    assert read((CONFIG, None), device(secrets=b""))[3:] == ({}, None)
    assert read((CONFIG, None), Storage(folder()))[3:] == ({}, None)


def test_without_a_copy_or_with_a_damaged_one_the_files_own_error_stays():
    """A first flash that is wrong is its owner's to mend."""
    for damaged in DAMAGED:
        for storage in (Storage(folder()), device(b"", b""), device(b"x"), device(CONFIG, b"x")):
            assert reason(ConfigError, read, (damaged, None), storage)


def test_the_owners_new_files_hold_whatever_the_copy_says():
    """It stands in for what can't be used, and for nothing else."""
    full, _, _, secrets, wrong = read((b'{"id":"d","broker":"mqtt://new"}', b"{}"), device())
    assert (full["host"], secrets, wrong) == ("new", {}, None)


def test_changes_that_are_damaged_go_and_the_flashed_settings_hold():
    """They used to keep the device from its broker for ever."""
    base = {"id": "d", "broker": "mqtt://h", "budget": 9}
    damaged = (b"\xff{", b"[]", b'{"nokey":[1,null]}', b'{"budget":["x",9]}', b'{"connect_every":[0,null]}')
    for name in ("kept", "trial"):
        for data in damaged:
            storage = Storage(folder())
            storage.replace(name, (b"0" if name == "trial" else b"") + data)
            full, trial, undone = in_force(base, storage)
            assert (full["budget"], full["changed"], trial) == (9, {}, {})
            assert len(undone) == 1
            assert in_force(base, storage)[2] is None, "told once"
            assert not storage.size(name)
