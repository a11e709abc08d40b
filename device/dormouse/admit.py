"""What becomes of each payload that comes in: a place in the inbox, a mark in a window, or an answer that says why not.

Must stay true: nothing here raises for what the outside world sent; a command with an id is judged by its window
before anything else, so that what was seen once never runs again, whatever the app has become meanwhile.
"""

from binascii import crc32

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse.window import LEDGERS, OPEN, STALE, status_of

FORGET = "forget_ledger"


class Intake:
    """`answer(entry)` takes a result that no window owes: a refusal, a duplicate's status, one without an id."""

    def __init__(self, inbox, payload_limit, answer, log):
        self.inbox = inbox
        self.payload_limit = payload_limit
        self.answer = answer
        self.log = log
        self.signer = None  # with one, nothing counts that it has not signed
        self.taken = 0  # payloads that came in in this wake
        self.refused = 0  # … of them, without a right signature

    def offer(self, is_command, payload, size, retain, crc):
        """One message as it came. `payload` is its first bytes where `size` is above the limit; `crc` is of all."""
        self.taken += 1
        if self.signer:
            payload = self.signer.check(protocol.CMD, payload) if is_command and size == len(payload) else None
            # an answer would settle the command whose id somebody else has used; one without an id could be replayed
            if payload is None or codec.legible_id(payload) is None:
                self.refused += 1
                return self.log("refused")
            crc = crc32(payload)  # as its sender reckons: the signature is not the command
        command, why = self._read(is_command, payload, size, retain, crc)
        if command.id is None:
            if why is None:
                self.inbox.accept(None, 0, payload)
                self.log("command", do=command.do)
            else:
                self._refuse(command, protocol.REJECTED, why)
            return
        self._judge(command, payload, why)

    def _read(self, is_command, payload, size, retain, crc):
        """(command, why it is rejected or None); the command has its id wherever that is legible."""
        command = codec.Command(crc)
        try:
            if not is_command:
                raise ProtocolError("nothing listens to this topic")
            if size > self.payload_limit:
                raise ProtocolError("%d bytes, above the limit of %d" % (size, self.payload_limit))
            command.parse(payload)
            if retain and command.id is None:
                raise ProtocolError("retained and without an id: it would run at every wake")
            if command.void is None:
                handler = self.inbox.find(command.do)
                if handler is None:
                    raise ProtocolError("unknown command %s" % command.do[:40])
                codec.check_args(handler.spec, command.args)
            return command, None
        except ProtocolError as e:
            if command.id is None and is_command:
                command.take_id(codec.legible_id(payload))
            return command, e.reason

    def _judge(self, command, payload, why):
        inbox, number = self.inbox, command.number
        if command.state != inbox.state:
            return self._refuse(command, protocol.UNKNOWN, "for another state of this device")
        if any(name == command.ledger for _, name in inbox.forgotten):
            return self._refuse(command, protocol.UNKNOWN, "its ledger is forgotten")
        w = self._window(command, why)
        if w is None:
            return self._refuse(command, protocol.REJECTED, "%d ledgers are known already" % LEDGERS, False)
        code = w.code(number)
        if code == STALE:
            self._refuse(command, protocol.UNKNOWN, "stale")
        elif code == OPEN:
            if command.void is not None:
                self._void_open(command, w)
        elif code:
            command.crc = w.crc(number)
            self._answer(command, status_of(code), True, inbox.details.get(w.index, number))
        elif command.void is not None:
            inbox.seen(w, number, command.void, command.crc)
        elif why is not None:
            self.log("rejected", id=command.id, why=why)
            inbox.seen(w, number, protocol.REJECTED, command.crc, codec.why_detail(why))
        else:
            inbox.accept(w, number, payload)
            self.log("command", id=command.id, do=command.do)

    def _window(self, command, why):
        inbox = self.inbox
        for w in inbox.windows:
            if w.name == command.ledger:
                return w
        if len(inbox.windows) >= LEDGERS:
            # the owner's way out when four are taken: to forget one, from a ledger that was never seen
            if command.do != FORGET or why is not None:
                return None
            try:
                inbox.forget(command.args.get("ledger"))
            except ProtocolError:
                return None
        return inbox.new_ledger(command.ledger)

    def _void_open(self, command, w):
        """A tombstone for a command of the inbox: too late once it was ever started."""
        inbox, number = self.inbox, command.number
        if inbox.ever_started(w.index, number):
            command.crc = w.crc(number)
            self._answer(command, protocol.RUNNING, False)
        else:
            inbox.finish(w.index, number, command.void)

    def _refuse(self, command, status, why, final=True):
        self.log("rejected", id=command.id, why=why)
        self._answer(command, status, final, codec.why_detail(why))

    def _answer(self, command, status, final, detail=b""):
        self.answer(codec.result(status, command.id, command.crc, final, detail, command.do))
