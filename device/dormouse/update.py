"""A release on its way into the slot that does not run, and what becomes of it. Loaded only while one is under way.

Must stay true: the slot that runs is only read; the other has a manifest only once each of its files has been compared
with it; no chunk is acknowledged before it is on flash; whatever the power does, the steps may be taken again. The
verdict on a release is told at each end of a wake until the host says that it has it.

The slot that is filled: `new`, the manifest as it was sent, then its files; at last `release`, the whole manifest.
State: `update`, JSON, in `of`: [the SHA-256 of `new`, its bytes, the wake that committed it, why it has failed].
"""

import os
import sys
from binascii import hexlify, unhexlify
from hashlib import sha256
from struct import unpack_from

from dormouse.codec import encode, load
from dormouse.errors import ConfigError, DormouseError, StorageError
from dormouse.journal import Mark
from dormouse.protocol import BACK, FILE, FORMATS, IDLE, KEPT, SENDING, TRIAL

_BLOCK = 4096  # bytes of flash that one erase frees
_SPARE = 16384  # bytes that stay free, for the journal's and the telemetry's sake; and what a manifest may have
_LINE = 512  # bytes of a manifest's line
_HELD = 4  # chunks in RAM: a block of flash, as the host cuts them
_HEAD = 13  # bytes before a chunk's data: the release, its file, the place in it


