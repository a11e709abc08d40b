"""Running what waits in the inbox: in order, each within its limit, all within the wake's cap.

Must stay true: a handler runs only after `started` is on flash; whatever it raises ends that command alone; what no
longer fits into this wake stays in the inbox for the next, and so does what waits for a program that is left out, until
its place is needed.
"""

from dormouse import codec, protocol
from dormouse.app import Overrun
from dormouse.inbox import ATTEMPTS, UNNAMED
from dormouse.log import raised

_UNRUN = ("generator", "coroutine", "async_generator")  # kinds of value that show that nothing has run yet


class Runner:
    """`cap`: port.ms() that no handler may go past; `longest`: seconds that one may ask for. `refuse(entry)` takes the
    result of a command without an id.
    """

    def __init__(self, port, inbox, refuse, log, cap, longest):
        self.longest = longest
        self.port = port
        self.inbox = inbox
        self.refuse = refuse
        self.log = log
        self.cap = cap
        self.spent = 0  # ms in handlers
        self.left_out = False  # the program is not there, or not all of it: it could not be imported

    def act(self, context, room):
        """Run what can be run now, for as long as there is `room()`. True where anything was settled."""
        settled = False
        held = 0  # of the first that wait, how many wait for the program
        while len(self.inbox.waiting) > held and room():
            self.inbox.spare()
            index, number = self.inbox.next(held)
            do, handler, args, exp, crc = self.inbox.head(index, number)
            started = self.inbox.ever_started(index, number)
            status = why = None
            detail = b""
            if started and self.inbox.started[2] >= ATTEMPTS:  # one without an id: no window owes its result
                why = "cut off %d times" % ATTEMPTS
            elif handler is None:
                why = args
                if self.left_out and not started and do not in protocol.STANDARD and not self.inbox.full:
                    held += 1
                    continue
            elif handler.function is None:
                return True  # `update`, from flash: it is loaded where the stack is not deep
            elif handler.limit > self.longest:
                why = "its limit of %s s does not fit into a wake" % handler.limit
            elif exp is not None and not started:
                now = self.port.time()
                if now is not None and exp <= now:
                    status = protocol.EXPIRED
            if why is not None:
                status = protocol.INTERRUPTED if started else protocol.REJECTED
            if status is None:
                began = self.port.ms()
                if began + handler.limit * 1000 > self.cap:
                    break
                self.inbox.start(index, number)
                status, detail, why = self._run(context, handler, args)
                self.spent += self.port.ms() - began
            self.log("result", id=self.inbox.id_of(index, number), do=do, status=status, why=why)
            if why is not None:
                detail = codec.why_detail(why)
            self.inbox.finish(index, number, status, detail)
            if index == UNNAMED:
                self.refuse(codec.result(status, None, crc, True, detail, do))
            settled = True
        return settled

    def _run(self, context, handler, args):
        """(status, detail of its value, why)."""
        why = None
        status, over, detail = protocol.SUCCEEDED, False, b""
        context.start(handler.limit)
        try:
            value = handler.function(context, **args)
            kind = type(value).__name__
            if kind in _UNRUN:
                value = None
                status, why = protocol.FAILED, "it returned a %s, which is not run: write a plain function" % kind
            detail = codec.value_detail(value, handler.most)
        except Overrun:
            over = True
        except BaseException as e:
            status, why = protocol.FAILED, raised(e)
        if context.stop() or over:
            return protocol.INTERRUPTED, b"", "went past its limit of %s s" % handler.limit
        if detail is None:
            return status, b"", "done, but its value is no JSON of at most %d bytes" % handler.most
        return status, detail, why
