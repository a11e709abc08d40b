"""What is fuzzed: functions from bytes to a short verdict, for both interpreters.

Must stay true: nothing is raised but what the parser's own documentation names; the verdict is the same on CPython and
on MicroPython; a target waits for nothing and keeps nothing from one call to the next.

    import targets; targets.replay(folder, report)      every file <target>-*.bin of the folder: one line each
"""

import gc
import json
import os
import sys
import time
from binascii import crc32
from struct import pack

import dormouse.ports.posix  # noqa: F401  (on CPython it gives umqtt.simple the module names that it imports)
from dormouse import codec, config, protocol
from dormouse.admit import Admission
from dormouse.app import Handler
from dormouse.errors import ConfigError, LinkError, ProtocolError
from dormouse.inbox import Inbox
from dormouse.journal import Mark
from dormouse.link import Link
from dormouse.records import Telemetry
from dormouse.session import Session
from dormouse.state import State

try:
    shown = ascii  # CPython's repr leaves what can be printed as it is; MicroPython's writes all but ASCII as numbers
except NameError:

    def shown(value):
        """As CPython's `ascii`: MicroPython's repr does so by itself, up to 1.28."""
        text = repr(value)
        for c in set(text):
            if ord(c) > 127:
                n = ord(c)
                text = text.replace(c, ("\\x%02x" if n < 256 else "\\u%04x" if n < 65536 else "\\U%08x") % n)
        return text


MOST = 2048  # bytes of a payload that is read whole
SETTINGS = {"id": "dev", "host": "h", "port": 1883, "total": 600, "payload": MOST, "clean_session": False}
SETTINGS.update(drain="fence", quiet=500)


class Memory:
    """Storage in RAM: see ports/__init__.py."""

    erases = 0
    inline = 128

    def __init__(self, files=()):
        self.files = dict(files)

    def read(self, name):
        return self.files.get(name)

    def chunks(self, name, most=256):
        data = self.files.get(name, b"")
        for at in range(0, len(data), most):
            yield data[at : at + most]

    def size(self, name):
        return len(self.files.get(name, b""))

    def replace(self, name, data):
        self.files[name] = bytes(data) if isinstance(data, (bytes, bytearray)) else b"".join(data)

    def append(self, name, pieces):
        self.files[name] = self.files.get(name, b"") + b"".join(pieces)

    def rename(self, old, new):
        self.files[new] = self.files.pop(old)

    def remove(self, name):
        self.files.pop(name, None)

    def names(self):
        return list(self.files)

    def free(self):
        return 1000000


class Stream:
    """A peer that has said all of it already, in pieces, and then closes."""

    def __init__(self, data, piece):
        self.data, self.piece, self.at = data, piece, 0
        self.written = 0

    def readinto(self, into):
        n = min(len(into), self.piece, len(self.data) - self.at)
        into[:n] = self.data[self.at : self.at + n]
        self.at += n
        return n

    def write(self, data):
        self.written += len(data)
        return len(data)

    def modify(self, stream, events):
        pass

    def poll(self, ms):
        return [(self, 4)]


HANDLERS = {"once": Handler(None, 5, False, {}), "takes": Handler(None, 5, True, {"n": "int", "s": ["str", "x"]})}


def _desk(storage):
    answers: list = []
    inbox = Inbox(storage, lambda n: bytes(range(n)), 64, HANDLERS.get)
    return inbox, Admission(inbox, MOST, answers.append, lambda event, **fields: None), answers


def _told(inbox, answers):
    said = [sorted(json.loads(answer).items()) for answer in answers]
    windows = [(w.name, w.high, w.text()) for w in inbox.windows]
    return "%s %s %d" % (shown(said), shown(windows), len(inbox.waiting))


def packets(data):
    """A broker's bytes behind CONNACK; the first byte says in pieces of what size they come."""
    stream = Stream(data[1:], 1 + (data[0] if data else 255) * 2)
    link = Link(lambda: 0, 1000)
    link.stream = link.poll = stream
    link.deadline, link.ahead = 1000, True
    inbox, admission, answers = _desk(Memory())
    session = Session(link, "dormouse/dev/", SETTINGS, {}, admission.offer)
    session.present, session.nonce, session.fences = False, b"n", 1
    session.unacked = {1: None, 2: (answers.append, b'{"status":"told"}')}
    link.before_send = inbox.commit
    try:
        while not inbox.full:
            session.take()
            link.flush()
        why = "full"
    except (LinkError, ProtocolError) as e:
        why = e.reason
    return "%s %s %s" % (why, session.drained, _told(inbox, answers))


def payload(data):
    """One command's payload."""
    inbox, admission, answers = _desk(Memory())
    for again in (False, True):  # a redelivery is answered as the first was
        admission.offer(True, data[:128] if len(data) > MOST else data, len(data), again, crc32(data))
    return _told(inbox, answers)


