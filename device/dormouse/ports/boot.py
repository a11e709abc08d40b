"""The start of every boot on a board: the owner comes first, then sleep that is still owed, then the agent.

Must stay true: whatever the agent, its configuration or the app do, somebody at the serial port gets the prompt, with
no watchdog running under it. Nothing is loaded here that the agent's own faults could break; every wait ends by
itself and ends at once with Ctrl-C. (Why no state locks anybody out: docs/design.md, "Never locked out".) With
guard.py it is flashed outside the slots, as /guard.mpy, which no update changes.
"""

import os
import sys
import time
from binascii import crc32
from struct import unpack

import machine

from dormouse.guard import Slots
from dormouse.protocol import TRIAL

_PROMPT = "prompt"  # b"0": Ctrl-C asked for the prompt; b"1": somebody has had it
_TRIES = "tries"  # one byte: boots in a row in which the agent could not even start
_RELEASE = "dormouse"  # the package in the slot that was chosen, of whatever version
_WHY = "why"  # the last error with which a release in a slot could not start
_SLEEP = "sleep"  # Pico W: the sleep that this boot begins with, a mark of <II: ms, and time.time() before it;
# with MicroPython 1.29 it is in the chip's registers instead
_WINDOW = 3  # s, after power-on and reset
_MAINTENANCE = 600  # s, after Ctrl-C or with the hold pin
_RETRIES = 4
_CHUNK = 4200000  # ms: rp2 sleeps 2**32 microseconds at most
_LOOK = 1000  # ms between two looks at the wake pin, where light sleep does not see it


def run(app):
    """One boot of a board: `dormouse.run` there. Returns only to leave the prompt."""
    try:
        cause = _before()
        if cause:
            slots = Slots(os.getcwd().rstrip("/") + "/", cause == "watchdog")
            if slots.went_back or slots.phase == TRIAL:
                cause = "reset"  # what the release that is left has come to is no reason to wait, nor is its plan
            try:
                __import__(_RELEASE).start(app, cause, _well, slots)
            except (Exception, SystemExit) as e:  # what it can't catch itself: that it can't be loaded or made
                _failed(e, slots)
    except KeyboardInterrupt:
        _write(_PROMPT, b"0")
        machine.reset()  # because nothing else stops a Pico's watchdog; the next boot waits for that person


def _before():
    """What comes before the agent. Returns the cause of this boot, or None to leave the prompt."""
    cause = _cause()
    asked = _take(_PROMPT)
    nap = _plan()
    if asked:
        cause = "reset"
    elif nap and cause == "watchdog":
        cause = _sleep(nap)
    tries = _read(_TRIES)
    if tries and cause == "power":
        _take(_TRIES)
    elif tries and tries[0] > _RETRIES:
        _take(_TRIES)
        return _leave("the agent does not start")
    seconds = _WINDOW if cause in ("power", "reset") else 0
    if asked == b"0" or _held():
        seconds = _MAINTENANCE
    return cause if _wait(seconds) else _leave("Ctrl-C")


def _failed(e, slots):
    """The agent did not start: count it, wait for its owner, and boot again; at the second time in the other slot."""
    sys.print_exception(e)
    count = (_read(_TRIES) or b"\0")[0] + 1
    if slots.slot:
        _write(_WHY, ("%s: %s" % (type(e).__name__, e))[:120].encode())
        if count > 1 and slots.phase != TRIAL:
            slots.back()
    if not _write(_TRIES, bytes((count,))):
        count = _RETRIES  # flash is full or broken: the longest pause, for ever
    if count <= _RETRIES and not _wait(5 << 2 * (count - 1)):
        raise KeyboardInterrupt
    machine.reset()


def _well():
    """The agent has come as far as sleep: forget earlier failures to start."""
    _take(_TRIES)


def _leave(why):
    """Leave the prompt; the reset after it is that person's."""
    _write(_PROMPT, b"1")
    print('dormouse %d prompt {"why":"%s"}' % (time.ticks_ms(), why))


def _wait(seconds):
    """False where Ctrl-C ended it."""
    if not seconds:
        return True
    try:
        start = time.ticks_ms()
        print('dormouse %d window {"s":%d}' % (start, seconds))
        while time.ticks_diff(time.ticks_ms(), start) < 1000 * seconds:
            time.sleep_ms(20)
    except KeyboardInterrupt:
        return False
    return True


def _cause():
    cause = machine.reset_cause()
    if cause == machine.PWRON_RESET:
        return "power"
    if cause == machine.WDT_RESET:
        return "watchdog"
    if cause == getattr(machine, "DEEPSLEEP_RESET", None):
        return "timer" if getattr(machine, "wake_reason")() in (0, getattr(machine, "TIMER_WAKE")) else "pin"  # noqa: B009
    return "reset"


def _config():
    """config.json, or nothing where it can't be read."""
    import json

    try:
        with open("config.json") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return {}


def _pin(config, key):
    """The level of an input that config.json names, None where it names none. It idles at the other level."""
    level = config.get("wake_level", 0) if key == "wake_pin" else 0
    try:
        pull = machine.Pin.PULL_DOWN if level else machine.Pin.PULL_UP
        number = config.get(key, -1)
        return None if number < 0 else machine.Pin(number, machine.Pin.IN, pull)() == level
    except (TypeError, ValueError):
        return None


def _held():
    return _pin(_config(), "hold_pin")


def _plan():
    """The sleep that the boot before planned, and it is gone; None or what does not hold where there is none."""
    nap = _take(_SLEEP)
    try:
        words = getattr(machine, "mem_backup")(1)  # noqa: B009
        nap = nap or bytes(words)
        words[0] = words[1] = words[2] = 0
    except (AttributeError, ValueError):
        pass  # older MicroPython, or an ESP32, which has one region and needs no plan
    return nap


def _sleep(nap):
    """Sleep what the boot before planned, then set the clock on by as much. Returns the cause of the waking."""
    if len(nap) != 12:
        return "watchdog"
    crc, ms, clock = unpack("<III", nap)
    if crc != crc32(nap[4:], 77):
        return "watchdog"
    config = _config()
    watched = _pin(config, "wake_pin") is not None
    cause = "timer"
    left, before = ms, time.ticks_ms()
    while left > 0:
        machine.lightsleep(min(left, _LOOK if watched else _CHUNK))
        now = time.ticks_ms()
        left -= time.ticks_diff(now, before)
        before = now
        if watched and _pin(config, "wake_pin"):
            cause = "pin"
            break
    t = time.gmtime(clock + (ms - left) // 1000)
    machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))
    return cause


def _read(name):
    try:
        with open("state/" + name, "rb") as file:
            return file.read(16)
    except OSError:
        return None


def _take(name):
    """The file's content, and the file is gone; None where there is none."""
    data = _read(name)
    if data is not None:
        try:
            os.remove("state/" + name)
        except OSError:
            pass  # broken flash: found again at the next boot, which does what it says once more
    return data


def _write(name, data):
    try:
        os.mkdir("state")
    except OSError:
        pass  # it is there
    try:
        with open("state/" + name, "wb") as file:
            file.write(data)
        return True
    except OSError:
        return False
