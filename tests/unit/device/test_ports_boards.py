"""Sleep, watchdog, clock, battery and LED of the two boards, against hardware that only writes down what was asked."""

import os
import sys
from binascii import crc32
from struct import pack, unpack

import hardware
from hardware import CONFIG, SECRETS

from dormouse.errors import ConfigError, StorageError

BOARDS = ("esp32", "rp2")


def make(world, kind, **config):
    """A port that has its configuration, and the machine under it."""
    port_class, _, machine = hardware.boot(world, kind)
    port = port_class("timer")
    port.start(dict(CONFIG, **config))
    return port, machine


def end(function, *args):
    """Call what does not return on a board."""
    try:
        function(*args)
    except hardware.Reset:
        return True
    return False


def test_esp32_sleeps_deeply_for_the_time_asked_for():
    """And a week is one call."""
    world = hardware.World()
    port, _ = make(world, "esp32")
    assert end(port.sleep, 604800000)
    assert world.told("deepsleep") == [(604800000,)]


def test_pico_writes_its_plan_and_resets():
    """Time and checksum as boot.py reads them; a second for the boot is added to the clock."""
    world = hardware.World()
    world.seconds = 7000
    port, _ = make(world, "rp2")
    assert end(port.sleep, 900000)
    with open("state/sleep", "rb") as file:
        data = file.read()
    assert unpack("<III", data) == (crc32(data[4:], 77), 900000, 7001)
    assert world.events[-1] == ("reset",)


def test_pico_with_registers_that_a_reset_keeps_writes_no_flash_to_sleep():
    """MicroPython 1.29: the same plan, word by word."""
    world = hardware.World()
    world.seconds = 7000
    world.registers()
    port, _ = make(world, "rp2")
    assert end(port.sleep, 4000000000)
    data = bytes(world.words)
    assert unpack("<III", data) == (crc32(data[4:], 77), 4000000000, 7001)
    assert "sleep" not in os.listdir("state")


def test_pico_whose_flash_takes_nothing_waits_awake_for_a_minute_and_does_not_reboot_at_full_duty():
    """The plan can't be kept, and the watchdog runs and is fed. A reset mounts anew what the program has unmounted."""
    world = hardware.World()
    port, _ = make(world, "rp2")
    port.arm(30000)

    def full(name, data):
        raise StorageError("full")

    port.storage.replace = full
    before = world.ms
    assert end(port.sleep, 120000)
    assert 60000 <= world.ms - before <= 61000
    assert len(world.told("feed")) >= 50
    assert end(port.sleep, 5000)
    assert world.ms - before <= 67000


def test_the_watchdog_is_set_anew_each_time():
    """The program may have changed it. A Pico's takes 8388 ms at most."""
    world = hardware.World()
    port, _ = make(world, "esp32")
    port.arm(30000)
    port.arm(90000)
    assert world.told("watchdog") == [(30000,), (90000,)]
    port, _ = make(world, "rp2")
    port.arm(30000)
    port.arm(90000)
    assert world.told("watchdog") == [(8388,), (8388,)]


def test_pico_watchdog_has_the_longest_time_that_chip_and_firmware_allow():
    """An RP2350 takes 16777 ms from MicroPython 1.29 on: a handshake of ten seconds is no fault there."""
    for longest in (8388, 16777):
        world = hardware.World()
        world.longest = longest
        make(world, "rp2")[0].arm(30000)
        assert world.told("watchdog") == [(longest,)]


def test_pico_timer_feeds_for_the_time_allowed_and_then_resets():
    """A handler with a limit of a minute lives; one that hangs is ended after it, also where it feeds the watchdog."""
    world = hardware.World()
    port, machine = make(world, "rp2")
    port.arm(60000)
    fed = []
    for _ in range(40):
        world.ms += 2000
        world.events = []
        try:
            machine.timer(None)
        except hardware.Reset:
            pass
        fed.append((len(world.told("feed")), len(world.told("reset"))))
    assert fed == [(1, 0)] * 29 + [(0, 1)] * 11
    port.feed()
    machine.timer(None)
    assert len(world.told("feed")) == 2, "progress: the time begins again"


