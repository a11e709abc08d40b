# mypy: ignore-errors
# ruff: noqa: SIM115
"""The device: each line on stdin is one wake, lived in a process forked from this one and cut off where it says.

Must stay true: the agent is the real one, on real littlefs, over a real socket; what is put around it here only
watches, counts and ends the process with `_exit`, so that no `finally` runs. What is told has left the process when
`tell` returns. A line is

    IMAGE DEVICE PORT BOOT CAUSE WHAT...      WHAT: flash:N:MODE, send:N:MODE, recv:N:MODE, hand:N:MODE, mark:N:MODE to
                                              cut there, set:KEY:NUMBER for the configuration, measure:, or -
and the answers are lines too, the last one of a wake being `status N`.
"""

import gc
import json
import struct
import sys
import time

import apart

BLOCKS = 64
PROGSIZE = 32
CUT = 75
ROOT = "dormouse"
UNIX = 1_800_000_000


def tell(*words):
    """One write, so that what was told has happened, whatever happens next."""
    sys.stdout.write(" ".join([str(w) for w in words]) + "\n")


class Life:
    """What is particular to this wake; one per process."""

    ops = {"send": 0, "recv": 0, "hand": 0, "mark": 0}
    at = {}  # kind -> (n, mode)
    flash = None
    stop = None
    boot = marks = 0
    measured = False
    memory = 0  # bytes in use, at most, after a collection
    settings = {"budget": 5, "patience": 1500, "total": 60, "sample_every": 300, "connect_every": 3600}
    tear = False

    @classmethod
    def cut(cls, kind):
        """The mode in which power goes at this operation, or None."""
        cls.ops[kind] += 1
        n, mode = cls.at.get(kind, (0, None))
        return mode if n == cls.ops[kind] else None

    @classmethod
    def die(cls):
        cls.flash._stop(CUT)


def measure():
    """Take note of the memory in use, where that was asked for."""
    if Life.measured:
        gc.collect()
        Life.memory = max(Life.memory, gc.mem_alloc())


def point():
    """A cut point inside a handler."""
    if Life.cut("hand"):
        Life.die()


def ask():
    """Wait for the worker to say `go`."""
    sys.stdin.buffer.readinto(bytearray(1))


class Poll:
    """The link's poll, asked for the Stream around a socket."""

    def __init__(self, poll, sock):
        self.poll, self.sock = poll.poll, sock
        self.inner = poll

    def modify(self, _stream, events):
        self.inner.modify(self.sock, events)