def _valid():
    """The files of a device with a past."""
    storage = Memory()
    inbox, admission, _ = _desk(storage)
    for number in range(1, 30):
        text = b'{"id":"000102-l%d.%d","do":"once"}' % (number % 2, number)
        admission.offer(True, text, len(text), False, crc32(text))
        inbox.commit()
        if number % 3:
            index, n = inbox.next()
            inbox.start(index, n)
            inbox.finish(index, n, "succeeded", b',"value":%d' % n)
    ring = Telemetry(storage, 0)
    for number in range(40):
        ring.add(1, number, b'{"t":%d}' % number)
    return storage.files


def _damaged(data):
    """Those files with damage: `data` is positions and bytes, or a file's whole content."""
    files = _valid()
    names = sorted(files)
    if not data:
        return files
    name = names[data[0] % len(names)]
    if data[0] >= 128:
        files[name] = data[1:]
        return files
    body = bytearray(files[name])
    for at in range(1, len(data) - 2, 3):
        if len(body):
            body[(data[at] << 8 | data[at + 1]) % len(body)] ^= data[at + 2]
    files[name] = bytes(body[: len(body) - data[-1] % 32] if data[0] & 64 else body)
    return files


def journal(data):
    """Command journal, work mark and telemetry after damage: what is believed has its checksum."""
    storage = Memory(_damaged(data))
    inbox, admission, answers = _desk(storage)
    ring = Telemetry(storage, 0)
    read = [number for number, _, _, _ in ring.read(1)]
    text = b'{"id":"%s-new.1","do":"once"}' % inbox.state.encode()
    admission.offer(True, text, len(text), False, crc32(text))
    inbox.commit()
    ring.add(1, 5, b"{}")
    again, _, _ = _desk(storage)
    if again.state != inbox.state or list(again.waiting) != list(inbox.waiting):
        raise ValueError("another inbox after the next boot")
    return "%s %s %d %s" % (_told(inbox, answers), again.state, ring.last, read[-3:])


def mark(data):
    """The small files: the state between wakes, believed with its checksum, and with any content."""
    found = []
    for content in (data, pack("<I", crc32(data, 77)) + data):
        storage = Memory({"wake": content, "work": content})
        state = State(storage)
        found.append((state.wake, state.failures, state.unfinished, state.ending, state.device))
        _desk(Memory({"work": content}))
    return shown(found)


class Retained:
    """An ESP32's RTC memory."""

    inline = 2048

    def __init__(self, data):
        self.data = data

    def read(self, name):
        return self.data

    def replace(self, name, data):
        self.data = data


class _Module:
    """machine and network, of which importing a port takes nothing."""


def retained(data):
    """What a board remembers of its network."""
    for name in ("machine", "network"):
        sys.modules.setdefault(name, _Module)  # type: ignore[arg-type]
    if not hasattr(time, "ticks_ms"):
        time.ticks_ms = lambda: 0  # type: ignore[attr-defined]
    from dormouse.ports.board import Board

    found = []
    for content in (data, pack("<I", crc32(data, 77)) + data):
        board = Board("timer", None, None, Mark(Retained(content), "net"), None)
        found.append((board.net, board.bssid, board.channel, board.lan, board.leased))
    return shown(found)


def settings(data):
    """config.json and secrets.json, and what commands have changed."""
    found = []
    for files in ({}, {"kept": data}, {"trial": data}):
        try:
            base = codec.load(data if not files else b'{"id":"d","broker":"mqtt://h"}', "config.json")
            found.append(len(config.in_force(base, Memory(files))[0]))
        except ConfigError as e:
            found.append(e.reason)
    return shown(found)


def texts(data):
    """Ids, windows and what is left of a payload that could not be parsed."""
    found = [codec.legible_id(data)]
    for parse in (protocol.split_id, protocol.unpack_window):
        try:
            found.append(parse(data.decode()))
        except ValueError:  # UnicodeError is one; MicroPython takes some bytes for text that are none
            found.append(None)
    return shown(found)


TARGETS = (packets, payload, journal, mark, retained, settings, texts)


def verdict(function, data):
    """What the target says, or the error that it may not raise. `ok any` where CPython says that it is not JSON: what
    MicroPython's reader takes for JSON is more.
    """
    try:
        said = function(data)
        return "ok any" if "not JSON" in said else "ok %08x" % crc32(said.encode())
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)


def replay(folder, report):
    """Write `<file> <verdict>` for every file of `folder` to the file `report`, each before the next begins."""
    functions = {function.__name__: function for function in TARGETS}
    with open(report, "w") as out:
        for name in sorted(os.listdir(folder)):
            with open(folder + "/" + name, "rb") as file:
                data = file.read()
            gc.collect()
            out.write("%s " % name)
            out.flush()
            out.write(verdict(functions[name.split("-")[0]], data) + "\n")
            out.flush()
