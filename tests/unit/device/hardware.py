"""A board's hardware as far as the ports' own logic needs it: time, pins, watchdog, radio, retained memory.

Must stay true: time moves by sleeping alone; what happened is written down in order; nothing here decides anything for
the ports. The ports on real interpreters with real flash and a serial port: tests/boards/test_ports_on_boards.py.
"""

import os
import sys
from array import array

from runner import folder

from dormouse.errors import ConfigError, LinkError

CONFIG = {
    "networks": [(b"home", b"abc")],
    "static": None,
    "lan": "",
    "dns": "",
    "battery_pin": -1,
    "battery_divider": 1,
    "led": "",
    "wake_pin": -1,
    "wake_level": 0,
    "clock": "none",
    "ntp": "time.example",
}
SECRETS = {"wifi_password": "abc"}  # which CONFIG has in `networks`


class Reset(Exception):
    """The board has been reset, or is in deep sleep."""


class World:
    """What a power cut does not touch: files, retained memory, the network's mood."""

    def __init__(self):
        self.place = folder()
        self.ms = 1000  # of this boot
        self.seconds = 1000  # what the board's clock shows
        self.cause = 1
        self.memory = b""
        self.words = array("I", (7, 8, 9))  # machine.mem_backup(1), where there is one
        self.has_words = False  # as before MicroPython 1.29
        self.longest = 8388  # ms; a Pico's watchdog
        self.events: list = []
        self.naps: list = []  # how long each light sleep lasts, where it is not as long as asked for
        self.interrupt = None  # ms at which somebody presses Ctrl-C
        self.levels: dict = {}
        self.volts = 1.4
        self.points = [(b"home", b"\x01" * 6, 6, -70, 3, False), (b"home", b"\x02" * 6, 11, -50, 3, False)]
        self.answers: list = ["ok"]  # of connect(): "ok", "slow" (no address), or a status; the last one stays
        self.address = ("192.168.1.7", "255.255.255.0", "192.168.1.1", "192.168.1.1")
        os.chdir(self.place)

    def registers(self):
        self.has_words = True

    def tell(self, *words):
        self.events.append(words)

    def told(self, name):
        return [words[1:] for words in self.events if words[0] == name]

    def later(self, ms):
        self.ms += int(ms)
        if self.interrupt is not None and self.ms >= self.interrupt:
            self.interrupt = None
            raise KeyboardInterrupt


class Time:
    """The module time."""

    def __init__(self, world):
        self.world = world

    def ticks_ms(self):
        return self.world.ms

    def ticks_add(self, a, b):
        return a + b

    def ticks_diff(self, a, b):
        return a - b

    def sleep_ms(self, ms):
        self.world.later(ms)

    def time(self):
        return self.world.seconds

    def gmtime(self, seconds):
        return (1970, 1, 1, 0, 0, seconds, 0, 1)  # nothing looks inside; mktime and datetime() undo it

    def mktime(self, parts):
        return parts[5]


class Pin:
    """machine.Pin."""

    IN, OUT, PULL_UP, PULL_DOWN = 0, 1, 2, 3
    world: "World"

    def __init__(self, number, mode=0, pull=None, value=None):
        if number == 47:
            raise ValueError("invalid pin")
        self.number = number
        if value is not None:
            self(value)

    def __call__(self, level=None):
        if level is None:
            return self.world.levels.get(self.number, 1)
        self.world.tell("pin", self.number, level)


class Adc:
    """machine.ADC of both boards."""

    ATTN_11DB = 3

    def __init__(self, pin):
        pass

    def atten(self, value):
        pass

    def read_uv(self):
        return int(Pin.world.volts * 1000000)

    def read_u16(self):
        return int(Pin.world.volts / 3.3 * 65535)


