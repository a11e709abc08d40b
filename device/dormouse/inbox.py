"""Commands from acceptance to their end: journalled, run, settled, answered.

Must stay true: every change is a record in the journal, and what lies in RAM is what replaying the journal gives;
nothing is acknowledged, started or answered before the record it rests on is on flash. `started` is on flash before
a handler, `done` after it; found started at the next boot, a repeatable command runs again, at most three times,
and any other is interrupted. Formats and the argument, state by state: docs/design.md.

The life of a command: what is known of its number decides what becomes of what comes (admit.py, runner.py).

    known    | what comes or happens        | becomes  | on flash first | the device says
    new      | a command                    | accepted | ACCEPT         |
    new      | a command that it can't take | done     | SEEN           | rejected
    new      | a tombstone                  | done     | SEEN           | cancelled
    accepted | a command                    | accepted |                |
    accepted | a tombstone                  | done     | DONE           | cancelled
    accepted | its turn                     | started  | the mark       |
    accepted | its turn, overdue            | done     | DONE           | expired
    accepted | its turn, unknown by now     | done     | DONE           | rejected
    started  | a command                    | started  |                |
    started  | a tombstone                  | started  |                | running
    started  | its handler returns          | done     | mark or DONE   | succeeded
    started  | a boot                       | done     | DONE           | interrupted
    started  | a boot, repeatable           | started  |                |
    started  | the third boot, repeatable   | done     | DONE           | interrupted
    done     | a command                    | done     |                | succeeded
    done     | PUBACK of its result         | told     | TOLD, at last  |
    told     | a command, a tombstone       | done     |                | succeeded
    stale    | a command, a tombstone       | stale    |                | unknown
"""

import struct
from binascii import crc32, hexlify

from dormouse.codec import Command
from dormouse.errors import ProtocolError, StorageError
from dormouse.journal import Journal, Mark
from dormouse.protocol import INTERRUPTED
from dormouse.window import LONG, OPEN, STALE, Details, Window, code_of

ATTEMPTS = 3
UNNAMED = 255  # the index of commands without an id; their number only counts them
_LIMIT = 24576  # bytes of the journal, of which compaction leaves 21 KiB at most: windows, _SPACE and one payload more
_SPACE = 8192  # bytes of records of commands held at once
_GROUP = 3328  # bytes of records in one commit, if it is of more than one: 768 where a whole packet may follow
_PACKET = 2560  # bytes of records that one packet brings, or one command makes, where no longer payloads are configured
_RUN = "<BIBB"  # index, first number, how many, status code (or, of the one started, its attempt)
_RUN_SIZE = 7
_RUNS = 14  # of them beside the one started: what a mark holds
_FORGOTTEN = 16  # ledgers that can be forgotten
_ENTRY = "<BIH"  # index, number, bytes of the payload
_ENTRY_SIZE = 7
_CACHE = 640  # bytes of payloads that stand for what is kept in RAM: those of a small wake need not be read again
_RECORD = 8  # bytes of a record in the journal besides the payload

_STATE, _LEDGER, _FORGET, _ACCEPT, _SEEN, _DONE, _TOLD, _WINDOW, _VALUE = range(1, 10)  # kinds of record


