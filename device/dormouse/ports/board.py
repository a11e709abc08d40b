"""What the ports of boards share: what is kept over sleep, clock, battery, LED, and the Radio that joins the network.

Must stay true: the battery is read before the radio starts, and the radio is off before sleep; what is found in
retained memory or on flash is used only with its checksum, and given up as soon as it proves wrong.
"""

import gc
import os
import struct
import sys
import time

import machine

from dormouse.errors import ConfigError, LinkError, StorageError

_DAY = 86400  # s between two questions for the time
_HOUR = 3600  # s after one that got no answer
_FORMAT = "<BI6sB16sIII4s"
_VERSION = 1
_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0  # Unix seconds at which this board's clock begins


class Board:
    """The contract in ports/__init__.py, but for `arm`, `sleep`, and what differs between radios and pins.

    A subclass sets what stands here first, and supplies `tune()`, `associated(status)` and `volts(pin)`.
    """

    failed = 0  # a status below it tells why joining has failed
    passwords: tuple = ()  # those that a wrong password may have caused
    channels = False  # does connect() take a channel, and have to be told of WPA3?
    enterprise: tuple = ()  # what a scan says of networks that want a user's name
    kept = "kept"  # what a clock that was set in an earlier wake is

    def __init__(self, cause, on_healthy, slots, mark, storage):
        self._boot = time.ticks_ms()
        self._top = os.getcwd()  # as the program may change it
        self._cause = cause
        self._on_healthy = on_healthy  # called when the wake has come as far as its end; None: nobody asks
        self.slots = slots
        self.storage = storage
        self._mark = mark
        self._config = self._volts = self._led = self.wlan = self._question = self._watchdog = None
        self._answered = False  # has a time server, in this wake?
        self._saved = mark.load()
        values = (_VERSION, 0, b"", 0, b"", 0, 0, 0, b"")
        if self._saved and len(self._saved) == struct.calcsize(_FORMAT) and self._saved[0] == _VERSION:
            values = struct.unpack(_FORMAT, self._saved)
        self.net, self.bssid, self.channel, self.lan, self.leased, self._set, self._due, self._server = values[1:]

    def _save(self):
        known = (self.net, self.bssid, self.channel, self.lan, self.leased, self._set, self._due, self._server)
        data = struct.pack(_FORMAT, _VERSION, *known)
        if data != self._saved:
            self._saved = data
            try:
                self._mark.save(data)
            except StorageError:
                pass  # it costs the next wake a scan

    def start(self, config):
        self._config = config
        pin, led = int(config["battery_pin"]), config["led"]
        try:
            if pin >= 0:
                self._volts = round(self.volts(pin) * config["battery_divider"], 2)
            if led:
                self._led = machine.Pin(int(led) if led.isdigit() else led, machine.Pin.OUT)
        except (OSError, ValueError) as e:
            raise ConfigError("config: battery_pin or led: %s" % e, "start")

    def config(self):
        return self.file("config.json"), self.file("secrets.json")

    def file(self, name):
        try:
            with open(self._top + "/" + name, "rb") as file:
                return file.read()
        except OSError:
            return None

    def volts(self, pin):
        """Volts at an ADC pin."""
        return 0

    def ms(self):
        return time.ticks_diff(time.ticks_ms(), self._boot)

    def pause(self, ms):
        time.sleep_ms(int(ms))

    def shaking(self, begins):
        self.feed()

    def random(self, n):
        return os.urandom(n)

    def cause(self):
        return self._cause

    def battery(self):
        return self._volts

    def rssi(self):
        try:
            return self.wlan.status("rssi") if self.wlan else None
        except OSError:
            return None  # not connected

    def feed(self):
        if self._watchdog:
            self._watchdog.feed()

    def free(self):
        gc.collect()
        return gc.mem_free()

    def firmware(self):
        build = getattr(sys.implementation, "_build", sys.platform)
        return "%s %d.%d.%d" % ((build,) + sys.implementation.version[:3])

    def emit(self, line):
        print(line)

    def blink(self, times):
        for level in (1, 0) * times if self._led else ():
            self._led(level)
            time.sleep_ms(100)

    def reset(self):
        self._end()
        machine.reset()

    def _end(self):
        """What comes before reset and sleep: nothing after it may need the radio."""
        self.time()
        self._save()
        if self.wlan:
            self.off()
        if self._on_healthy:
            self._on_healthy()

    # ---- the network

    def join(self, config, secrets, deadline):
        if not self.wlan or not self.wlan.isconnected():  # what the program has joined is none of ours
            try:
                self.way(config)(self, config, deadline)
            except (OSError, RuntimeError) as e:
                raise LinkError(str(e), "join")
            finally:
                self._save()
            self._ask(config)

    def way(self, config):
        """What joins the network, and sets `wlan`."""
        from dormouse.ports.radio import join

        return join

    def off(self):
        """Switch the radio off."""
        try:
            self.wlan.disconnect()
            self.wlan.active(False)
        except OSError:
            pass  # not connected, or not started

    def forget(self):
        self.leased = 0

    def packed(self, address):
        """An IPv4 address as four bytes."""
        return bytes([int(part) for part in address.split(".")])

    def dotted(self, address):
        """Four bytes as an IPv4 address."""
        return ".".join([str(part) for part in address])

    # ---- the clock

    def time(self):
        seconds = self._question and self._question.answer()
        if seconds:
            self._turn(seconds - _EPOCH)
            self._set, self._due, self._answered = seconds - _EPOCH, seconds - _EPOCH + _DAY, True
            self._server = self.packed(self._question.server or "0.0.0.0")
            self._question.close()
            self._question = None
        now = int(time.time())
        return now + _EPOCH if 0 < self._set <= now else None

    def clock(self):
        if self.time() is None:
            return None
        return "sntp" if self._answered else self.kept

    def pretend(self, when):
        seconds = time.mktime((when[0], when[1], when[2], when[4], when[5], when[6], 0, 0, 0))
        if self.time() is not None or seconds <= time.time():
            return False
        self._turn(seconds)
        return True

    def _turn(self, seconds):
        """Set the clock to `seconds` of its own count."""
        by = seconds - int(time.time())
        self.leased = self.leased and max(0, self.leased + by)
        self._due = max(0, self._due + by)
        self._set = 0
        t = time.gmtime(seconds)
        machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))

    def _ask(self, config):
        """Send the question for the time, where one is due: its answer comes beside the broker's."""
        now = int(time.time())
        due = not 0 < self._due - now <= _DAY or (config["clock"] == "first" and self.time() is None)
        if config["clock"] == "none" or self._question or not due:
            return
        from dormouse.ports.sntp import Question

        server = self.dotted(self._server) if any(self._server) else config["ntp"]
        self._due, self._server = now + _HOUR, b""  # until it has answered
        try:
            self._question = Question(server)
        except (OSError, IndexError):
            pass  # no time in this wake