def test_feeding_without_a_watchdog_is_harmless():
    """As at a marked boot, and on a wake before its configuration is read."""
    for kind in BOARDS:
        port, _ = make(hardware.World(), kind)
        port.feed()


def test_battery_is_read_at_the_start_and_remembered():
    """Before the radio draws on it; on a Pico W the pin is the Wi-Fi chip's afterwards."""
    for kind, pin in (("esp32", 34), ("rp2", 29), ("rp2", 26)):
        world = hardware.World()
        port, _ = make(world, kind, battery_pin=pin, battery_divider=3)
        assert (world.told("pin") == [(25, 1)]) is (pin == 29)
        world.volts = 0.1
        assert 4.19 <= port.battery() <= 4.21
        assert make(hardware.World(), kind)[0].battery() is None


def test_pin_that_the_board_lacks_is_an_error_of_the_configuration():
    """A change of it by a command is undone then."""
    for wrong in ({"battery_pin": 47}, {"led": "47"}):
        try:
            make(hardware.World(), "esp32", **wrong)
        except ConfigError as error:
            assert "battery_pin or led" in error.reason
        else:
            raise AssertionError(wrong)


def test_led_blinks_only_where_one_is_configured():
    """It costs more than sleep does."""
    for kind in BOARDS:
        world = hardware.World()
        make(world, kind)[0].blink(5)
        assert world.told("pin") == []
        make(world, kind, led="2")[0].blink(2)
        assert world.told("pin") == [(2, 1), (2, 0), (2, 1), (2, 0)]


class Answer:
    """A question that has been answered, or has not."""

    server = "10.0.0.1"

    def __init__(self, seconds):
        self.seconds = seconds
        self.closed = False

    def answer(self):
        return self.seconds

    def close(self):
        self.closed = True


def test_time_is_unknown_until_a_server_has_told_it():
    """A board's own count begins in 2000 or 2021: that is no time."""
    for kind in BOARDS:
        port, _ = make(hardware.World(), kind)
        assert (port.time(), port.clock()) == (None, None)
        port._question = Answer(None)
        assert (port.time(), port.clock()) == (None, None)
        port._question = question = Answer(1800000000)
        assert (port.time(), port.clock()) == (1800000000, "sntp")
        assert question.closed


def test_time_is_kept_over_sleep_on_esp32_and_estimated_on_pico():
    """And both say so: a command's expiry is judged by it."""
    for kind, name in (("esp32", "kept"), ("rp2", "estimated")):
        world = hardware.World()
        port, _ = make(world, kind)
        port._question = Answer(1800000000)
        end(port.sleep, 60000)
        world.seconds += 60  # as the clock that runs on, or boot.py, does it
        port, _ = make(world, kind)
        assert (port.time(), port.clock()) == (1800000060, name)


def test_time_is_unknown_after_a_loss_of_power():
    """The clock begins again, and stands before what was noted."""
    for kind in BOARDS:
        world = hardware.World()
        port, _ = make(world, kind)
        port._question = Answer(1800000000)
        end(port.sleep, 60000)
        world.seconds = 5
        port, _ = make(world, kind)
        assert (port.time(), port.clock()) == (None, None)


def test_lease_stays_when_the_clock_is_set():
    """Its age is what counts."""
    world = hardware.World()
    port, _ = make(world, "esp32")
    port.join(CONFIG, SECRETS, 20000)
    age = world.seconds - port.leased
    port._question = Answer(1800000000)
    port.time()
    assert world.seconds - port.leased == age


def test_pretended_date_is_no_time():
    """TLS compares certificates with it; nothing else may believe it, in this wake or another."""
    for kind in BOARDS:
        world = hardware.World()
        port, _ = make(world, kind)
        assert port.pretend((2026, 1, 1, 0, 0, 0, 900000, 0))
        assert (world.seconds, port.time(), port.clock()) == (900000, None, None)
        assert not port.pretend((2026, 1, 1, 0, 0, 0, 800000, 0))
        end(port.sleep, 1000)
        assert make(world, kind)[0].time() is None
        port._question = Answer(1800000000)
        assert port.time() == 1800000000
        assert not port.pretend((2026, 1, 1, 0, 0, 0, 1900000000, 0)), "the clock is known"


