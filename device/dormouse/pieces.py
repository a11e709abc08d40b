"""The pieces of the program that run before the network is reached: its import, `safe_state`, and each reading.

Must stay true: before a piece runs, its name is on flash. One that a wake hung in, or was reset in, is left out until
its next try, whatever the program is, so that no program keeps its device from the next connection. What the program
leaves behind (a timer, a full heap, no socket) breaks the wake later, when no piece runs: after two wakes in a row that
ended so, its import is left out. (What a handler does to a wake is the inbox's to know.)

Files in the agent's folder: `piece`, a mark with the name of the one that runs, empty while none does; `skips`, JSON:
name -> [wakes in a row that it has broken, its next try in seconds of the device's own count]. A flash removes it.
"""

from dormouse.codec import encode, load
from dormouse.errors import DormouseError, StorageError
from dormouse.journal import Mark

_FIRST = 3600  # s until the next try; doubled for each further wake that the piece has cut off
_DOUBLED = 5  # times, at most
_NAME = 30  # characters of a name: a mark is short
_MOST = 16  # pieces that are left out at once


class Pieces:
    """`now` in seconds of the device's own count; `broken`: the wake before was cut off, and not by its power."""

    def __init__(self, storage, now, broken):
        self._storage = storage
        self._now = now
        self._mark = Mark(storage, "piece")
        try:
            self._skips = load(storage.read("skips"), "skips")
            for times, again in self._skips.values():
                times - again
        except (DormouseError, TypeError, ValueError):  # flash was damaged
            self._skips = {}
        self._tried = []  # names of those that get a new try
        name = self._mark.load()
        if name:
            self._mark.save(b"")
        if broken:
            self.blame(name.decode() if name else None)

    def blame(self, name=None):
        """This piece has broken a wake; None: the wake broke after all of them, for the second time in a row by what
        the program has left behind.
        """
        key = name or "import"
        times, again = self._skips.get(key, (0, 0))
        if not name and again - self._now > 0:
            return  # the program has not run
        if len(self._skips) >= _MOST:
            self._skips = {}
        wait = _FIRST << min(times, _DOUBLED) if name or times else 0
        self._skips[key] = (times + 1, self._now + wait)
        self._tried = []  # this wake forgives nothing
        self._keep()

    def _keep(self):
        try:
            self._storage.replace("skips", encode(self._skips))
        except StorageError:
            pass  # flash is full or broken: the wake ends as it would have

    def skipped(self, name):
        """Why this piece is left out, or None: then it counts as running, until the next one or `end`."""
        name = name[:_NAME]
        times, again = self._skips.get(name, (0, 0))
        if 0 < again - self._now <= _FIRST << _DOUBLED:  # farther away: the count has begun anew
            return "%s left out: cut off %d times" % (name, times)
        if times:
            self._tried.append(name)
        self._mark.save(name.encode())
        return None

    def end(self):
        """None runs any more."""
        self._mark.save(b"")

    def forgive(self, names=None):
        """The wake went well: those that were tried again are as any other; or these, which were not at fault."""
        forgiven = [self._skips.pop(name, 0) for name in names or self._tried]
        if any(forgiven):
            self._keep()
