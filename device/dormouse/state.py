"""What a device remembers from one wake to the next, in one small checksummed file.

Must stay true: the file is whole or absent, never half; "a wake has begun" is on flash before the network is
touched; a client id that changed is refused, since a new id is a new and empty session at the broker.
"""

import struct

from dormouse.errors import ConfigError
from dormouse.journal import Mark

_FORMAT = "<BIBBBbB"  # version, wake, failures, unfinished, cut-offs, fence, flags; then the client id
_HEAD = struct.calcsize(_FORMAT)
_VERSION = 1
_ALONE = 1

FENCE_NEW, FENCE_WORKS, FENCE_DEAD = 0, 1, -1


class State:
    """Numbers kept over sleep and power cuts. `save` writes them; nothing is written behind the caller's back."""

    def __init__(self, storage):
        self._mark = Mark(storage, "wake")
        self.wake = 0  # number of this wake
        self.failures = 0  # wakes in a row that could not finish for the network's or the broker's sake
        self.unfinished = 0  # wakes in a row that began and did not end
        self.cutoffs = 0  # connections in a row that were cut right after CONNACK
        self.fence = FENCE_NEW
        self.alone = False  # the next CONNECT goes alone, to learn why the last was refused
        self.device = None
        data = self._mark.load()
        if data and data[0] == _VERSION:
            values = struct.unpack(_FORMAT, data[:_HEAD])
            _, self.wake, self.failures, self.unfinished, self.cutoffs, self.fence, flags = values
            self.alone = bool(flags & _ALONE)
            self.device = bytes(data[_HEAD:]).decode()

    def begin(self, device):
        """A wake has begun. Returns True where the one before never ended. ConfigError for another client id."""
        if self.device not in (None, device):
            raise ConfigError(
                "the client id changed from %s to %s: a new id is a new, empty session at the broker, and what waits"
                " for the old one is not delivered; restore id, or delete the state folder" % (self.device, device)
            )
        self.device = device
        self.wake += 1
        self.unfinished = min(self.unfinished + 1, 255)
        self.save()
        return self.unfinished > 1

    def end(self, failed):
        """The wake ended on its own accord; `failed` where network or broker kept it from finishing."""
        self.unfinished = 0
        self.failures = min(self.failures + 1, 255) if failed else 0
        self.save()

    def save(self):
        head = (_VERSION, self.wake, self.failures, self.unfinished, self.cutoffs, self.fence, int(self.alone))
        self._mark.save(struct.pack(_FORMAT, *head) + self.device.encode())
