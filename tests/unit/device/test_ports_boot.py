"""The start of every boot: somebody at the serial port gets in, a Pico sleeps what it owes, retries are bounded."""

import json
import os
import sys
from binascii import crc32
from struct import pack, unpack

import hardware

POWER, WATCHDOG, DEEPSLEEP, SOFT = 1, 3, 4, 5
LIMIT = (1 << 32) // 1000


def put(name, data):
    if "state" not in os.listdir():
        os.mkdir("state")
    with open("state/" + name, "wb") as file:
        file.write(data)


def have(name):
    try:
        with open("state/" + name, "rb") as file:
            return file.read()
    except OSError:
        return None


def nap(ms, clock=5000):
    """A Pico's plan to sleep, on flash."""
    put("sleep", plan(ms, clock))


def plan(ms, clock=5000):
    data = pack("<II", ms, clock)
    return pack("<I", crc32(data, 77)) + data


def boot(world, kind="esp32", agent=None):
    """A boot. Returns the causes that the agent was started with, and how the boot ended: "prompt" or "reset"."""
    _, guard, _ = hardware.boot(world, kind)
    causes: list = []

    def start(app, cause, on_healthy, slots):
        causes.append(cause)
        if agent:
            agent()

    package = type("Module", (), {})()
    package.start = start
    before = sys.modules["dormouse"]
    sys.modules["dormouse"] = package
    try:
        guard.run("app")
        ended = "prompt"
    except hardware.Reset:
        ended = "reset"
    finally:
        sys.modules["dormouse"] = before
    return causes, ended


def test_window_after_power_on_and_reset_and_none_after_sleep():
    """Three seconds for mpremote; a device that wakes by itself has nobody to wait for."""
    for cause, seconds in ((POWER, 3), (SOFT, 3), (2, 3), (DEEPSLEEP, 0), (WATCHDOG, 0)):
        world = hardware.World()
        world.cause = cause
        before = world.ms
        causes, _ = boot(world)
        assert len(causes) == 1
        assert 1000 * seconds <= world.ms - before < 1000 * seconds + 100


def test_ctrl_c_in_the_window_leaves_the_prompt():
    """And the reset after it is that person's, whatever the chip calls it."""
    for kind in ("esp32", "rp2"):
        world = hardware.World()
        world.interrupt = 2500
        assert boot(world, kind) == ([], "prompt")
        world.cause = WATCHDOG
        assert boot(world, kind)[0] == ["reset"]
        assert have("prompt") is None
        assert boot(world, kind)[0] == ["watchdog"]


def test_ctrl_c_while_the_agent_runs_resets_into_ten_minutes_without_agent_or_watchdog():
    """A Pico's running watchdog would bite in the middle of a copy: only a reset stops it."""

    def stop():
        raise KeyboardInterrupt

    for kind in ("esp32", "rp2"):
        world = hardware.World()
        world.cause = WATCHDOG
        assert boot(world, kind, stop) == (["watchdog"], "reset")
        world.interrupt = world.ms + 500000
        assert boot(world, kind) == ([], "prompt")
        assert world.told("watchdog") == []
        assert boot(world, kind)[0] == ["reset"]


def test_ten_minutes_without_anybody_end_by_themselves():
    """Ctrl-C may have been noise on the line: the device goes on, with a person's reset as the cause."""
    world = hardware.World()
    world.cause = WATCHDOG
    put("prompt", b"0")
    before = world.ms
    assert boot(world)[0] == ["reset"]
    assert 600000 <= world.ms - before < 601000
    assert have("prompt") is None


def test_hold_pin_keeps_the_agent_away():
    """For who has no keyboard at hand: pulled low at the boot."""
    for config, levels, held in (
        ({"hold_pin": 9}, {9: 0}, True),
        ({"hold_pin": 9}, {9: 1}, False),
        ({"hold_pin": -1}, {-1: 0}, False),
        ({}, {}, False),
        ({"hold_pin": 47}, {47: 0}, False),
        ({"hold_pin": "9"}, {9: 0}, False),
        ({"hold_pin": None}, {}, False),
    ):
        world = hardware.World()
        world.cause = DEEPSLEEP
        world.levels = levels
        with open("config.json", "w") as file:
            json.dump(config, file)
        before = world.ms
        assert boot(world)[0] == ["timer"]
        assert (world.ms - before >= 600000) is held, config


