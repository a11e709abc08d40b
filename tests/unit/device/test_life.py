"""The life of a command, row by row: the table in inbox.py is what the device does."""

import json

from desk import STATE, Desk, Port, payload, tombstone

from dormouse import inbox
from dormouse.app import Context
from dormouse.results import Results
from dormouse.runner import Runner
from dormouse.window import STALE

LIFE = (  # known, what comes or happens, becomes, the device says
    ("new", "a command", "accepted", ""),
    ("new", "a command that it can't take", "done", "rejected"),
    ("new", "a tombstone", "done", "cancelled"),
    ("accepted", "a command", "accepted", ""),
    ("accepted", "a tombstone", "done", "cancelled"),
    ("accepted", "its turn", "started", ""),
    ("accepted", "its turn, overdue", "done", "expired"),
    ("accepted", "its turn, unknown by now", "done", "rejected"),
    ("started", "a command", "started", ""),
    ("started", "a tombstone", "started", "running"),
    ("started", "its handler returns", "done", "succeeded"),
    ("started", "a boot", "done", "interrupted"),
    ("started", "a boot, repeatable", "started", ""),
    ("started", "the third boot, repeatable", "done", "interrupted"),
    ("done", "a command", "done", "succeeded"),
    ("done", "PUBACK of its result", "told", ""),
    ("told", "a command", "done", "succeeded"),
    ("told", "a tombstone", "done", "succeeded"),
    ("stale", "a command", "stale", "unknown"),
    ("stale", "a tombstone", "stale", "unknown"),
)


class Session:
    """Takes all that is published."""

    def __init__(self):
        self.said: list = []
        self.confirmed: list = []

    def publish(self, leaf, pieces, confirmed):
        self.said += json.loads(b"".join(pieces))
        self.confirmed.append(confirmed)


class Life:
    """Command number 1 of a device, brought to what is `known` of it; `repeatable` or not."""

    def __init__(self, known, repeatable, exp):
        self.desk = Desk()
        self.do = "again" if repeatable else "once"
        self.data = payload(1, self.do, more=',"exp":%d' % exp if exp else "")
        self.during: list = []
        for name in ("once", "again"):
            self.desk.handlers[name].function = self._handler
        self.desk.offer(payload(300 if known == "stale" else 2, ledger="l" if known == "stale" else "other"))
        self.desk.inbox.finish(0, 300 if known == "stale" else 2, "cancelled")
        if known in ("accepted", "started", "done", "told"):
            self.desk.offer(self.data)
            self.desk.inbox.commit()
        if known == "started":
            self.desk.inbox.start(1, 1)
        if known in ("done", "told"):
            self.desk.run()
            self.desk.inbox.commit()
        self._send()  # what came before is told
        for confirmed in self.session.confirmed:
            confirmed[0](*confirmed[1:])
        if known == "done":
            self.desk.window().owe(1)

    def _handler(self, context):
        self.during.append(self.known())

    def _send(self):
        results = Results(self.desk.inbox)
        for answer in self.desk.answers:
            results.refuse(answer)
        self.session = Session()
        while results.send(self.session):
            pass

    def known(self):
        """What is known of it now."""
        w = self.desk.window()
        code = w.code(1) if w else 0
        if code in (0, STALE):
            return "stale" if code else "new"
        if code == 1:
            return "started" if self.desk.inbox.ever_started(w.index, 1) else "accepted"
        return "done" if w.rank(1) else "told"

    def act(self, unix=None):
        port = Port()
        port.unix = unix
        runner = Runner(port, self.desk.inbox, self.desk.answers.append, print, 600000, 580)
        runner.log = self.desk._log
        runner.act(Context(port, {"watchdog": 30}, None), lambda: True)

    def happen(self, what):
        """Returns what the device says then of this command."""
        desk = self.desk
        if what == "a command":
            desk.offer(self.data)
        elif what == "a command that it can't take":
            desk.offer(payload(1, "nobody's"))
        elif what == "a tombstone":
            desk.offer(tombstone(1))
        elif what == "its turn":
            self.act()
            return self.during.pop(), ""
        elif what == "its turn, overdue":
            self.act(2000)
        elif what == "its turn, unknown by now":
            del desk.handlers[self.do]
            desk.reboot()
            self.act()
        elif what == "its handler returns":
            desk.inbox.finish(1, 1, "succeeded")
        elif what.endswith("repeatable") or what == "a boot":
            boots = 3 if what[:9] == "the third" else 1
            for boot in range(boots):
                if boot:
                    desk.inbox.start(1, 1)
                desk.boot()
        elif what == "PUBACK of its result":
            self._send()
            for confirmed in self.session.confirmed:
                confirmed[0](*confirmed[1:])
            return self.known(), ""
        known = self.known()
        self._send()
        return known, ",".join([e["status"] for e in self.session.said if e["id"] == STATE + "-l.1"])


def test_each_row_is_what_happens():
    for known, what, becomes, said in LIFE:
        life = Life(known, what.endswith("repeatable"), 1000 if what.endswith("overdue") else None)
        assert life.known() == known, (known, what)
        assert life.happen(what) == (becomes, said), (known, what)


def test_the_table_has_these_rows():
    """MicroPython keeps no docstrings."""
    if getattr(inbox, "__doc__", None):
        rows = [[cell.strip() for cell in line.split("|")] for line in inbox.__doc__.split("\n") if "|" in line]
        several = [(known, what, becomes, said) for known, whats, becomes, _, said in rows[1:] for what in _each(whats)]
        assert tuple(several) == LIFE


def _each(whats: str) -> list[str]:
    """What stands in one cell: of two with an article, each."""
    return whats.split(", ") if ", a " in whats else [whats]
