"""Commands from their arrival to their end: checked, accepted, run, answered.

Must stay true: every payload that comes in gets exactly one of these: a place in the inbox, or an answer that says
why not; nothing here raises for what the outside world sent.
"""

from binascii import crc32

from dormouse import protocol
from dormouse.errors import ProtocolError


class Inbox:
    """Holds at most `limit` commands. `find(name)` gives the Handler of a declared command or None; `answer(payload)`
    takes a result for the host.
    """

    def __init__(self, limit, payload_limit, find, answer, log):
        self.limit = limit
        self.payload_limit = payload_limit
        self.find = find
        self.answer = answer
        self.log = log
        self.waiting = []
        self.taken = 0

    @property
    def full(self):
        return len(self.waiting) >= self.limit

    def offer(self, is_command, payload, size, retain):
        """One message as it came. `payload` is only its first bytes where `size` is above the limit."""
        command_id = do = None
        try:
            if not is_command:
                raise ProtocolError("nothing listens to this topic")
            if size > self.payload_limit:
                command_id = protocol.legible_id(payload)
                raise ProtocolError("%d bytes, above the limit of %d" % (size, self.payload_limit))
            command = protocol.parse_command(payload)
            command_id, do = command.id, command.do
            if retain and command_id is None:
                raise ProtocolError("retained and without an id: it would run at every wake")
            if command.void is None:
                handler = self.find(do)
                if handler is None:
                    raise ProtocolError("unknown command %s" % do[:40])
                command.args = protocol.check_args(handler.spec, command.args)
        except ProtocolError as e:
            self.log("rejected", id=command_id, why=e.reason)
            self.answer(protocol.result(protocol.REJECTED, command_id, crc32(payload), why=e.reason, do=do))
            return
        if command.void is not None:
            return self._void(command)
        self.taken += 1
        self.waiting.append(command)
        self.log("command", id=command_id, do=do)

    def _void(self, tombstone):
        for command in self.waiting:
            if command.id == tombstone.id:
                self.waiting.remove(command)
                break
        self.answer(protocol.result(tombstone.void, tombstone.id, tombstone.crc))

    def next(self):
        """The command to run now, or None."""
        return self.waiting[0] if self.waiting else None

    def finish(self, command, status, value=None, why=None):
        """`command` has come to its end; the answer goes to the host."""
        self.waiting.remove(command)
        self.log("result", id=command.id, do=command.do, status=status, why=why)
        self.answer(protocol.result(status, command.id, command.crc, value=value, why=why, do=command.do))
