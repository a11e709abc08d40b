"""Settings: the newest deliberate one holds, whichever way it came."""

from runner import folder

from dormouse.config import begin, change, finish, in_force, told, try_out
from dormouse.ports.storage import Storage


class Device:
    """A device's files; `wake` reads them as a wake does."""

    def __init__(self, **base):
        self.storage = Storage(folder())
        self.flash(**base)
        self.wake()

    def flash(self, **base):
        """config.json is written anew."""
        self.base = dict(base, id="d", broker="mqtt://h")

    def wake(self, connects=True):
        """A wake that finishes; what commands do stands between."""
        self.config, self.trial, self.undone = in_force(self.base, self.storage)
        if self.trial and connects:
            begin(self.storage, self.trial)
        return self.config

    def ends(self):
        if self.trial:
            finish(self.storage, self.config, self.trial)

    def set_interval(self, **values):
        self.config.update(change(self.storage, self.config, values))

    def config_set(self, **values):
        try_out(self.storage, self.config, values)

    def every(self):
        """`connect_every` in the next wake, which finishes."""
        value = self.wake()["connect_every"]
        self.ends()
        return value


def test_a_flash_that_says_otherwise_beats_an_older_command():
    """It used to be the other way round, for ever."""
    device = Device(connect_every=900)
    device.set_interval(connect_every=3600)
    assert device.every() == 3600
    device.flash(connect_every=60)
    assert device.every() == 60
    device.flash(connect_every=900)
    assert device.every() == 900, "what was overtaken does not come back"


def test_a_flash_that_names_a_key_for_the_first_time_or_no_more_beats_it_too():
    """Both are deliberate."""
    for before, after, value in (({}, {"connect_every": 60}, 60), ({"connect_every": 60}, {}, 900)):
        device = Device(**before)
        device.set_interval(connect_every=3600)
        device.flash(**after)
        assert device.every() == value


def test_a_flash_of_other_keys_leaves_what_commands_changed():
    """And a later command beats the flash."""
    device = Device(connect_every=900, budget=20)
    device.set_interval(connect_every=3600)
    device.flash(connect_every=900, budget=30, linger=1)
    assert device.every() == 3600
    device.flash(connect_every=60)
    device.wake()
    device.set_interval(connect_every=120)
    assert device.every() == 120


def test_the_newer_of_two_commands_holds_whichever_they_are():
    """`set_interval` keeps at once, `config` after a trial."""
    device = Device(connect_every=900)
    device.set_interval(connect_every=120)
    device.wake()
    device.config_set(connect_every=60)
    assert [device.every(), device.every()] == [60, 60]
    device.wake()
    device.config_set(connect_every=300, budget=30)
    device.set_interval(connect_every=600)
    assert [device.every(), device.every()] == [600, 600]
    assert device.config["budget"] == 30
    device.wake()
    device.config_set(connect_every=77)
    device.wake()
    device.set_interval(connect_every=88)  # in the wake that tries the other
    device.ends()
    assert [device.every(), device.every()] == [88, 88]


def test_a_flash_beats_what_is_still_on_trial():
    """The command is the older one."""
    device = Device(connect_every=900)
    device.config_set(connect_every=60, budget=30)
    device.flash(connect_every=300)
    device.wake(connects=False)
    assert (device.config["connect_every"], device.config["budget"]) == (300, 30)
    assert device.every() == 300
    assert device.undone is None


def test_a_flash_during_a_trial_that_fails_keeps_its_own_value():
    """Undone is the rest of the trial."""
    device = Device(connect_every=900)
    device.config_set(connect_every=60, budget=1)
    device.wake()
    device.flash(connect_every=300)
    device.wake()
    assert device.undone == ["budget"]
    assert device.config["connect_every"] == 300


def test_each_setting_is_told_with_its_origin_and_what_it_replaced():
    """In the wake report only those that commands have changed."""
    device = Device(connect_every=900, budget=20)
    device.set_interval(connect_every=120, sample_every=60)
    device.wake()
    assert device.config["changed"] == {"connect_every": [120, 900], "sample_every": [60, None]}
    assert told(device.config) == {
        "id": ["d", "flashed"],
        "broker": ["mqtt://h", "flashed"],
        "budget": [20, "flashed"],
        "connect_every": [120, "command", 900],
        "sample_every": [60, "command", None],
    }


def test_a_change_in_a_form_of_before_is_dropped():
    """And damage that is JSON all the same."""
    device = Device(connect_every=900)
    device.storage.replace("kept", b'{"connect_every":60,"budget":[1],"linger":[1,2,3],"led":null}')
    assert device.every() == 900
    assert device.storage.read("kept") == b"{}"
