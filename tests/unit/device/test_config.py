"""The configuration: one table, every wrong key named, and changes that a device takes back by itself."""

from desk import full, reason, why
from runner import folder

from dormouse.codec import load
from dormouse.config import KEYS, begin, change, check, finish, in_force, split_broker, try_out
from dormouse.credentials import Credentials
from dormouse.errors import ConfigError, StorageError
from dormouse.ports.storage import Storage

NOT_CHECKED = ("flashed", "changed", "networks")  # what in_force adds to a configuration


def broker(url):
    return reason(ConfigError, split_broker, url)


# ---- checking


def test_id_and_broker_are_all_that_must_be_given():
    """Everything else has its default in the table."""
    found = check(full())
    for key in KEYS:
        if key not in ("id", "broker"):
            assert found[key] == KEYS[key][0]
    assert (found["host"], found["port"], found["root"]) == ("host", 1883, "dormouse")
    assert reason(ConfigError, check, {"id": "dev1"})
    assert reason(ConfigError, check, {"broker": "mqtt://host"})
    assert reason(ConfigError, check, {})


def test_an_unknown_key_is_named():
    """A misspelt key would be a setting that silently does not hold."""
    assert why(budgett=5) == "config: unknown key budgett"
    assert why(host="h")
    assert len(reason(ConfigError, check, {"x" * 500: 1})) < 80


def test_each_number_is_kept_within_its_range():
    """Its ends are allowed, what is beyond is refused by name."""
    for key in KEYS:
        _, least, most = KEYS[key]
        if least is None or most is None:
            continue
        for value in (least, most):
            values = full(budget=1, total=3600)
            values[key] = value
            if key == "total" and value == least:
                values["total"] = 2
            assert check(values)[key] == values[key]
        beyond: list = [least - 1, most + 1, most * 1000, -(10**30), 1e999, -1e999, 1e999 - 1e999]
        for value in beyond:
            assert key in (why(**{key: value}) or ""), (key, value)


def test_a_wake_is_longer_than_its_budget():
    """Otherwise no handler could ever run: what is left of `total` is theirs."""
    assert "total" in why(budget=20, total=20)
    assert "total" in why(budget=600)
    assert check(full(budget=20, total=21))


def test_each_key_is_of_its_type_and_true_is_no_number():
    """JSON may put anything anywhere."""
    for key in KEYS:
        default = KEYS[key][0]
        wrong: list = [None, [], {}, [1], b"x"]
        if not isinstance(default, str):
            wrong.append("5")
        if not isinstance(default, bool):
            wrong += [True, False]
        if isinstance(default, (str, bool)):
            wrong += [0, 1, 5.5]
        for value in wrong:
            assert key in (why(**{key: value}) or ""), (key, value)
    assert check(full(clean_session=True))["clean_session"] is True


def test_checking_changes_nothing_that_it_was_given():
    """A command's change is checked over the running configuration first."""
    values = full(budget=5)
    check(values)["budget"] = 7
    assert values == full(budget=5)
    assert check(full())["budget"] == KEYS["budget"][0]


def test_the_broker_is_a_scheme_a_host_and_perhaps_a_port():
    """IPv6 stands in brackets."""
    assert split_broker("mqtt://broker.local") == (False, "broker.local", 1883)
    assert split_broker("tcp://10.0.0.1:1") == (False, "10.0.0.1", 1)
    assert split_broker("mqtt://h:65535/") == (False, "h", 65535)
    assert split_broker("mqtt://[fe80::1]") == (False, "fe80::1", 1883)
    assert split_broker("mqtt://[::1]:8883/") == (False, "::1", 8883)


def test_a_broker_that_is_none_is_refused():
    """With a ConfigError, whatever it is: fix it, do not try again."""
    for url in ("", "host", "host:1883", "mqtt:host", "mqtt:/host", "mqtt://", "mqtt:///", "mqtt://:1883", "http://h"):
        assert broker(url), url
    for port in ("", "0", "65536", "99999", "999999", "-1", "+1", "1.5", "x", " 1", "²", "1e3"):
        assert broker("mqtt://h:" + port), port
    for url in (
        "mqtt://[::1",
        "mqtt://[]",
        "mqtt://[]:1",
        "mqtt://[::1]x",
        "mqtt://[::1]1883",
        "mqtt://[::1]:",
        "mqtt://h/a",
    ):
        assert broker(url), url


def test_a_password_in_the_broker_is_refused_and_not_repeated():
    """Secrets stand in secrets.json and in no message."""
    said = broker("mqtt://user:hunter2@host")
    assert said
    assert "hunter2" not in said


# ---- files