class Inbox:
    """`find(name)` gives the Handler of a command or None. `limit`: commands held at once."""

    def __init__(self, storage, random, limit, find):
        self.limit, self.find = limit, find
        self.journal = Journal(storage, "cmd", _LIMIT)
        self.mark = Mark(storage, "work")
        self.state = None
        self.windows = []
        self.forgotten = []  # (index, name)
        self.indexes = 0  # indexes given out so far
        self.waiting = Waiting(self._accepted, limit)
        self.details = Details(self._rank)
        self.unnamed = self._added = 0
        self.started = None  # (index, number, attempt)
        self.broke = False  # has a handler broken the wake that ran it last?
        self.done = b""  # runs of what ended since the last commit
        self.untold = False  # does the journal hold a settled command that it does not know to be confirmed?
        for kind, data in self.journal.open():
            self._apply(kind, data)
        self.is_new = self.state is None
        if self.is_new:
            self.mark.save(b"")
            self._put(_STATE, hexlify(random(3)))
            self.commit()
        self._recover()

    @property
    def full(self):
        return len(self.waiting) >= self.limit or self.waiting.space >= _SPACE

    def window(self, index):
        """The window with this index, or None."""
        for w in self.windows:
            if w.index == index:
                return w

    # ---- the journal

    def commit(self):
        """Everything so far is on flash when this returns. The link calls it before it sends."""
        self.journal.commit()
        self._added = 0
        self.done = b""

    def _put(self, kind, data, head=None):
        size = len(data) + 3
        self.spare(size)
        self.journal.add(kind, data)
        self._apply(kind, data, head)
        self._added += size

    def spare(self, size=_PACKET):
        """Make room for so many bytes of records, where little is on the stack: a compaction takes much of it."""
        if self._added + size > _GROUP:
            self.commit()
        if size > self.journal.room():
            self.commit()
            self.waiting.let_go()  # compaction takes as much RAM
            self.journal.compact(self._snapshot())

    def _snapshot(self):
        yield _STATE, self.state.encode()
        yield _DONE, struct.pack("<BIB", UNNAMED, self.unnamed, 0)  # its number alone: the mark may still name old ones
        for index, name in self.forgotten:
            yield _FORGET, bytes((index,)) + name.encode()
        for w in self.windows:
            yield _LEDGER, bytes((w.index,)) + w.name.encode()
            for data in w.snapshot():
                yield _WINDOW, data
        for data in self.journal.records(_ACCEPT):
            if self.waiting.has(*struct.unpack_from("<BI", data)):
                yield _ACCEPT, data
        for index, number, detail in self.details:
            yield _VALUE, struct.pack("<BI", index, number) + detail

    def _apply(self, kind, data, head=None):
        """What a record means: the only place that changes windows and inbox. `head`: of one accepted in this wake."""
        if kind == _STATE:
            self.state = data.decode()
        elif kind in (_LEDGER, _FORGET):
            index, name = data[0], data[1:].decode()
            self.indexes = max(self.indexes, index + 1)
            if kind == _LEDGER:
                self.windows.append(Window(index, name))
            else:
                self.forgotten.append((index, name))
                self.windows = [w for w in self.windows if w.index != index]
                for i, number, _ in list(self.waiting):
                    if i == index:
                        self.waiting.remove(i, number)
                self.details.forget(index)
        elif kind == _WINDOW:
            self.window(data[0]).restore(data)
            self.untold = True
        elif kind == _TOLD:
            for w in self.windows:
                w.settle()
            self.untold = False
        else:
            index, number = struct.unpack_from("<BI", data)
            self._apply_command(kind, self.window(index), index, number, data, head)

    def _apply_command(self, kind, w, index, number, data, head):
        if index == UNNAMED:
            self.unnamed = max(self.unnamed, number)
        if kind == _ACCEPT:
            payload = data[5:]
            if w and w.code(number) == 0:
                w.mark(number, OPEN, head[4] if head else crc32(payload))
            self.waiting.add(index, number, len(payload), head or payload)
            return
        self.untold = True
        head = 5
        if kind == _SEEN:
            head = 10
            w.mark(number, data[5], struct.unpack_from("<I", data, 6)[0])
        elif kind == _DONE:
            head = 6
            self.waiting.remove(index, number)
            if w and w.code(number) != STALE:
                w.mark(number, data[5])
        detail = data[head:]
        if w and detail:
            self.details.keep(index, number, detail)

    def _accepted(self):
        """Every (index, number, payload) that the journal holds, in order."""
        for data in self.journal.records(_ACCEPT):
            index, number = struct.unpack_from("<BI", data)
            yield index, number, data[5:]

    # ---- what admit.py decides

    def new_ledger(self, name):
        """A window for a ledger that was never seen; the caller has made sure that there is room for one."""
        if self.indexes >= UNNAMED:
            raise StorageError("too many ledgers")
        self._put(_LEDGER, bytes((self.indexes,)) + name.encode())
        return self.windows[-1]

    def accept(self, w, number, payload, head):
        """A place in the inbox; `w` is None for a command without an id, `head` is Command.head's."""
        if w is None:
            number = self.unnamed + 1
        self._put(_ACCEPT, struct.pack("<BI", w.index if w else UNNAMED, number) + payload, head)

    def seen(self, w, number, status, crc, detail=b""):
        """A number that will never run has this final status."""
        self._put(_SEEN, struct.pack("<BIBI", w.index, number, code_of(status), crc) + detail)

    def forget(self, name):
        """Forget the ledger of this name for good. ProtocolError where that can't be."""
        for w in self.windows:
            if w.name == name:
                if len(self.forgotten) >= _FORGOTTEN:
                    raise ProtocolError("%d ledgers are forgotten already" % _FORGOTTEN)
                self._put(_FORGET, bytes((w.index,)) + name.encode())
                return
        raise ProtocolError("no such ledger")

    # ---- running

    def next(self, at=0):
        """(index, number) of the command whose turn it is when so many are passed over."""
        return struct.unpack_from("<BI", self.waiting.order, at * _ENTRY_SIZE)

    def head(self, index, number):
        """Command.head of one that is waiting; where it can't be run any more, (do or None, None, why, None, crc)."""
        found = self.waiting.find(index, number)
        if found is None:  # neither in the cache nor on flash yet
            self.commit()
            found = self.waiting.find(index, number) or b""  # flash that has lost it: then it is no JSON
        if not isinstance(found, tuple):
            command = Command(crc32(found))
            try:
                command.parse(found)
                found = command.head(self.find)
            except ProtocolError as e:  # the app has changed since it was accepted, or memory does not suffice
                found = (command.do, None, e.reason, None, command.crc)
            self.waiting.know(index, number, found)
        return found

    def id_of(self, index, number):
        """The id of a command, or None for one without."""
        w = self.window(index)
        return "%s-%s.%d" % (self.state, w.name, number) if w else None

    def _rank(self, index, number):
        w = self.window(index)
        return w.rank(number) if w else 0

    def ever_started(self, index, number):
        """May a handler have begun for this command of the inbox?"""
        return bool(self.started and self.started[:2] == (index, number))

    def start(self, index, number):
        """A handler is about to begin: on flash when this returns, and with it what ended before."""
        attempt = self.started[2] + 1 if self.ever_started(index, number) else 1
        if len(self.done) > _RUNS * _RUN_SIZE:
            self.commit()
        self.started = (index, number, attempt)
        self.mark.save(struct.pack(_RUN, index, number, 1, attempt) + self.done)

    def finish(self, index, number, status, detail=b""):
        """The command has ended; on flash with the next `start` or `commit`, whichever comes first."""
        if self.ever_started(index, number):
            self.started = None
        code = code_of(status)
        kept = detail if len(detail) <= LONG else b""
        self._put(_DONE, struct.pack("<BIB", index, number, code) + kept)
        first, count = number, 1
        if self.done:
            last = struct.unpack(_RUN, self.done[-_RUN_SIZE:])
            if last[0] == index and last[1] + last[2] == number and last[3] == code and last[2] < 255:
                self.done = self.done[:-_RUN_SIZE]
                first, count = last[1], last[2] + 1
        self.done += struct.pack(_RUN, index, first, count, code)
        if kept != detail:
            self.details.keep(index, number, detail)

    def end(self):
        """The wake ends: where all results are confirmed, the next one need not send them again."""
        if self.untold and not any(w.owes() for w in self.windows):
            self._put(_TOLD, b"")
        self.commit()

    def _recover(self):
        """Settle what the last wake left: done but not in the journal, or started and never done."""
        data = self.mark.load() or b""
        runs = [struct.unpack_from(_RUN, data, at) for at in range(0, len(data) - _RUN_SIZE + 1, _RUN_SIZE)]
        for index, first, count, code in runs[1:]:
            for number in range(first, first + count):
                if self.waiting.has(index, number):
                    self._put(_DONE, struct.pack("<BIB", index, number, code))
        if runs and self.waiting.has(*runs[0][:2]):
            self.broke = True
            index, number, _, attempt = runs[0]
            again = index == UNNAMED
            if attempt < ATTEMPTS and not again:
                handler = self.head(index, number)[1]
                again = handler and handler.repeatable
            if again:
                self.started = (index, number, attempt)
            else:
                self._put(_DONE, struct.pack("<BIB", index, number, code_of(INTERRUPTED)))
        self.commit()


