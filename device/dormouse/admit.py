"""What becomes of each payload that comes in: a place in the inbox, a mark in a window, or an answer that says why not.

Must stay true: nothing here raises for what the outside world sent; a command with an id is judged by its window
before anything else, so that what was seen once never runs again, whatever the app has become meanwhile.
"""

from binascii import crc32

from dormouse import codec, protocol
from dormouse.errors import ProtocolError
from dormouse.window import LEDGERS, OPEN, STALE


class Admission:
    """`refuse(entry)` takes a result that no window owes."""

    def __init__(self, inbox, payload_limit, refuse, log):
        self.inbox = inbox
        self.payload_limit = payload_limit
        self.refuse = refuse
        self.log = log
        self.signer = None  # with one, nothing counts that it has not signed
        self.taken = 0  # payloads that came in in this wake
        self.refused = 0  # … of them, without a right signature
        self.left_out = False  # the program is not there, or not all of it: it could not be imported

    def offer(self, is_command, payload, size, retain, crc):
        """One message as it came. `payload` is cut where `size` is above the limit; `crc` is then of all."""
        self.taken += 1
        whole = size == len(payload)
        if self.signer:
            payload = self.signer.check(protocol.CMD, payload) if is_command and whole else None
            # an answer would settle the command whose id somebody else has used; one without an id could be replayed
            if payload is None or codec.legible_id(payload) is None:
                self.refused += 1
                return self.log("refused")
        command = codec.Command(crc32(payload) if whole else crc)  # as its sender reckons: without the signature
        head = why = None
        try:
            if not is_command:
                raise ProtocolError("nothing listens to this topic")
            if size > self.payload_limit:
                raise ProtocolError("%d bytes, above the limit of %d" % (size, self.payload_limit))
            command.parse(payload)
            if retain and command.id is None:
                raise ProtocolError("retained and without an id")
            if command.void is None:
                head = command.head(self.inbox.find)
        except ProtocolError as e:
            why = e.reason
            if command.id is None and is_command:
                command.take_id(codec.legible_id(payload))
        if command.id is not None:
            self._judge(command, payload, head, why)
        elif why is not None:
            self._refuse(command, protocol.REJECTED, why)
        else:
            self.inbox.accept(None, 0, payload, head)
            self.log("command", do=command.do)

    def _judge(self, command, payload, head, why):
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
            w.owe(number)
        elif command.void is not None:
            inbox.seen(w, number, command.void, command.crc)
        elif why is not None and self.left_out and command.do not in protocol.STANDARD:
            self._refuse(command, protocol.REJECTED, why, False)  # it comes again, and the program may be there then
        elif why is not None:
            self.log("rejected", id=command.id, why=why)
            inbox.seen(w, number, protocol.REJECTED, command.crc, codec.why_detail(why))
        else:
            inbox.accept(w, number, payload, head)
            self.log("command", id=command.id, do=command.do)

    def _window(self, command, why):
        inbox = self.inbox
        for w in inbox.windows:
            if w.name == command.ledger:
                return w
        if len(inbox.windows) >= LEDGERS:
            # the owner's way out when four are taken: to forget one, from a ledger that was never seen
            if command.do != protocol.FORGET or why is not None:
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
        self.refuse(codec.result(status, command.id, command.crc, final, detail, command.do))