class Update:
    """`reset()` boots at once when the wake is over. `session`: whose chunks are acknowledged."""

    def __init__(self, port, log, reset):
        self.port = port
        self.log = log
        self.reset = reset
        self.slots = port.slots
        self.session = self.signer = None
        self.held = []  # chunks of the file that comes next …
        self.pids = []  # … and their packet ids
        self.file = self.at = self.end = -1  # the number of that file, bytes of it that came, and its length
        self.release = self.why = None
        self.size = self.wake = 0
        if self.slots and self.slots.slot:
            made = type(port.storage)
            self._running = made(self.slots.root + self.slots.slot)
            self._idle = made(self.slots.root + self.slots.other())
            if self.slots.phase != IDLE:
                self._load()

    def _load(self):
        try:
            self.release, self.size, self.wake, self.why = load(self.port.storage.read("update"), "update")["of"]
            unhexlify(self.release)
            self.size + self.wake
        except (DormouseError, ValueError, TypeError, KeyError):  # flash was damaged
            self.release, self.size, self.wake, self.why = "", 0, 0, None
        if self.slots.phase == SENDING:
            self.fail(self._next())
        elif self.slots.phase == BACK and not self.why:
            self._idle.remove("release")  # it is not for emergencies either
            self._save(self._reason())

    def _save(self, why=None):
        self.why = why
        self.port.storage.replace("update", encode({"of": [self.release, self.size, self.wake, why]}))

    def _reason(self):
        """Why the release on trial was left."""
        why = self.port.storage.read("why")
        if why:
            return why.decode()
        piece = Mark(self.port.storage, "left.piece").load()
        if piece:
            return "cut off in " + piece.decode()
        for line in reversed(self.log.kept().split("\n")):
            wake, _, rest = line.partition(" ")
            at = rest.find('"why":"')
            if at >= 0 and wake.isdigit() and int(wake) > self.wake:
                return rest[at + 7 :].partition('"')[0]
        return "no wake of it has ended"

    def told(self):
        """How it stands, for the end record; None where nothing is under way."""
        phase = self.slots and self.slots.phase
        if not phase:
            return None
        told = {"release": self.release[:16]}
        if phase == SENDING:
            told["at"] = [self.file, self.at - sum([len(data) for data in self.held])]
        elif phase == BACK:
            told["failed"] = self.why
        else:
            told["trial" if phase == TRIAL else "kept"] = self.slots.boots
        return told

    def conclude(self, drained):
        """The wake is over and everything confirmed. One with a program that can't be imported does not come so far."""
        if drained and self.slots and self.slots.phase == TRIAL and self.slots.boots:
            self._mark(KEPT)

    def _mark(self, phase, slot=None):
        """The phase, and the slot if it is another, are on flash when this returns."""
        self.slots.boots = 0
        if not self.slots.write(slot or self.slots.slot, phase):
            raise StorageError("the mark of the slots")
        self.slots.phase = phase

    # ---- the command `update`, in its steps

    def run(self, context, step, release, **args):
        if not self.slots or not self.slots.slot:
            raise ConfigError("no slots: flash it once more")
        try:
            if step == "begin":
                return self._begin(release, args["of"])
            if self.slots.phase == IDLE or not (self.release or release).startswith(release):
                raise ConfigError("not this release")
            if step == "commit":
                wrong = self._commit()
                if wrong:
                    self.fail(wrong + " is damaged")
                    raise ConfigError(self.why)
                return {"on trial": True}
            if self.slots.phase == TRIAL:
                raise ConfigError("on trial")
            if self.slots.phase == SENDING:
                self._empty()
            self._mark(IDLE)
            self.port.storage.remove("update")
        except OSError as e:
            raise StorageError(str(e))

    def _begin(self, release, of):
        """A manifest of `manifest` bytes with this digest, and `bytes` of files, in whole blocks, are to come."""
        if (self._running.read("release") or b"")[:64].decode() == release:
            return {"running": True}
        if self.slots.phase == TRIAL:
            raise ConfigError("on trial")
        mpy = getattr(sys.implementation, "_mpy", 0)
        if of["formats"] != FORMATS:
            raise ConfigError("formats %s, here %d" % (of["formats"], FORMATS))
        if of["mpy"] and (of["mpy"][0] != mpy & 255 or of["mpy"][1] not in (0, mpy >> 10)):
            raise ConfigError("made for .mpy %s, here %s" % (of["mpy"], [mpy & 255, mpy >> 10]))
        if of["port"] not in (None, sys.platform):
            raise ConfigError("made for %s" % of["port"])
        size = int(of["manifest"])  # whatever is wrong with these is told before anything of it is kept
        if len(unhexlify(release)) != 32 or not 0 < size <= _SPARE:
            raise ConfigError("no release of a manifest of at most %d bytes" % _SPARE)
        if self.slots.phase != SENDING or release != self.release:
            needed = of["bytes"] + _SPARE + _whole(_files(self._running, "release", of["keep"]))
            room = self.port.storage.free() + _whole(_files(self._idle, "release"))
            if needed > room:
                raise ConfigError("%d bytes needed, %d free" % (needed, room))
            self._empty()
            self.release, self.size = release, size
            self._save()
            self._mark(SENDING)
            self.fail(self._next())
        return {"have": "".join([digest[:8] for _, _, digest in _files(self._running, "release")])}

    def _empty(self):
        """Everything in the other slot goes, its manifest first, level by level: nothing here calls itself."""
        self.held, self.file = [], -1
        self._idle.remove("release")
        folders = [self.slots.root + self.slots.other()]
        for folder in folders:
            for name in os.listdir(folder):
                name = folder + "/" + name
                try:
                    os.remove(name)
                except OSError:  # a folder with something in it
                    folders.append(name)
        while len(folders) > 1:
            os.rmdir(folders.pop())

    def _commit(self):
        """The other slot is on trial from the next boot on; the name of its first file that is damaged, if one is."""
        if self.slots.phase == TRIAL:
            return None
        if self.slots.phase != SENDING:
            raise ConfigError("not this release")
        if self.file >= 0:
            raise ConfigError("not all of it has come")
        wrong = self._wrong(self._idle, self._wanted())
        if wrong:
            return wrong
        lines = [self.release.encode() + b"\n"]
        lines += [b"%d %s %s\n" % (size, digest.encode(), name.encode()) for name, size, digest in self._wanted()]
        self._idle.replace("release", iter(lines))
        for name in ("skips", "why", "left.piece"):  # a new program gets its try at once
            self.port.storage.remove(name)
        self.wake = self.log.wake
        self._save()
        self._mark(TRIAL, self.slots.other())
        self.reset()

    def fail(self, why):
        """Where there is no room for it, or it is not what was ordered: the slot is emptied, and the host is told."""
        if why:
            self._empty()
            self._save(why)
            self._mark(BACK)

    # ---- its files

    def _wanted(self):
        """(name, size, digest) of each file: those of `new`, and those of the running slot that it keeps."""
        yield from _files(self._idle, "new")
        head = next(self._idle.chunks("new", 512), b"{}\n")
        keep = (load(head[: head.find(b"\n")], "manifest") or {}).get("keep") or ()
        if keep:
            yield from _files(self._running, "release", keep)

    def _wrong(self, storage, files):
        """The name of the first file that is not as its manifest has it, or None."""
        for name, size, digest in files:
            sha = sha256()
            for data in storage.chunks(name, 1024):
                sha.update(data)
            self.port.feed()
            if storage.size(name) != size or hexlify(sha.digest()).decode() != digest:
                return name
        return None

    def _next(self):
        """Find the first file that is not there yet; what the running slot has is copied. -1: all have come. Returns
        why the release can't be had.
        """
        idle = self._idle
        try:
            self.file, self.name, self.end = 0, "new", self.size
            self.at = idle.size("new")
            if self.at < self.end:
                return None
            if self._wrong(idle, [("new", self.size, self.release)]):
                raise ValueError
            there = {digest: name for name, _, digest in _files(self._running, "release")}
            for name, size, digest in self._wanted():
                if ".." in name.split("/") or name in ("release", "new"):
                    raise ValueError  # what is outside a slot no release may touch
                self.file += 1
                self.name, self.end, self.at = name, size, idle.size(name)
                if self.at >= size > 0:
                    continue
                self.port.feed()
                _folders(self.slots.root + self.slots.other(), name)
                if size and digest not in there:
                    return None
                idle.replace(name, self._running.chunks(there[digest], 1024) if size else b"")
            self.file = -1
            return None
        except DormouseError as e:  # flash is full, or the manifest is none
            return e.reason
        except (ValueError, TypeError, AttributeError):
            return "its manifest is damaged"

    def offer(self, payload, pid):
        """A chunk came. True: it is acknowledged once it is on flash. False: it is of no use, and may be at once."""
        if self.signer:
            payload = self.signer.check(FILE, payload)
        if self.slots.phase != SENDING or not payload or len(payload) <= _HEAD or self.file < 0:
            return False
        file, at = unpack_from(">BI", payload, 8)
        if payload[:8] != unhexlify(self.release[:16]) or (file, at) != (self.file, self.at):
            return False
        self.at = at + len(payload) - _HEAD
        if self.at > self.end:
            self.at = at
            return False
        self.held.append(payload[_HEAD:])
        self.pids.append(pid)
        if self.at == self.end or len(self.held) == _HELD:
            self.fail(self.flush())
        return True

    def flush(self):
        """What came is on flash, and acknowledged with the next write. Returns what is for `fail`."""
        why = None
        try:
            if self.held:
                self._idle.append(self.name, self.held)
                self.held = []
                if self.at == self.end:
                    why = self._next()
        except StorageError as e:
            why = e.reason
        for pid in self.pids:
            self.session.acknowledge(0x40, pid)
        self.pids = []
        return why

    def begin(self, session):
        """A new connection: what was not acknowledged over the last one comes again."""
        self.session, self.signer, self.pids = session, session.signer, []
        session.files = self
        if self.held:
            self.held = []
            self.fail(self._next())


