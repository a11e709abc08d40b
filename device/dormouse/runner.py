"""Running what waits in the inbox: in order, each within its limit, all within the wake's cap.

Must stay true: a handler runs only after `started` is on flash; whatever it raises ends that command alone; what no
longer fits into this wake stays in the inbox for the next.
"""

from binascii import crc32

from dormouse import codec, protocol
from dormouse.app import Overrun
from dormouse.errors import ProtocolError
from dormouse.inbox import UNNAMED
from dormouse.log import describe


class Work:
    """`cap`: port.ms() that no handler may go past; `longest`: seconds that one may ask for. `answer(entry)` takes the
    result of a command without an id.
    """

    def __init__(self, port, inbox, answer, log, cap, longest):
        self.longest = longest
        self.port = port
        self.inbox = inbox
        self.answer = answer
        self.log = log
        self.cap = cap
        self.spent = 0  # ms in handlers

    def act(self, wake, room):
        """Run what can be run now, for as long as there is `room()`. True where anything was settled."""
        settled = False
        while len(self.inbox.waiting) and room():
            index, number, payload = self.inbox.head()
            payload = payload or b""  # flash that has lost it: then it is no JSON
            command = codec.Command(crc32(payload))
            status = why = None
            try:
                command.parse(payload)
                handler = self.inbox.find(command.do)
                if handler is None:
                    raise ProtocolError("unknown command")
                args = codec.check_args(handler.spec, command.args)
                if handler.limit > self.longest:
                    raise ProtocolError("its limit of %s s does not fit into a wake" % handler.limit)
            except ProtocolError as e:  # or the app has changed since it was accepted
                started = self.inbox.ever_started(index, number)
                status, why = protocol.INTERRUPTED if started else protocol.REJECTED, e.reason
            now = self.port.time()
            late = command.exp is not None and now is not None and command.exp <= now
            if status is None and late and not self.inbox.ever_started(index, number):
                status = protocol.EXPIRED
            value = None
            if status is None:
                began = self.port.ms()
                if began + handler.limit * 1000 > self.cap:
                    break
                self.inbox.start(index, number)
                status, value, why = self._run(wake, handler, args)
                self.spent += self.port.ms() - began
            self._finish(index, number, command, status, value, why)
            settled = True
        return settled

    def _run(self, wake, handler, args):
        value = why = None
        status = protocol.SUCCEEDED
        wake.start(handler.limit)
        try:
            value = handler.function(wake, **args)
        except Overrun:
            status = protocol.INTERRUPTED
        except (Exception, SystemExit) as e:
            status, why = protocol.FAILED, describe(e)
        if wake.stop() or status == protocol.INTERRUPTED:
            return protocol.INTERRUPTED, None, "went past its limit of %s s" % handler.limit
        if not codec.fits(value, handler.most):
            return status, None, "done, but its value is no JSON of at most %d bytes" % handler.most
        return status, value, why

    def _finish(self, index, number, command, status, value, why):
        self.log("result", id=command.id, do=command.do, status=status, why=why)
        detail = codec.why_detail(why) if why is not None else codec.value_detail(value)
        self.inbox.finish(index, number, status, detail)
        if index == UNNAMED:
            self.answer(codec.result(status, None, command.crc, True, detail, command.do))