def test_a_file_that_is_missing_is_empty():
    """secrets.json need not be there."""
    assert load(None, "secrets.json") == {}
    assert load(b' {"a": [1]}\n', "x") == {"a": [1]}


def test_a_file_that_is_no_whole_object_is_refused_by_name():
    """MicroPython's JSON reads half a file as if it were whole: defaults would stand in for what was cut off."""
    whole = b'{"id":"dev1","broker":"mqtt://h"}'
    for end in range(len(whole)):
        assert reason(ConfigError, load, whole[:end], "config.json").startswith("config.json, line 1: not JSON"), end
    for text in (b"[]", b'["id"]'):
        assert reason(ConfigError, load, text, "config.json") == "config.json: not a JSON object: expected {"
    for text in (b"", b"5", b"\xff\xfe{\0", b'{"a":"\xff"}', b"{}{}", b"[" * 5000):
        assert reason(ConfigError, load, text, "config.json").startswith("config.json"), text


def test_an_error_in_a_file_does_not_repeat_its_content():
    """It may be secrets.json."""
    for text in (b'{"password":"hunter2"', b'["hunter2"]', b'{"password":hunter2}'):
        assert "hunter2" not in reason(ConfigError, load, text, "secrets.json")


# ---- what commands change


class Overlay:
    """The settings as one wake has them."""

    def __init__(self, storage, base=None):
        self.storage = storage
        self.config, self.tried, self.undone = in_force(base or full(), storage)
        self.values = {key: value for key, value in self.config.items() if key not in NOT_CHECKED}
        self.trial = {key: entry[0] for key, entry in self.tried.items()}

    @property
    def kept(self):
        return {key: entry[0] for key, entry in load(self.storage.read("kept"), "kept settings").items()}

    def keep(self, values):
        self.config.update(change(self.storage, self.config, values))

    def put_on_trial(self, values):
        try_out(self.storage, self.config, values)

    def begin(self):
        if self.trial:
            begin(self.storage, self.tried)

    def finished(self):
        if self.trial:
            finish(self.storage, self.config, self.tried)


def test_kept_settings_hold_at_every_later_wake_and_over_the_file():
    """set_interval is for good."""
    storage = Storage(folder())
    Overlay(storage).keep({"connect_every": 60})
    overlay = Overlay(storage)
    overlay.keep({"sample_every": 5})
    overlay.keep({"connect_every": 70})
    base = full(budget=9)
    for _ in range(3):
        overlay = Overlay(storage, base)
        assert overlay.values == check(full(connect_every=70, budget=9, sample_every=5))
        overlay.begin()
    assert base == full(budget=9)


def test_a_trial_that_finishes_is_kept():
    """From then on it is a setting like any other."""
    storage = Storage(folder())
    Overlay(storage).put_on_trial({"budget": 5})
    overlay = Overlay(storage)
    assert overlay.values["budget"] == 5
    overlay.begin()
    overlay.finished()
    for _ in range(2):
        overlay = Overlay(storage)
        assert (overlay.kept, overlay.trial, overlay.undone) == ({"budget": 5}, {}, None)
        overlay.begin()


def test_a_trial_that_does_not_finish_is_undone_at_the_next_wake_and_said_once():
    """A wrong setting must not lock its owner out."""
    storage = Storage(folder())
    Overlay(storage).put_on_trial({"budget": 1, "broker": "mqtt://nowhere"})
    Overlay(storage).begin()
    overlay = Overlay(storage)
    assert overlay.undone == ["broker", "budget"]
    assert overlay.values == check(full())
    overlay.begin()
    overlay.finished()
    assert (Overlay(storage).undone, Overlay(storage).kept) == (None, {})


def test_a_wake_that_only_samples_leaves_the_trial_for_one_that_connects():
    """It can't show whether the new broker answers."""
    storage = Storage(folder())
    Overlay(storage).put_on_trial({"budget": 5})
    for _ in range(3):
        assert Overlay(storage).trial == {"budget": 5}
    overlay = Overlay(storage)
    overlay.begin()
    overlay.finished()
    assert Overlay(storage).kept == {"budget": 5}


def test_two_trials_in_one_wake_are_tried_together():
    """Both commands were answered `on trial`; the later one wins where they differ."""
    storage = Storage(folder())
    overlay = Overlay(storage)
    overlay.put_on_trial({"budget": 5, "linger": 1})
    overlay.put_on_trial({"linger": 2, "patience": 100})
    overlay.begin()
    overlay.finished()
    assert Overlay(storage).trial == {"budget": 5, "linger": 2, "patience": 100}