def doubt(port, log, pieces):
    """Something of the slot that runs can't be loaded or does not run, the program where there are `pieces`. The other
    one runs from the next boot on, True then, if this one is damaged, or on trial with a program that does not run.
    """
    slots = port.slots
    if not slots.slot:
        return False
    if slots.phase == TRIAL:
        if pieces:
            pieces.end()
        return bool(pieces) and slots.back()
    u = Update(port, log, None)
    wrong = u._wrong(u._running, _files(u._running, "release"))
    if not wrong or not slots.back():
        return False
    u.release, u.size = (u._running.read("release") or b"")[:64].decode(), 0
    u._save(wrong + " is damaged")
    return True


def _whole(files):
    """Bytes of flash that they take, in whole blocks."""
    return sum([size + _BLOCK - 1 & -_BLOCK for _, size, _ in files])


def _files(storage, manifest, prefixes=("",)):
    """Iterate over (name, size, digest) of the files in a manifest whose names begin with one of `prefixes`."""
    rest = b""
    first = True
    for data in storage.chunks(manifest, 256):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        if len(rest) > _LINE:
            raise ValueError("no line")
        for line in lines:
            if not first:
                size, digest, name = line.decode().split(" ", 2)
                if any(name.startswith(prefix) for prefix in prefixes):
                    yield name, int(size), digest
            first = False


def _folders(path, name):
    for part in name.split("/")[:-1]:
        path += "/" + part
        try:
            os.mkdir(path)
        except OSError:
            pass  # it is there
