# mypy: ignore-errors
# ruff: noqa: SIM115, UP031, B905
"""One boot of a device in the middle of an update: `make IMAGE PROGSIZE FOLDER`, or `live` and CUT CHUNKS behind it.

FOLDER has the releases `old` and `new`, each a folder with the file `manifest` and its files, numbered. CUT is
`N:MODE` or `-`; at most CHUNKS chunks are taken in one boot, and what was not flushed by then is lost as in a cut.
"""

import json
import sys
import time
from binascii import hexlify
from hashlib import sha256
from struct import pack

import norflash
import vfs

from dormouse import guard, inbox, records, update
from dormouse.ports import storage

BLOCKS = 96
CUT = 75
ROOT = "/flash/"


def tell(*words):
    sys.stdout.write(" ".join([str(word) for word in words]) + "\n")


class Port:
    """What update.py asks of a port."""

    def __init__(self, slots):
        self.slots = slots
        self.storage = storage.Storage(ROOT + "state")

    def feed(self):
        pass


class Log:
    wake = 1

    def kept(self):
        return ""


class Session:
    signer = files = None

    def acknowledge(self, kind, pid):
        pass


class Release:
    """A release as the host has it."""

    def __init__(self, folder):
        self.manifest = open(folder + "/manifest", "rb").read()
        self.digest = hexlify(sha256(self.manifest).digest()).decode()
        self.spans = json.loads(open(folder + "/spans").read())  # of each file, as the host cuts it
        lines = self.manifest.decode().split("\n")[1:-1]
        self.names = [line.split(" ", 2)[2] for line in lines]
        self.contents = [self.manifest] + [open("%s/%d" % (folder, n), "rb").read() for n in range(1, len(lines) + 1)]

    def lies_in(self, slot):
        """Are the files of a slot exactly these?"""
        for name, data in zip(self.names, self.contents[1:]):
            try:
                if open("%s%s/%s" % (ROOT, slot, name), "rb").read() != data:
                    return False
            except OSError:
                return False
        return True

    def chunks(self, at, most):
        """Payloads from a place on."""
        for file in range(at[0], len(self.contents)):
            for begin, end in self.spans[file]:
                begin = max(begin, at[1] if file == at[0] else 0)
                if begin < end and most:
                    most -= 1
                    head = sha256(self.manifest).digest()[:8] + pack(">BI", file, begin)
                    yield head + self.contents[file][begin:end]


def mount(image, progsize, cut, fresh=False):
    stop = __import__("ffi").open(None).func("v", "_exit", "i")
    flash = norflash.NorFlash(open(image, "r+b"), BLOCKS, cut=cut, stop=stop)
    if fresh:
        vfs.VfsLfs2.mkfs(flash, progsize=progsize)
    vfs.mount(vfs.VfsLfs2(flash, progsize=progsize), "/flash")
    return flash


def make(folder):
    """The old release in slot a; a past of five records and one command that waits."""
    import os

    old = Release(folder + "/old")
    for name in ("a", "state"):
        os.mkdir(ROOT + name)
    for name, data in zip(old.names, old.contents[1:]):
        update._folders(ROOT + "a", name)
        with open(ROOT + "a/" + name, "wb") as file:
            file.write(data)
    with open(ROOT + "a/release", "wb") as file:
        file.write(old.digest.encode() + b"\n" + old.manifest[old.manifest.find(b"\n") + 1 :])
    port = Port(None)
    box = inbox.Inbox(port.storage, lambda n: b"\x5a" * n, 64, lambda name: None)
    box.accept(box.new_ledger("old"), 1, b'{"id":"5a5a5a-old.1","do":"x"}', None)
    box.commit()
    telemetry = records.Telemetry(port.storage, 0)
    for n in range(5):
        telemetry.add(1, 1000 + n, b'{"n":%d}' % n)


def live(folder, most):
    """One boot: what it is, then the host's part and the device's, as far as they come."""
    old, new = Release(folder + "/old"), Release(folder + "/new")
    slots = guard.Slots(ROOT)
    found = "new" if new.lies_in(slots.slot) else "old" if old.lies_in(slots.slot) else "neither"
    tell("boots", slots.slot or "-", found)
    port = Port(slots)
    telemetry = records.Telemetry(port.storage, 0)
    box = inbox.Inbox(port.storage, lambda n: b"\x5a" * n, 64, lambda name: None)
    tell("past", telemetry.last, len(list(telemetry.read(0))), len(box.waiting))
    u = update.Update(port, Log(), lambda: None)
    u.begin(Session())
    if slots.phase == 0:
        terms = json.loads(open(folder + "/terms").read())
        if u.run(None, "begin", new.digest, of=terms).get("running"):
            tell("done")
            return
    told = u.told()
    if "at" in told:
        for payload in new.chunks(told["at"], most):
            u.offer(payload, 1)
        if not u.held:
            told = u.told()
            if told.get("at") == [-1, u.at]:
                u.run(None, "commit", new.digest[:16])
    elif "trial" in told:
        u.conclude(True)
    elif "kept" in told:
        u.run(None, "end", new.digest[:16])
    tell("told", json.dumps(u.told()))


def main(words):
    what, image, progsize, folder = words[:4]
    if what == "make":
        mount(image, int(progsize), None, True)
        make(folder)
        return
    flash = mount(image, int(progsize), None if words[4] == "-" else words[4])
    began = time.ticks_ms()
    live(folder, int(words[5]))
    tell("ops", flash.ops, flash.erases, time.ticks_diff(time.ticks_ms(), began))