def test_a_trial_put_up_during_another_is_tried_when_that_one_is_kept():
    """Two wakes in a row that change something."""
    storage = Storage(folder())
    Overlay(storage).put_on_trial({"budget": 5})
    overlay = Overlay(storage)
    overlay.begin()
    overlay.put_on_trial({"linger": 2})
    overlay.finished()
    overlay = Overlay(storage)
    assert (overlay.kept, overlay.trial, overlay.undone) == ({"budget": 5}, {"linger": 2}, None)
    overlay.begin()
    overlay = Overlay(storage)
    assert (overlay.kept, overlay.trial, overlay.undone) == ({"budget": 5}, {}, ["linger"])


def test_what_was_kept_before_stays_when_a_trial_over_it_is_undone():
    """Undone is the trial, and not the setting below it."""
    storage = Storage(folder())
    Overlay(storage).keep({"budget": 9})
    Overlay(storage).put_on_trial({"budget": 1})
    Overlay(storage).begin()
    assert Overlay(storage).values["budget"] == 9


def test_an_empty_trial_changes_nothing():
    """`config` with nothing to set is no mistake."""
    storage = Storage(folder())
    Overlay(storage).put_on_trial({})
    for _ in range(2):
        overlay = Overlay(storage)
        overlay.begin()
        overlay.finished()
        assert (overlay.kept, overlay.trial, overlay.undone or []) == ({}, {}, [])


def test_kept_settings_in_any_script_are_read_again():
    """What the device wrote must never be what it refuses to read: that would be every wake from then on."""
    storage = Storage(folder())
    Overlay(storage).keep({"broker": "mqtt://b\xfccher-\U0001f600"})
    Overlay(storage).put_on_trial({"broker": "mqtt://\U0001f600"})
    overlay = Overlay(storage)
    overlay.begin()
    assert overlay.kept["broker"] == "mqtt://b\xfccher-\U0001f600"
    assert Overlay(storage).undone == ["broker"]


# ---- credentials


def test_new_password_goes_first_and_the_old_one_is_kept_until_it_is_accepted():
    """Whichever of them the broker knows, the device gets in."""
    storage = Storage(folder())
    held = Credentials(storage, "zero")
    assert held.add("one") == "on trial"
    assert held.add("one") == "on trial"
    assert held.all[held.at] == "zero", "this connection's goes on"
    held.accepted()
    assert held.add("two") == "on trial"
    again = Credentials(storage, "zero")
    assert (again.all, again.at) == (["two", "one", "zero"], 0)
    assert again.refused() and again.all[again.at] == "one"
    again.accepted()
    assert Credentials(storage, "zero").all == ["two", "one", "zero"], "an older one proves nothing"
    again = Credentials(storage, "zero")
    again.accepted()
    assert again.add("two") == "in use"
    assert Credentials(storage, "zero").all == ["two", "zero"]


def test_each_password_is_tried_once_and_then_it_ends():
    """A device that is locked out sleeps."""
    storage = Storage(folder())
    held = Credentials(storage, "zero")
    for name in ("one", "two", "three", "four"):
        held.add(name)
    assert "too many" in reason(ConfigError, held.add, "five")
    assert held.add("four") == "on trial", "which is held already"
    held = Credentials(storage, "zero")
    assert [held.refused() for _ in range(5)] == [True, True, True, True, False]
    assert [Credentials(Storage(folder()), None).refused()] == [False]


def test_other_secrets_make_passwords_from_commands_void():
    """The board was flashed again, after its credential was revoked."""
    storage = Storage(folder())
    Credentials(storage, "zero").add("one")
    assert Credentials(storage, "fresh").all == ["fresh"]
    assert Credentials(storage, "zero").all == ["one", "zero"]


def test_credentials_are_bounded_together():
    """Each wake that connects reads all of them into the heap."""
    held = Credentials(Storage(folder()), "z" * 1000)
    for letter in "abc":
        held.add(letter * 1000)
    assert "too long" in reason(ConfigError, held.add, "d" * 1000)
    assert held.all == ["c" * 1000, "b" * 1000, "a" * 1000, "z" * 1000]


def test_credential_that_flash_does_not_take_changes_nothing():
    """The wake goes on, and its next connection is made as the one before."""

    class Full(Storage):
        def replace(self, name, data, mode="wb"):
            raise StorageError("full")

    held = Credentials(Full(folder()), "zero")
    assert reason(StorageError, held.add, "one") == "full"
    assert (held.all, held.all[held.at]) == (["zero"], "zero")


def test_device_without_a_credential_takes_none():
    """Its broker wants nothing."""
    assert "no credential" in reason(ConfigError, Credentials(Storage(folder()), None).add, "one")
