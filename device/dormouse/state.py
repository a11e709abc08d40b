"""What a device remembers from one wake to the next, in one small checksummed file.

Must stay true: the file is whole or absent, never half; "a wake has begun" is on flash before the network is
touched; a client id that changed is refused, since a new id is a new and empty session at the broker.
"""

import struct

from dormouse.errors import ConfigError
from dormouse.journal import Mark

_FORMAT = "<BIBBBbBIIIIIIBBHHH5H"
_HEAD = struct.calcsize(_FORMAT)
_VERSION = 1
_ALONE, _PRESENT, _DRAINED = 1, 2, 4
_REFUSED = 3  # bits below those of `refused`

FENCE_NEW, FENCE_WORKS, FENCE_DEAD = 0, 1, -1
ENDINGS = ("finished", "LinkError", "ProtocolError", "StorageError", "ConfigError", "DormouseError", "cut off")
PHASES = ("boot", "join", "connect", "drain", "confirm")
JITTER = 0.05  # of an interval, either way: a fleet that was powered on together must not stay together
CAP = 21600  # s; the longest backoff, unless the interval itself is longer
STRETCH = 4  # times the interval, below the battery floor


class State:
    """Numbers kept over sleep and power cuts. `save` writes them; nothing is written behind the caller's back."""

    def __init__(self, storage):
        self._mark = Mark(storage, "wake")
        self.wake = 0  # number of this wake
        self.failures = 0  # wakes in a row that could not finish for the network's or the broker's sake
        self.unfinished = 0  # wakes in a row that began and did not end; 16 times those since power was last away
        self.cutoffs = 0  # connections in a row that were cut right after CONNACK
        self.fence = FENCE_NEW
        self.alone = False  # the next CONNECT goes alone, to learn why the last was refused
        self.present = self.drained = False  # of the last end record
        self.refused = 0  # payloads without a right signature in the last wake that went online, 31 at most
        self.ended = 0  # the wake that wrote it; 0: none yet
        self.acked = 0  # highest telemetry number that a PUBACK has covered
        self.clock = 0  # s, the device's own count at the planned end of its sleep
        self.next_connect = 0  # s of that count
        self.sampled = 0  # s of that count, of the last sample
        self.ms = 0  # of the last wake that went online: how long, and the rest
        self.ending = 0  # index into ENDINGS
        self.flights = 0
        self.up = self.down = 0  # bytes, 65535 at most
        self.erases = 0  # of flash
        self.phases = [0] * len(PHASES)  # in 10 ms
        self.plan = CAP  # s from this boot to the next connect; not kept
        self._since = 0  # ms since boot at which the running phase began
        self.device = None
        data = self._mark.load()
        if data and data[0] == _VERSION and len(data) > _HEAD:
            self._take(struct.unpack(_FORMAT, data[:_HEAD]))
            try:
                self.device = bytes(data[_HEAD:]).decode()
            except UnicodeError:
                pass  # not what this agent writes

    def _take(self, values):
        self.wake, self.failures, self.unfinished, self.cutoffs, self.fence, flags = values[1:7]
        self.ended, self.acked, self.clock, self.next_connect, self.sampled, self.ms = values[7:13]
        self.ending, self.flights, self.up, self.down, self.erases = values[13:18]
        self.phases = list(values[18:])
        self.alone, self.present, self.drained = bool(flags & _ALONE), bool(flags & _PRESENT), bool(flags & _DRAINED)
        self.refused = flags >> _REFUSED
        if self.ending >= len(ENDINGS):
            self.ending = 0

    def begin(self, device, powered):
        """A wake has begun, `powered`: since power came back, which is what ended those before. Returns True where the
        one before never ended. ConfigError for another client id.
        """
        if self.device not in (None, device):
            raise ConfigError(
                "the client id changed from %s to %s: restore it, or delete the state folder" % (self.device, device)
            )
        self.device = device
        self.wake += 1
        broken = self.unfinished > 0
        if broken:
            self.ending = len(ENDINGS) - 1
        alone = 0 if powered else self.unfinished >> 4
        self.unfinished = min((self.unfinished & 15) + 1, 15) | min(alone + 1, 15) << 4
        self.save()
        return broken

    def phase(self, name, ms):
        """This phase has ended, so many milliseconds after the boot."""
        self.phases[PHASES.index(name)] = (ms - self._since) // 10
        self._since = ms

    def save(self):
        """Write everything; on flash when this returns."""
        flags = (
            _ALONE * self.alone | _PRESENT * self.present | _DRAINED * self.drained | min(self.refused, 31) << _REFUSED
        )
        numbers = (_VERSION, self.wake, self.failures, self.unfinished, min(self.cutoffs, 255), self.fence, flags)
        numbers += (self.ended, self.acked, self.clock, self.next_connect, self.sampled, self.ms)
        numbers += (self.ending, min(self.flights, 255))
        words = [self.up, self.down, self.erases]
        words += self.phases
        numbers += tuple(min(word, 65535) for word in words)
        self._mark.save(struct.pack(_FORMAT, *numbers) + self.device.encode())


def connect_in(config, failures, volts, byte):
    """Seconds until the next connect after `failures` wakes in a row that failed; `byte` is a random 0..255.

    Doubled for each failure and capped; stretched where `volts` (None: not known) is below `battery_floor`.
    """
    every = config["connect_every"]
    if volts is not None and volts < config["battery_floor"]:
        every *= STRETCH
    seconds = min(max(every, CAP), every * (1 << min(failures, 16)))
    return max(1, int(seconds * (1 + JITTER * (byte - 127.5) / 127.5)))


def sleep_for(config, now, next_connect):
    """Seconds to sleep, at `now` of the device's own count: until the next sample or the next connect."""
    left = max(1, int(next_connect - now))
    every = config["sample_every"]
    return max(1, int(min(left, every))) if every else left


def due(every, now, before):
    """Is a reading that is taken once in `every` seconds due at `now`, the last sample having been at `before`?

    The device's own count is divided into periods of that length, and the first sample in each takes the reading.
    """
    return not every or not before or now // every > before // every