class Machine:
    """The module machine; a Pico W's lacks two causes."""

    PWRON_RESET, WDT_RESET = 1, 3
    Pin, ADC = Pin, Adc

    def __init__(self, world, kind):
        self.world = world
        self.kind = kind
        Pin.world = world
        self.timer = None
        self.Timer = Timers(self)
        if kind == "esp32":
            self.DEEPSLEEP_RESET, self.TIMER_WAKE = 4, 4
            self.reason = 4
        if world.has_words:
            self.mem_backup = self.region

    def reset_cause(self):
        return self.world.cause

    def wake_reason(self):
        return self.reason

    def reset(self):
        self.world.tell("reset")
        raise Reset

    def deepsleep(self, ms):
        self.world.tell("deepsleep", ms)
        raise Reset

    def lightsleep(self, ms):
        if ms >= (1 << 32) // 1000:
            raise ValueError("sleep too long")
        self.world.tell("lightsleep", ms, os.listdir("state") if "state" in os.listdir() else [])
        self.world.later(self.world.naps.pop(0) if self.world.naps else ms)

    def RTC(self):
        return self

    def memory(self, data=None):
        if data is None:
            return self.world.memory
        self.world.memory = bytes(data)

    def region(self, number):
        if self.kind == "esp32" or number != 1:
            raise ValueError("invalid region")
        return memoryview(self.world.words)

    def datetime(self, parts):
        self.world.seconds = parts[6]  # seconds stand where gmtime put them

    def WDT(self, timeout):
        if self.kind == "rp2" and timeout > self.world.longest:
            raise ValueError("timeout exceeds %d" % self.world.longest)
        self.world.tell("watchdog", timeout)
        return self

    def feed(self):
        self.world.tell("feed")


class Timers:
    """machine.Timer: the last callback is the machine's `timer`."""

    PERIODIC = 1

    def __init__(self, machine):
        self.machine = machine

    def __call__(self, number, mode, period, callback):
        self.machine.timer = callback
        return self


class Stations:
    """network.WLAN."""

    PM_NONE = 0

    def __init__(self, network):
        self.network = network

    def __call__(self, interface):
        return self.network


class Network:
    """The module network and its one station."""

    STA_IF, PM_NONE, SEC_WPA2_WPA3 = 0, 0, 20971524

    def __init__(self, world, kind):
        self.world = world
        self.kind = kind
        self.up = False
        self.state = None
        self.since = 0
        self.WLAN = Stations(self)
        self.STAT_IDLE, self.STAT_NO_AP_FOUND = (0, -2) if kind == "rp2" else (1000, 201)

    def active(self, on):
        self.world.tell("radio", on)

    def config(self, **settings):
        pass

    def isconnected(self):
        return self.up

    def status(self, what=None):
        if what == "rssi":
            if self.state not in ("slow", "ok") or self.world.ms - self.since < 100:
                raise OSError("not connected")
            return -60
        joining = 1 if self.kind == "rp2" else 1001
        slow = 2 if self.kind == "rp2" and self.world.ms - self.since > 100 else joining
        names: dict = {"ok": 3, "slow": slow}
        return names.get(self.state, self.state)

    def connect(self, ssid, key, **how):
        self.world.tell("connect", ssid, key, how)
        answers = self.world.answers
        self.since = self.world.ms  # associating takes a while
        self.state = answers.pop(0) if len(answers) > 1 else answers[0]
        self.up = self.state == "ok"

    def disconnect(self):
        self.up = False

    def scan(self):
        self.world.tell("scan")
        return self.world.points

    def ifconfig(self, parts=None):
        if parts is None:
            return self.world.address
        self.world.tell("static", tuple(parts))

    def ipconfig(self, **settings):
        for name in settings:
            self.world.tell("dhcp" if name == "dhcp4" else name, settings[name])


def boot(world, kind):
    """A boot of the board: the hardware is new, the ports are imported. Returns (port class, module boot, machine)."""
    world.events = []
    machine, network, time = Machine(world, kind), Network(world, kind), Time(world)
    if not hasattr(sys, "print_exception"):  # CPython
        sys.print_exception = print  # type: ignore[attr-defined]
    sys.modules["machine"], sys.modules["network"] = machine, network  # type: ignore[assignment]
    modules = {}
    for name in ("board", "radio", "boot", kind):
        full = "dormouse.ports." + name
        __import__(full)
        modules[name] = sys.modules[full]
        modules[name].machine = machine  # type: ignore[attr-defined]
        modules[name].network = network  # type: ignore[attr-defined]
        modules[name].time = time  # type: ignore[attr-defined]
    return modules[kind].Port, modules["boot"], machine


def wake(world, kind, config=CONFIG, end="sleep", deadline=20000):
    """One wake that joins. Returns the stage at which it failed, None where it did not."""
    port_class, _, _ = boot(world, kind)
    port = port_class("timer")
    port.start(config)
    stage = None
    try:
        port.join(config, SECRETS, deadline)
    except (ConfigError, LinkError) as error:
        stage = error.stage
        port.forget()
    took = port.ms()
    assert took <= deadline + 20, took
    try:
        getattr(port, end)(60000)
    except Reset:
        pass
    return stage


def both(check):
    """Run the check for each kind of board in a world of its own."""
    for kind in ("esp32", "rp2"):
        check(World(), kind)