def test_broken_configuration_does_not_keep_anybody_out():
    """It is read for the hold pin before anything has checked it."""
    for text in ("", "{", "[]", "[1]", "[[1]]", "null", '"x"', "\xff"):
        world = hardware.World()
        with open("config.json", "w") as file:
            file.write(text)
        world.interrupt = 2000
        assert boot(world) == ([], "prompt"), text


def test_agent_that_does_not_start_is_tried_again_after_growing_pauses_and_then_leaves_the_prompt():
    """The count is on flash: a reset in between forgets nothing."""

    def fail():
        raise ImportError("no module named 'dormouse.connection'")

    world = hardware.World()
    world.cause = DEEPSLEEP
    pauses = []
    for _ in range(5):
        before = world.ms
        causes, ended = boot(world, agent=fail)
        assert (len(causes), ended) == (1, "reset")
        pauses.append((world.ms - before) // 1000)
        world.cause = WATCHDOG
    assert pauses == [5, 20, 80, 320, 0]
    assert boot(world, agent=fail) == ([], "prompt")
    assert boot(world)[0] == ["reset"], "and the person's reset tries again"


def test_prompt_is_there_in_each_pause():
    """By way of a reset, since nobody knows whether a watchdog runs."""

    def fail():
        raise MemoryError

    world = hardware.World()
    world.cause = DEEPSLEEP
    world.interrupt = world.ms + 2000
    assert boot(world, agent=fail)[1] == "reset"
    world.cause = SOFT
    world.interrupt = world.ms + 100000
    assert boot(world, agent=fail) == ([], "prompt")


def test_app_that_exits_is_no_way_round():
    """SystemExit out of main.py is a soft reset, which runs main.py again."""

    def leave():
        sys.exit(3)

    world = hardware.World()
    world.cause = DEEPSLEEP
    assert boot(world, agent=leave)[1] == "reset"
    assert have("tries") == b"\x01"


def test_power_on_forgets_failures():
    """Whoever has cut the power has done something, and gets the window."""
    world = hardware.World()
    put("tries", b"\x05")
    causes, _ = boot(world)
    assert causes == ["power"]
    assert have("tries") is None


def test_sleep_is_slept_at_the_next_boot_and_forgotten_before():
    """Removed first: a boot out of the middle of it must not sleep again."""
    world = hardware.World()
    world.cause = WATCHDOG
    nap(60000)
    before = world.ms
    causes, _ = boot(world, "rp2")
    assert causes == ["timer"]
    assert world.ms - before == 60000
    assert [files for _, files in world.told("lightsleep")] == [[]]
    assert world.seconds == 5060, "the clock goes on by what was slept"


def test_sleep_planned_in_registers_is_slept_once():
    """MicroPython 1.29. They are cleared before it sleeps; the next boot is what the chip says it is."""
    world = hardware.World()
    world.cause = WATCHDOG
    world.registers()
    for i, word in enumerate(unpack("<III", plan(60000))):
        world.words[i] = word
    seen = []
    later = world.later

    def look(ms):
        seen.append(list(world.words))
        later(ms)

    world.later = look  # type: ignore[method-assign]
    before = world.ms
    assert boot(world, "rp2")[0] == ["timer"]
    assert world.ms - before == 60000
    assert world.seconds == 5060
    assert seen[0] == [0, 0, 0]
    assert boot(world, "rp2")[0] == ["watchdog"]
    assert len(world.told("lightsleep")) == 0


def test_plan_on_flash_counts_where_there_are_registers():
    """The firmware was upgraded while the board slept."""
    world = hardware.World()
    world.cause = WATCHDOG
    world.registers()
    nap(60000)
    assert boot(world, "rp2")[0] == ["timer"]
    assert have("sleep") is None


def test_damaged_plan_in_registers_is_not_slept():
    """Whatever is in them, and on an ESP32 there are none."""
    for kind in ("rp2", "esp32"):
        for words in ((0, 0, 0), (7, 8, 9), (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)):
            world = hardware.World()
            world.cause = WATCHDOG
            world.registers()
            for i, word in enumerate(words):
                world.words[i] = word
            assert boot(world, kind)[0] == ["watchdog"]
            assert world.told("lightsleep") == []


def test_long_sleep_is_chained():
    """One call takes 2**32 microseconds at most; three hours are three calls."""
    world = hardware.World()
    world.cause = WATCHDOG
    nap(3 * 3600 * 1000)
    before = world.ms
    assert boot(world, "rp2")[0] == ["timer"]
    assert world.ms - before == 3 * 3600 * 1000
    assert all(ms < LIMIT for ms, _ in world.told("lightsleep"))
    assert len(world.told("lightsleep")) == 3
    assert world.seconds == 5000 + 3 * 3600


def test_sleep_that_returns_early_goes_on():
    """As it does with USB, or where anything is pending."""
    world = hardware.World()
    world.cause = WATCHDOG
    world.naps = [1, 1, 500, 7, 1, 30000]
    nap(60000)
    before = world.ms
    assert boot(world, "rp2")[0] == ["timer"]
    assert world.ms - before == 60000


def test_sleep_is_not_slept_after_power_on():
    """The plan is of before; whoever switches a device on wants to see it."""
    world = hardware.World()
    world.registers()
    nap(60000)
    for i, word in enumerate(unpack("<III", plan(60000))):
        world.words[i] = word
    causes, _ = boot(world, "rp2")
    assert causes == ["power"]
    assert list(world.words) == [0, 0, 0]
    assert world.told("lightsleep") == []
    assert have("sleep") is None


def test_damaged_plan_is_not_slept():
    """A wrong one could be 49 days."""
    world = hardware.World()
    world.cause = WATCHDOG
    for data in (b"", b"\xff" * 12, b"\0" * 12, b"\xff" * 100):
        put("sleep", data)
        assert boot(world, "rp2")[0] == ["watchdog"]
        assert world.told("lightsleep") == []


def test_ctrl_c_ends_sleep():
    """At any moment: into the ten minutes."""
    world = hardware.World()
    world.cause = WATCHDOG
    nap(3600000)
    world.interrupt = world.ms + 10
    world.naps = [20]
    assert boot(world, "rp2") == ([], "reset")
    assert have("prompt") == b"0"


def test_wake_pin_ends_sleep_with_a_cause_of_its_own():
    """At either level, within a second, and the clock knows how long it was."""
    for level in (0, 1):
        world = hardware.World()
        world.cause = WATCHDOG
        world.levels = {7: 1 - level}
        with open("config.json", "w") as file:
            json.dump({"wake_pin": 7, "wake_level": level}, file)
        nap(3600000)
        world.naps = [1000, 1000, 500]
        later = world.later

        def press(ms, world=world, level=level, later=later):
            later(ms)
            if ms == 500:
                world.levels[7] = level

        world.later = press  # type: ignore[method-assign]
        before = world.ms
        assert boot(world, "rp2")[0] == ["pin"]
        assert world.ms - before == 2500
        assert world.seconds == 5002


def test_esp32_tells_timer_from_pin():
    """Its own causes; a watchdog's is looked at by the agent."""
    for reason, cause in ((4, "timer"), (0, "timer"), (2, "pin"), (3, "pin"), (7, "pin")):
        world = hardware.World()
        world.cause = DEEPSLEEP
        _, guard, machine = hardware.boot(world, "esp32")
        machine.reason = reason
        assert guard._cause() == cause


def test_flash_that_takes_nothing_leaves_the_window_and_long_pauses():
    """The count can't be kept then: no reboot at full duty all the same."""

    def fail():
        raise OSError(28)

    world = hardware.World()
    world.cause = DEEPSLEEP
    with open("state", "w") as file:
        file.write("no folder")
    before = world.ms
    assert boot(world, agent=fail)[1] == "reset"
    assert world.ms - before >= 320000
    world.cause = SOFT
    world.interrupt = world.ms + 1000
    assert boot(world) == ([], "prompt")
