"""Linux and macOS, under CPython and under MicroPython's unix port: one process is one wake.

Must stay true: what a board does is done here as well as a process can; umqtt.simple, written for MicroPython,
finds the module names that it imports.

    python -m dormouse.ports.posix DIR        one wake of the device whose files lie in DIR; exit 0, 1 or 2
"""

import gc
import os
import sys
import time

from dormouse.errors import ConfigError
from dormouse.guard import Slots
from dormouse.ports.storage import Storage, absolute
from dormouse.protocol import TRIAL

if sys.implementation.name == "cpython":
    import binascii
    import socket
    import struct
    import traceback

    from dormouse.ports import cpython_tls

    for _alias, _module in (("usocket", socket), ("ustruct", struct), ("ubinascii", binascii), ("tls", cpython_tls)):
        sys.modules.setdefault(_alias, _module)

    def _print_exception(error, file):
        traceback.print_exception(error, file=file, chain=False)

    setattr(sys, "print_exception", _print_exception)  # noqa: B010 (mypy knows no such attribute)

    def _now():
        return time.monotonic_ns() // 1000000

    def _passed(since):
        return _now() - since

    def _environment(name):
        return os.environ.get(name)

else:
    _now = time.ticks_ms
    _environment = os.getenv

    def _passed(since):
        return time.ticks_diff(time.ticks_ms(), since)


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


class Port:
    """The device whose configuration, app and state lie in `folder`; the program may lie in one of its slots."""

    slots = None

    def __init__(self, folder=".", slots=None):
        self._boot = _now()
        self._folder = absolute(folder)
        self.slots = slots
        self.storage = Storage(self._folder + "/state")

    def config(self):
        return _read(self._folder + "/config.json"), _read(self._folder + "/secrets.json")

    def file(self, name):
        return _read(self._folder + "/" + name)

    def ms(self):
        return _passed(self._boot)

    def pause(self, ms):
        time.sleep(ms / 1000)

    def time(self):
        return int(time.time())

    def pretend(self, when):
        return False  # a machine's clock is set, and not by us

    def shaking(self, begins):
        pass

    def random(self, n):
        return os.urandom(n)

    def cause(self):
        if self.slots and (self.slots.went_back or self.slots.phase == TRIAL):
            return "reset"
        return _environment("DORMOUSE_CAUSE") or "power"

    def start(self, config):
        pass

    def join(self, config, secrets, deadline):
        pass  # the machine's own network is up or is not: connecting tells

    def forget(self):
        pass

    def clock(self):
        return "kept"

    def rssi(self):
        return None

    def battery(self):
        return None

    def arm(self, ms):
        pass  # whoever started the process watches it

    def feed(self):
        pass

    def blink(self, times):
        pass

    def free(self):
        gc.collect()
        return gc.mem_free() if hasattr(gc, "mem_free") else None

    def firmware(self):
        name, version = sys.implementation.name, sys.implementation.version
        return "%s %d.%d.%d" % (name, version[0], version[1], version[2])

    def emit(self, line):
        print(line)
        if hasattr(sys.stdout, "flush"):
            sys.stdout.flush()

    def reset(self):
        pass  # the process ends, as before sleep

    def sleep(self, ms):
        pass  # the process ends, and whoever started it starts the next wake


def main(folder):
    """One wake; the process's exit code: 0 finished, 1 the network or the broker, 2 the configuration."""
    from dormouse.agent import Agent

    try:
        os.stat(folder + "/.")
    except OSError:
        sys.stderr.write("dormouse: %s: no such folder: expected the one with config.json and app.py\n" % folder)
        return 2
    sys.path.insert(0, folder)
    if hasattr(os, "umask"):
        os.umask(0o077)  # the state has a copy of secrets.json
    slots = Slots(folder + "/", _environment("DORMOUSE_CAUSE") == "watchdog")
    failure = Agent(Port(folder, slots)).run("app")
    if failure is None:
        return 0
    return 2 if isinstance(failure, ConfigError) else 1


def _leave(code):
    """End the process, whatever threads or functions for its end the program has left behind."""
    if hasattr(os, "_exit"):
        try:
            sys.stdout.flush()
        except Exception:
            pass  # the program has closed it
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main(sys.argv[1] if len(sys.argv) > 1 else "."))
