"""What the tests of this folder share: a device's inbox on a real folder, and small fakes for the outside world.

Must stay true: `boot` builds everything anew from the folder alone, as a power cut does; what was not committed
before it is gone.
"""

import gc
import json
from binascii import crc32

from runner import folder

from dormouse import codec
from dormouse.admit import Admission
from dormouse.app import Handler
from dormouse.config import check
from dormouse.errors import ConfigError, ProtocolError
from dormouse.inbox import UNNAMED, Inbox
from dormouse.ports.storage import Storage
from dormouse.protocol import split_id
from dormouse.window import OPEN, STALE, status_of

STATE = "000102"  # what `few` gives, in hex


def few(n):
    """The random bytes of a device that is always the same."""
    return bytes(range(n))


def reason(kind, function, *args, **more):
    """The reason of the error of this kind that the call raises; None where it raises none."""
    try:
        function(*args, **more)
    except kind as error:
        return error.reason
    return None


def full(**more):
    """The least configuration, and these keys."""
    values = {"id": "dev1", "broker": "mqtt://host"}
    values.update(more)
    return values


def why(**more):
    """What is wrong with the configuration that has these keys; None where nothing is."""
    return reason(ConfigError, check, full(**more))


def parsed(data):
    """The Command that a payload is."""
    command = codec.Command(7)
    command.parse(data)
    return command


def refused(data):
    """The reason for which a payload is refused, or None; a payload must never do anything else."""
    return reason(ProtocolError, parsed, data)


class Dice:
    """Numbers that look random and are the same on both interpreters."""

    def __init__(self, seed):
        self.x = seed * 2654435761 & 0x3FFFFFFF

    def below(self, n):
        self.x = (self.x * 1103515245 + 12345) & 0x3FFFFFFF
        return (self.x >> 9) % n

    def pick(self, things):
        return things[self.below(len(things))]


class Port:
    """The ports of ports/__init__.py that a test needs; time moves by `pause` alone."""

    def __init__(self, storage=None):
        self.storage = storage
        self.now = 0
        self.fed = 0
        self.unix = None
        self.lines: list = []
        self.armed: list = []  # what the watchdog was set to, ms

    def arm(self, ms):
        self.armed.append(ms)

    def ms(self):
        return self.now

    def pause(self, ms):
        self.now += ms

    def feed(self):
        self.fed += 1

    def time(self):
        return self.unix

    def battery(self):
        return 3.7

    def emit(self, line):
        self.lines.append(line)
        del self.lines[:-20]


def handlers():
    """`once` may not be repeated and `again` may; `takes` has arguments."""
    return {
        "once": Handler(None, 5, False, {}),
        "again": Handler(None, 5, True, {}),
        "takes": Handler(None, 5, False, {"n": "int", "s": ["str", "x"]}),
        "forget_ledger": Handler(None, 5, True, {"ledger": "str"}),
    }


def payload(number, do="once", ledger="l", state=STATE, more=""):
    """A command's bytes; `more` is JSON that goes before the closing brace."""
    return ('{"id":"%s-%s.%d","do":"%s"%s}' % (state, ledger, number, do, more)).encode()


def tombstone(number, status="cancelled", ledger="l", state=STATE):
    """A tombstone's bytes."""
    return ('{"id":"%s-%s.%d","void":"%s"}' % (state, ledger, number, status)).encode()


def only(answers, **wanted):
    """There is one answer, and it says at least this."""
    assert len(answers) == 1, answers
    found = {key: answers[0].get(key) for key in wanted}
    assert found == wanted, answers
    return answers[0]


def offered(desk, *payloads):
    """Take these and commit."""
    for data in payloads:
        assert desk.offer(data) == []
    desk.inbox.commit()
    return desk


def confirm(desk):
    """The broker has acknowledged everything that was owed."""
    for w in desk.inbox.windows:
        for number in list(w.owed()):
            w.told(number)
            w.confirmed(number, number)


class Desk:
    """Inbox and admission over a folder, and the answers that they give."""

    def __init__(self, limit=64, most=2048):
        self.place = folder()
        self.limit = limit
        self.most = most
        self.handlers = handlers()
        self.boot()

    def boot(self):
        """Throw all objects away and make them again from the folder."""
        for name in ("inbox", "admission"):
            setattr(self, name, None)
        gc.collect()
        self.storage = Storage(self.place)
        self.answers: list = []
        self.logged: list = []
        self.inbox = Inbox(self.storage, few, self.limit, lambda name: self.handlers.get(name))
        self.admission = Admission(self.inbox, self.most, self.answers.append, self._log)

    def _log(self, event, **fields):
        self.logged.append(event)
        del self.logged[:-20]

    def reboot(self):
        """Commit, then boot."""
        self.inbox.commit()
        self.boot()

    def offer(self, data, retain=False, is_command=True):
        """A message as the session hands it over. Returns what it makes the device say: refusals, and where its command
        is final already the result that is sent again.
        """
        before = len(self.answers)
        final = self._final(data)
        size = len(data)
        self.admission.offer(is_command, data[:128] if size > self.most else data, size, retain, crc32(data))
        said = self.answers[before:]
        if final and is_command and len(said) == 0 and self.windows_owe(final):
            index, number = final
            w = self.inbox.window(index)
            detail = self.inbox.details.get(index, number)
            name = self.inbox.id_of(index, number)
            name = self.inbox.id_of(index, number)
            said = [codec.result(status_of(w.code(number)), name, w.crc(number), True, detail)]
        return [json.loads(answer) for answer in said]

    def windows_owe(self, command):
        """Is the result of (index, number) unconfirmed?"""
        w = self.inbox.window(command[0])
        return w and w.rank(command[1]) > 0

    def _final(self, data):
        """(index, number) of a command that is final, or None."""
        try:
            state, ledger, number = split_id(codec.legible_id(data) or json.loads(data)["id"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        w = self.window(ledger)
        if not w or state != self.inbox.state or w.code(number) in (0, OPEN, STALE):
            return None
        return w.index, number

    def run(self, status="succeeded", detail=b""):
        """Run what waits first. Returns (index, number)."""
        index, number = self.inbox.next()
        self.inbox.start(index, number)
        self.inbox.finish(index, number, status, detail)
        return index, number

    def window(self, ledger="l"):
        """The ledger's window, or None."""
        for w in self.inbox.windows:
            if w.name == ledger:
                return w
        return None

    def status(self, number, ledger="l"):
        """What the window says of a number: None, `open`, a final status or `stale`."""
        w = self.window(ledger)
        if w is None:
            return None
        code = w.code(number)
        return "stale" if code == STALE else status_of(code)

    def owed(self, ledger="l"):
        """The numbers whose results are owed."""
        return list(self.window(ledger).owed())

    def waiting(self):
        """The commands of the inbox as (ledger, number), without an id (None, count)."""
        names = {w.index: w.name for w in self.inbox.windows}
        names[UNNAMED] = None
        return [(names[index], number) for index, number, _ in self.inbox.waiting]

    def image(self):
        """All that must not change when the objects are made again."""
        inbox = self.inbox
        return (
            inbox.state,
            [(w.index, w.name, w.high, w.text(), crc32(b"".join(w.crcs)), list(w.owed())) for w in inbox.windows],
            inbox.forgotten,
            list(inbox.waiting),
            inbox.waiting.space,
            inbox.started,
        )