class Waiting:
    """The commands of the inbox in their order, in constant memory: 7 bytes of each, its payload on flash.

    `read()` iterates over (index, number, payload) of all that was ever accepted and is still on flash, in order.
    `limit`: commands that wait at once.
    """

    def __init__(self, read, limit):
        self._read = read
        self.order = bytearray(limit * _ENTRY_SIZE)  # made once: one that grows needs a hole for its copy
        self._end = 0  # what of it is used
        self.let_go()  # _cache: [index, number, bytes of its payload, that or its head] each; _cached: bytes of all
        self.space = 0  # bytes of the journal that they take

    def __len__(self):
        return self._end // _ENTRY_SIZE

    def __iter__(self):
        for at in range(0, self._end, _ENTRY_SIZE):
            yield struct.unpack_from(_ENTRY, self.order, at)

    def has(self, index, number):
        """Is this command waiting?"""
        return self._find(index, number) >= 0

    def add(self, index, number, size, what):
        """One more, at the end, with a payload of `size` bytes; `what` is the payload, or Command.head's."""
        if self._end == len(self.order):  # found on flash: the limit was higher once
            self.order += bytes(_ENTRY_SIZE)
        struct.pack_into(_ENTRY, self.order, self._end, index, number, size)
        self._end += _ENTRY_SIZE
        self.space += size + _RECORD
        if self._cached + size <= _CACHE:
            self._keep(index, number, size, what)

    def remove(self, index, number):
        """This one has ended; nothing happens where it is not waiting."""
        at = self._find(index, number)
        if at >= 0:
            self.space -= struct.unpack_from(_ENTRY, self.order, at)[2] + _RECORD
            rest = memoryview(self.order)
            rest[at : self._end - _ENTRY_SIZE] = rest[at + _ENTRY_SIZE : self._end]
            self._end -= _ENTRY_SIZE
        entry = self._entry(index, number)
        if entry:
            self._cache.remove(entry)
            self._cached -= entry[2]

    def find(self, index, number):
        """The payload of one that is waiting, or what `add` or `know` was given; None where it is not on flash yet."""
        entry = self._entry(index, number)
        if not entry:
            self._fill(index, number)
            entry = self._entry(index, number)
        return entry and entry[3]

    def know(self, index, number, what):
        """Keep this in the place of the payload."""
        entry = self._entry(index, number)
        if entry:
            entry[3] = what

    def _entry(self, index, number):
        for entry in self._cache:
            if entry[0] == index and entry[1] == number:
                return entry

    def let_go(self):
        """Let go of what is in RAM; the payloads are on flash."""
        self._cache, self._cached = [], 0

    def _keep(self, index, number, size, what):
        self._cache.append([index, number, size, what])
        self._cached += size

    def _fill(self, index, number):
        """Read this one's payload, and those behind it as far as the cache goes."""
        self.let_go()
        found = False
        records = self._read()
        for i, n, payload in records:
            found = found or (i == index and n == number)
            if found and self.has(i, n):
                if self._cache and self._cached + len(payload) > _CACHE:
                    break
                self._keep(i, n, len(payload), payload)
        records.close()

    def _find(self, index, number):
        for at in range(0, self._end, _ENTRY_SIZE):
            i, n, _ = struct.unpack_from(_ENTRY, self.order, at)
            if i == index and n == number:
                return at
        return -1
