"""A desk with handlers, and the runner of its inbox: what test_runner.py and test_runner_faults.py share."""

import json

from desk import Desk, Port

from dormouse.app import Context, Handler
from dormouse.ports import posix  # which gives CPython the print_exception that the boards have
from dormouse.runner import Runner

BOARD = posix.Port
CAP = 600000


class Bench:
    """A desk with handlers that note what they were called with, and the work on its inbox."""

    def __init__(self):
        self.desk = Desk()
        self.port = Port()
        self.ran: list = []
        self.answers: list = []
        self.log: list = []
        add = self.desk.handlers
        add["once"] = Handler(self._note, 5, False, {})
        add["again"] = Handler(self._note, 5, True, {})
        add["takes"] = Handler(self._note, 5, False, {"n": "int", "s": ["str", "x"]})
        self.begin()

    def begin(self):
        """What a new wake makes."""
        inbox = self.desk.inbox
        self.work = Runner(self.port, inbox, self.answers.append, self._log, self.port.now + CAP, 580)
        self.wake = Context(self.port, {"watchdog": 30}, self._log)

    def _note(self, wake, **args):
        self.ran.append(args)

    def _log(self, event, **fields):
        self.log.append((event, fields))

    def handler(self, name, function, limit=5, **more):
        self.desk.handlers[name] = Handler(function, limit, False, {}, **more)

    def act(self, *payloads):
        for data in payloads:
            self.desk.offer(data)
        return self.work.act(self.wake, self.desk.inbox.details.room)

    def said(self, number, ledger="l"):
        """The status of a number, and what its result says besides."""
        w = self.desk.window(ledger)
        detail = self.desk.inbox.details.get(w.index, number)
        return self.desk.status(number, ledger), json.loads(b"{" + detail[1:] + b"}")


def failing(error):
    def fail(wake):
        raise error

    return fail