class Stream:
    """The link's stream, with a cut before, in the middle of and after everything that moves."""

    def __init__(self, sock):
        import select

        self.sock = sock
        self.poll = select.poll()
        self.poll.register(sock, select.POLLIN)
        self.room = bytearray(4)

    def _settled(self, most):
        """Wait until nothing more comes, so that every run sees the same pieces."""
        seen = -1
        while True:
            n = Lib.waiting(self.sock, self.room)
            if n == seen or n >= most:
                return
            seen = n
            time.sleep_us(500)

    def readinto(self, buf):
        if not self.poll.poll(0):
            return None
        self._settled(len(buf))
        mode = Life.cut("recv")
        if mode == "before":
            Life.die()
        n = self.sock.readinto(buf)
        if mode:
            Life.die()
        return n

    def write(self, data):
        mode = Life.cut("send")
        if mode == "half":
            self.sock.write(data[: len(data) // 2])
        if mode in ("before", "half"):
            Life.die()
        n = self.sock.write(data)
        if mode:
            Life.die()
        return n

    def close(self):
        self.sock.close()


class Lib:
    """The agent's modules, loaded once before all forks."""

    @classmethod
    def load(cls):
        import norflash
        import vfs

        from dormouse import agent, connection, inbox, journal, link, protocol, records, state
        from dormouse.ports import posix, storage

        cls.vfs, cls.norflash = vfs, norflash
        cls.agent, cls.inbox, cls.journal, cls.link, cls.connection = agent, inbox, journal, link, connection
        cls.records, cls.state, cls.storage, cls.protocol = records, state, storage, protocol
        Life.stop = apart.stop
        if apart.libc:
            cls.ioctl = apart.libc.func("i", "ioctl", "iip")
            cls.mmap = apart.libc.func("p", "mmap", "piiiii")
            cls.uctypes = __import__("uctypes")
        cls.watch()

        class Port(posix.Port):
            """A board: its files on littlefs, its randomness from the number of the boot."""

            def __init__(self, words):
                self._boot = posix._now()
                _, device, port, boot, cause = words[:5]
                self._cause = cause
                self._x = (int(boot) + 1) * 2654435761 & 0x7FFFFFFF
                self._config = dict(Life.settings, id=device, broker="mqtt://127.0.0.1:" + port, root=ROOT)
                self.storage = cls.tearing("/flash/state") if Life.tear else storage.Storage("/flash/state")

            def config(self):
                return json.dumps(self._config).encode(), None

            def time(self):
                return UNIX

            def random(self, n):
                out = bytearray(n)
                for i in range(n):
                    self._x = (self._x * 1103515245 + 12345) & 0x7FFFFFFF
                    out[i] = self._x >> 16 & 255
                return bytes(out)

            def cause(self):
                return self._cause

            def emit(self, line):
                tell("log", line)

            def reset(self):
                self.sleep(0)

            def sleep(self, ms):
                f = Life.flash
                tell("asleep", self.ms(), ms)
                tell("ops", "flash", f.ops, *[w for kind in Life.ops for w in (kind, Life.ops[kind])])
                tell("cost", f.erases, f.programs, f.program_bytes, f.ms(), Life.marks)
                tell("wear", *f.wear)
                tell("memory", Life.memory)
                Life.stop(0)

        cls.Port = Port

    @classmethod
    def waiting(cls, sock, room):
        """How many bytes have arrived, at most a buffer's."""
        if not apart.libc:
            return len(sock.recv(4096, 2))  # MSG_PEEK
        cls.ioctl(sock.fileno(), 0x541B, room)  # FIONREAD
        return struct.unpack("i", room)[0]

    @classmethod
    def watch(cls):
        """Put the probes around the agent."""

        class Link(cls.link.Link):
            def open(self, *how):
                tell("opened")
                super().open(*how)
                self.poll = Poll(self.poll, self.stream)
                self.stream = Stream(self.stream)

            def flush(self):
                super().flush()
                measure()

        class Inbox(cls.inbox.Inbox):
            def start(self, index, number):
                w = self.window(index)
                tell("starting", w.name if w else "-", number)
                super().start(index, number)
                tell("started", w.name if w else "-", number)
                measure()

        class Telemetry(cls.records.Telemetry):
            def add(self, kind, seconds, values):
                parts = len(self.parts) and self.parts[-1]
                number = super().add(kind, seconds, values)
                tell("stored", number, values.decode())
                if parts != self.parts[-1]:
                    tell("part", self.parts[-1])
                return number

        class Journal(cls.journal.Journal):
            def compact(self, records):
                tell("compacting", self._file)
                super().compact(records)

        class Mark(cls.state.Mark):
            def save(self, data):
                Life.marks += 1
                super().save(data)

        class Tearing(cls.storage.Storage):
            """A file system that writes a mark in place, and tears it."""

            def replace(self, name, data, mode="wb"):
                if name in ("wake", "work"):
                    cut = Life.cut("mark")
                    if cut == "before":
                        Life.die()
                    if cut == "half":
                        data = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
                    super().replace(name, data)
                    if cut:
                        Life.die()
                    return
                super().replace(name, data, mode)

        cls.tearing = Tearing
        cls.connection.Link = Link
        cls.connection.Inbox = Inbox
        cls.agent.Telemetry = Telemetry
        cls.inbox.Journal = Journal
        cls.inbox.Mark = cls.state.Mark = Mark


def flash(image, cut=None):
    """The NOR model; what it reads comes from the mapped file, which is the same bytes without two system calls."""
    file = open(image, "r+b")
    if not apart.libc:
        return Lib.norflash.NorFlash(file, BLOCKS, cut=cut, stop=Life.stop)
    size = BLOCKS * 4096
    memory = memoryview(Lib.uctypes.bytearray_at(Lib.mmap(0, size, 1, 1, file.fileno(), 0), size))

    class Flash(Lib.norflash.NorFlash):
        def readblocks(self, block, buf, off=0):
            pos = block * 4096 + off
            buf[:] = memory[pos : pos + len(buf)]

    return Flash(file, BLOCKS, cut=cut, stop=Life.stop)


def mount(image, cut=None):
    Life.flash = flash(image, cut)
    Lib.vfs.mount(Lib.vfs.VfsLfs2(Life.flash, progsize=PROGSIZE), "/flash")


def wake(words):
    for cut in words[5:]:
        kind, _, rest = cut.partition(":")
        if kind == "set":
            key, _, value = rest.partition(":")
            Life.settings[key] = int(value)
        elif kind == "measure":
            Life.measured = True
        elif kind != "-":
            n, _, mode = rest.partition(":")
            Life.at[kind] = int(n), mode
    Life.tear = "mark" in Life.at
    n, mode = Life.at.get("flash", (0, ""))
    mount(words[0], "%d:%s" % (n, mode) if n else None)
    Life.boot = int(words[3])
    Lib.agent.Agent(Lib.Port(words)).run("probe_app")


def make(image, room, parts):
    """A flash image with a past: `room` bytes left in the command journal, so many files of telemetry full."""
    Lib.vfs.VfsLfs2.mkfs(flash(image), progsize=PROGSIZE)
    mount(image)
    storage = Lib.storage.Storage("/flash/state")
    inbox = Lib.inbox.Inbox(storage, lambda n: b"\x5a" * n, 64, lambda name: None)
    w, number = None, 0
    while room < inbox.journal.room():
        w = w or inbox.new_ledger("old")
        number += 1
        payload = b'{"id":"%s-old.%d","do":"once","args":{"k":1000}}' % (inbox.state.encode(), number)
        inbox.accept(w, number, payload + b" " * 400, None)
        inbox.finish(w.index, number, "succeeded", b',"value":{"k":1000}')
        inbox.commit()
    for win in inbox.windows:
        win.settle()
    inbox.end()
    ring = Lib.records.Telemetry(storage, 0)
    while parts and not (len(ring.parts) == parts and ring.journal.room() < 42):
        pad = b"x" * (200 if not ring.journal or ring.journal.room() > 400 else 1)
        ring.add(1, UNIX - 1000, b'{"old":"%s"}' % pad)
    tell("base", inbox.state, inbox.journal.room(), ring.last)


def adopt(storage, device, acked):
    """This flash belongs to `device`, which has told `acked` records and sleeps until its next sample."""
    state = Lib.state.State(storage)
    state.device, state.acked, state.wake = device, acked, 40
    state.clock, state.next_connect = 10000, 10000 + 700
    state.save()


def do(words):
    if words[0] == "make":
        make(words[1], int(words[2]), int(words[3]))
    elif words[0] == "adopt":
        mount(words[1])
        adopt(Lib.storage.Storage("/flash/state"), words[2], int(words[3]))
    else:
        wake(words)


def main(interpreter):
    """`interpreter`: its command, for a boot that can't be forked."""
    Lib.load()
    tell("ready")
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        command = interpreter + " -c 'import lives; lives.one()' " + line.strip()
        tell("status", apart.apart(command, lambda pid: tell("pid", pid), do, line.split()))


def one():
    """A boot as a process of its own."""
    Lib.load()
    apart.lived(do, sys.argv[1:])
