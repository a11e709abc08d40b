"""What `machine` has on every board: pins, ADC, clock, watchdog, resets. vb_esp32.py and vb_rp2.py make a module of it.

Must stay true: nothing here knows the agent; a level, a voltage or a radio state is the simulation's, asked for at
each use; a reset does not return.
"""

import sys

import vb_link as link
import vb_time as clock

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
facts = {}  # of this board and this boot: filled by vb_boot.py


def unique_id():
    return bytes(int(facts["uid"][i : i + 2], 16) for i in range(0, len(facts["uid"]), 2))


def reset_cause():
    return facts["cause"]


def reset():
    link.exit(link.RESET)


def soft_reset():
    raise SystemExit


def bootloader(*args):
    link.tell("bootloader")
    link.exit(link.RESET)


def idle():
    clock.sleep_ms(1)


def freq(*hz):
    if hz:
        facts["freq"] = int(hz[0])
        return None
    return facts["freq"]


def disable_irq():
    return 0


def enable_irq(state):
    pass


class Pin:
    """A pin by its number or, as the LED of a Pico W, by its name."""

    IN, OUT, OPEN_DRAIN = 0, 1, 2
    PULL_UP, PULL_DOWN = 1, 2
    IRQ_FALLING, IRQ_RISING = 4, 8

    def __init__(self, id, mode=-1, pull=-1, *, value=None):
        if isinstance(id, Pin):
            id = id._id
        if id not in facts["pins"]:
            raise ValueError("invalid pin" if facts["port"] == "esp32" else "unknown named pin")
        self._id = id
        self._mode = mode
        self._pull = pull
        if mode != -1 or pull not in (-1, None) or value is not None:
            self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        if mode != -1:
            self._mode = mode
        if pull != -1:
            self._pull = pull
        link.tell("mode", self._id, self._mode, 0 if self._pull in (-1, None) else self._pull)
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return link.ask("level", self._id)
        link.tell("drive", self._id, 1 if level else 0)

    def __call__(self, level=None):
        return self.value(level)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(not self.value())

    def irq(self, handler=None, trigger=12):
        link.tell("irq", self._id, trigger if handler else 0)

    def __repr__(self):
        return "Pin(%s)" % (self._id,)


class WDT:
    """The simulation holds the timer, so it goes on over a soft reset as in the chip."""

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError("WDT(%d) doesn't exist" % id)
        limit = facts["watchdog"]
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        if limit and timeout > limit:
            raise ValueError("timeout exceeds %d" % limit)
        link.tell("watchdog", timeout)

    def feed(self):
        link.tell("feed")


class Timer:
    """A timer whose callback is called between two steps of the program, as a soft one is."""

    ONE_SHOT, PERIODIC = 0, 1

    def __init__(self, id=-1, **how):
        if how:
            self.init(**how)

    def init(self, *, mode=PERIODIC, freq=-1, period=-1, callback=None, tick_hz=1000, hard=False):
        self.deinit()
        self._mode = mode
        self._period = 1000 // freq if freq > 0 else period * 1000 // tick_hz
        self._callback = callback
        clock._timers.append([clock.ticks_add(clock.ticks_ms(), self._period), self])

    def deinit(self):
        clock._timers[:] = [entry for entry in clock._timers if entry[1] is not self]

    def _fire(self, entry):
        if self._mode == self.ONE_SHOT:
            clock._timers.remove(entry)
        else:
            entry[0] = clock.ticks_add(clock.ticks_ms(), self._period)
        if self._callback:
            try:
                self._callback(self)
            except BaseException as e:  # as from any callback: printed, and the program goes on
                sys.print_exception(e)


class Clock:
    """RTC().datetime(), as every board has it."""

    def datetime(self, parts=None):
        if parts is None:
            now = clock.gmtime()
            return (now[0], now[1], now[2], now[6], now[3], now[4], now[5], clock.time_ns() % 1000000000 // 1000)
        seconds = clock.mktime((parts[0], parts[1], parts[2], parts[4], parts[5], parts[6]))
        clock._shift += seconds - clock.time()
        link.tell("clock", clock._shift)


def light_sleep(ms):
    """Until the time is over or a pin woke the board; the simulation lets it pass faster. Returns ms slept."""
    slept, gone = link.ask_whole("lightsleep", ms)
    clock._skip(slept - gone)
    link.interrupt()
    return slept