class Asked:
    """dormouse.ports.sntp, inside a `with`."""

    NAME = "dormouse.ports.sntp"

    def __init__(self, world):
        self.world = world
        self.Question = self.ask  # MicroPython imports no method

    def __enter__(self):
        self.before = sys.modules.get(self.NAME)
        sys.modules[self.NAME] = self  # type: ignore[assignment]

    def __exit__(self, *error):
        sys.modules.pop(self.NAME)
        if self.before:
            sys.modules[self.NAME] = self.before

    def ask(self, server):
        self.world.tell("ask", server)
        if server == "broken.example":
            raise OSError(-2)
        return Answer(None)


def test_time_is_asked_for_once_a_day_and_hourly_while_nobody_answers():
    """The name is looked up once; later questions go to the address that answered."""
    for kind in BOARDS:
        world = hardware.World()
        asked = []
        with Asked(world):
            for hours, seconds in ((0, None), (0.5, None), (0.6, None), (1.1, 1800000000), (5, None), (23, None)):
                world.seconds += int(hours * 3600)
                port, _ = make(world, kind)
                config = dict(CONFIG, clock="ntp")
                port.join(config, SECRETS, 20000)
                asked.append([server for (server,) in world.told("ask")])
                if port._question:
                    port._question.seconds = seconds
                    port.time()
                end(port.sleep, 1000)
            port, _ = make(world, kind)
            port.join(dict(CONFIG, clock="ntp", ntp="broken.example"), SECRETS, 20000)
            assert port.time() is not None, "a resolver that fails costs no wake"
        assert asked == [["time.example"], [], ["time.example"], ["time.example"], [], ["10.0.0.1"]], asked


def test_time_first_is_asked_for_at_each_wake_that_does_not_know_it():
    """Without it the wake can't connect: an hour's pause would be an hour's silence."""
    for kind in BOARDS:
        world = hardware.World()
        asked = []
        with Asked(world):
            for seconds in (None, None, 1800000000, None, None):
                world.seconds += 60
                port, _ = make(world, kind)
                port.join(dict(CONFIG, clock="first"), SECRETS, 20000)
                asked.append(len(world.told("ask")))
                if port._question:
                    port._question.seconds = seconds
                    port.time()
                end(port.sleep, 1000)
        assert asked == [1, 1, 1, 0, 0], asked


class Socket:
    """A datagram that has come."""

    def __init__(self, data):
        self.data = data

    def recv(self, size):
        if self.data is None:
            raise OSError(11)
        return self.data[:size]


def test_only_the_answer_to_this_question_from_a_server_in_step_counts():
    """Whoever sets a device's clock decides what has expired."""
    from dormouse.ports.sntp import Question

    nonce = os.urandom(8)
    seconds = 1800000000

    def answer(first=0x24, stratum=2, origin=nonce, stamp=seconds + 2208988800, size=48):
        head = bytes((first, stratum)) + bytes(22)
        return (head + origin + bytes(8) + pack(">I", stamp & 0xFFFFFFFF) + bytes(4))[:size]

    def judge(data):
        question = object.__new__(Question)
        question._nonce = nonce
        question._socket = Socket(data)  # type: ignore[assignment]
        return question.answer()

    assert judge(answer()) == seconds
    assert judge(answer(stamp=(2208988800 + 2100000000))) == 2100000000, "NTP's count begins again in 2036"
    for wrong in (None, b"", answer(size=47), answer(origin=bytes(8)), answer(first=0x23), answer(first=0xE4)):
        assert judge(wrong) is None
    assert judge(answer(stratum=0)) is None, "a kiss of death"
    assert judge(answer(stratum=16)) is None, "not synchronised"


def test_state_on_flash_is_forgotten_when_the_agent_has_come_to_sleep():
    """Failures to start are counted in a row."""
    world = hardware.World()
    port_class, boot, _ = hardware.boot(world, "esp32")
    port = port_class("timer", boot._well)
    with open("state/tries", "wb") as file:
        file.write(b"\x03")
    end(port.sleep, 1000)
    assert "tries" not in os.listdir("state")
