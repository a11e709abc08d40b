"""The ledger: one database, of which each method is one transaction.

Modelled: numbering, "publishing", cancel and expiry, tombstones, settling by answers and their CRC, Missing,
session_present=0, new names of a restored ledger, `after`, telemetry gaps, lease, backup and restore, pruned reports; a
second device as far as the ledger sees it.
Not modelled: isolation levels of real databases, the host's own clock going wrong.
"""

from typing import Any

from proofs.model.wire import FINAL, STATES, WINDOW, Broken

ME, EVIL = "dev", "evil"  # the device that is modelled, and another one of the same ledger, whose words are lies


class Row:
    """One command; `uid` is its name in the ledger, `id` its wire id (state, ledger, number)."""

    id: Any
    exp: Any
    after: int | None
    void: str | None
    by: str | None

    def __init__(self, uid, **k):
        self.uid, self.id, self.status, self.guess, self.alone = uid, None, "queued", False, False
        self.claimed, self.by, self.session, self.puback = 0, None, 0, 0
        self.wake, self.need, self.void, self.crcs = -1, False, None, []
        self.do, self.arg, self.repeatable, self.outcome = "do", 0, False, "succeeded"
        self.exp, self.after, self.version, self.device = None, None, 0, ME
        self.wiped = False
        self.__dict__.update(k)

    @property
    def final(self):
        return self.status in FINAL or self.status == "unknown"


class Ledger:
    """One database."""

    lease: str | None
    states: dict[str, Any]  # of each device, the present one
    backup: Any

    def __init__(self, world, name):
        self.world, self.base = world, name
        self.names = {ME: name, EVIL: f"{name}-evil" if world.on("name_per_device") else name}
        self.counter, self.rows, self.states = {}, [], {EVIL: "E1"}
        self.left: dict[str, list[str]] = {ME: [], EVIL: []}  # the newest states that each device has left
        self.wakes, self.reported = {}, 0
        self.had = set()  # every state that was ever present
        self.seq, self.reports, self.ends = 0, {}, {}
        self.stored, self.gone, self.lease, self.backup = {}, set(), None, None
        self.mark = {}  # by state: up to here each record is stored or counted

    def tick(self):
        self.seq += 1
        return self.seq

    @property
    def name(self):
        """The name for the device that is modelled."""
        return self.names[ME]

    @property
    def state(self):
        return self.states[ME]

    def rename(self, device):
        """A new name, because of what this device has said."""
        self.world.renames += 1
        alone = self.world.on("name_per_device")
        self.world.foreign += device != ME and not alone
        for one in [device] if alone else self.names:
            self.names[one] = f"{self.base}{self.world.renames}"
        for r in self.rows:
            if r.device != device and alone:
                continue
            if not r.final and not self.world.on("keep_id"):
                r.id, r.claimed, r.puback = None, 0, 0
                self.number(r)
            elif r.alone and r.status in FINAL and r.guess and self.world.on("restored_unknown"):
                r.status = "unknown"

    def number(self, r, state=None):
        k = (state or self.states[r.device], self.names[r.device])
        self.counter[k] = self.counter.get(k, 0) + 1
        r.id = (*k, self.counter[k])

    def send(self, **k):
        r = Row(self.world.uid(), **k)
        if self.world.on("number_at_send"):
            self.number(r)
        self.rows.append(r)
        return r

    def of(self, i):
        return next((r for r in reversed(self.rows) if r.id == i), None)

    def mine(self, r):
        """May the ledger alone cancel or expire it?"""
        return not r.claimed or not self.world.on("tombstones")

    def withdraw(self, r, why):
        if r.final:
            return
        if self.mine(r):
            r.status, r.guess, r.alone = why, True, True
        elif not r.void:
            r.void, r.need = why, True

    def next(self, relay):
        """The row that this relay has to publish now, if any."""
        w = self.world
        if self.lease != relay.cid and w.on("lease"):
            return None
        for r in self.rows:
            if r.exp and r.exp <= w.now:
                self.withdraw(r, "expired")
        unsettled = [r.id for r in self.rows if r.id and r.claimed and not r.final]
        for r in self.rows:
            if r.final or not (r.need or not r.claimed):
                continue
            k = (self.states[r.device], self.names[r.device])
            i = r.id or (*k, self.counter.get(k, 0) + 1)
            if (
                w.on("host_window")
                and not (r.do == "forget" and w.on("forget_first"))
                and any(u[:2] == i[:2] and u[2] <= i[2] - WINDOW for u in unsettled)
            ):
                continue
            if r.after and not r.claimed and w.on("after_host"):
                a = next((q for q in self.rows if q.uid == r.after), None)
                if a and not a.final:
                    continue
            return r
        return None

    def claim(self, r, relay):
        """Commits "publishing" with the number; returns the payload."""
        if not r.id:
            self.number(r)
        r.claimed, r.by, r.need = r.claimed or self.tick(), relay.cid, False
        if r.status == "queued":
            r.status = "publishing"
        r.session = relay.session
        p = {
            "id": r.id,
            "uid": r.uid,
            "do": r.do,
            "arg": r.arg,
            "repeatable": r.repeatable,
            "exp": r.exp,
            "version": r.version,
            "outcome": r.outcome,
            "void": r.void,
        }
        p["crc"], p["first"] = self.crc(r, r.void), r.claimed
        if p["crc"] not in r.crcs:
            r.crcs.append(p["crc"])
        return p

    def crc(self, r, void):
        name = (r.uid,) if self.world.on("name_in_bytes") else ()
        return name + ((r.id, void) if void else (r.id, r.do, r.arg, r.repeatable, r.exp, r.version, r.outcome))

    def ours(self, r, crc):
        """v3: bytes that it sent; with numbers given at send: bytes of this command or of its tombstones."""
        if self.world.on("number_at_send"):
            return crc in [self.crc(r, void) for void in (None, "cancelled", "expired")]
        return crc in r.crcs

    def settle(self, r, status, guess=False):
        if not r.final or (r.guess and self.world.on("late_answer")):
            r.status, r.guess = status, guess

    # ---- upward, each stored before it is acknowledged
    def hear(self, device, leaf, p, session):
        """One message of a device."""
        if leaf == "up/wake":
            self.report(device, p, session)
        elif leaf == "up/result":
            self.result(device, p)
        elif leaf == "up/telemetry":
            self.telemetry(p)
        else:
            self.end(device, p, "qos0", session)

    def result(self, device, p):
        r, on = self.of(p["id"]), self.world.on
        if p["why"] == "forgotten" and p["id"][1] == self.names[device] and on("forgotten_rename"):
            self.rename(device)
        if not r or r.device != device or not p["final"]:
            return
        if not self.ours(r, p["crc"]) and on("crc_check"):
            if r.id[1] == self.names[device] and on("crc_rename"):
                self.rename(device)
            return self.settle(r, "rejected")
        if r.do == "resend" and p["value"]:
            self.gone |= {(r.id[0], n) for n in p["value"]}
        asked = r.do == "report" and not r.final and p["status"] == "succeeded"
        self.settle(r, p["status"], guess=p["status"] == "unknown")
        if asked and p["value"]:
            self.answered(device, r, p["value"])

    def report(self, device, p, session=0):
        state, wake = p["state"], p["wake"]
        if self.may_be_left(device, state) or (wake <= self.wakes.get(state, 0) and self.world.on("wakes_rise")):
            if (state, wake) not in self.reports and self.world.on("stale_asks"):
                self.ask(device, state)
            return
        self.wakes[state] = max(wake, self.wakes.get(state, 0))
        self.reports[state, wake] = self.tick()
        self.world.shown(self, device, state, wake)
        self.enter(device, state)
        if p["end"]:
            self.end(device, p["end"], "report", session)

    def enter(self, device, state):
        """The device has this state now."""
        if state != self.states[device]:
            left = [one for one in (*self.left[device], self.states[device]) if one not in (state, None)]
            self.left[device] = left[-STATES:]
            self.states[device] = state
        for r in self.rows:
            if r.device == device and r.id and r.id[0] != state and not r.final:
                self.settle(r, "unknown", guess=True)
                r.wiped = True
                self.world.given_up(r, again=state in self.had)
        self.had.add(state)

    def ask(self, device, state):
        """Who speaks under this state: the device itself, or somebody who repeats it? It answers with its wake."""
        for r in self.rows:
            if r.do == "report" and r.id[0] == state and not r.final:
                r.need = True
                return
        r = self.send(do="report", device=device, repeatable=True)
        r.id = None
        self.number(r, state)

    def answered(self, device, r, wake):
        """The device is alive in this state."""
        state = r.id[0]
        back = state != self.states[device]
        self.wakes[state] = self.reported = wake
        self.enter(device, state)
        for r in self.rows:
            given_up = r.device == device and r.id and r.id[0] == state and r.wiped and r.guess
            if back and given_up and self.world.on("back_reopens"):
                r.status, r.guess, r.need = "sent", False, True

    def may_be_left(self, device, state):
        """Is this a state that the device has left? Where some are forgotten, each may be one but the present."""
        left = self.left[device]
        forgotten = len(left) == STATES and state != self.states[device] and self.world.on("forgotten_left")
        return (state in left or forgotten) and self.world.on("state_left")

    def prune(self):
        """Old reports and end records are deleted; the newest states that were left, and their highest wakes, stay."""
        old = sorted(self.reports, key=lambda k: self.reports[k])[:-2]
        for k in old:
            self.reports.pop(k)
            self.ends.pop(k, None)

    def end(self, device, e, via, session=0):
        on, k = self.world.on, (e["state"], e["wake"])
        if self.may_be_left(device, e["state"]):
            return
        high = e["windows"].get(self.names[device], {"high": 0})["high"]
        if high > self.counter.get((e["state"], self.names[device]), 0) and on("report_rename"):
            self.rename(device)
        seen = self.ends.setdefault(k, set())
        if via in seen:
            return
        if not seen:
            for r in list(self.rows):
                if r.device == device and r.id and r.id[0] == e["state"]:
                    self.judge(r, e, session)
        seen.add(via)
        if via == "report" or not on("tail_report"):
            gaps = self.gaps(e["state"], e["acked"])
            if (
                device == ME
                and gaps
                and e["state"] == self.state
                and not any(r.do == "resend" and not r.final for r in self.rows)
            ):
                self.send(do="resend", arg=(gaps[0], gaps[-1]), repeatable=True)
                self.world.stat["resends"] += 1

    def gaps(self, state, acked):
        """What is missing up to `acked`; the mark moves up to where nothing is."""
        mark = self.mark.get(state, 0)
        there = {n for (s, n) in {*self.stored, *self.gone} if s == state}
        gaps = [n for n in range(mark + 1, acked + 1) if n not in there]
        end = max({mark, acked, *there})
        first = next(n for n in range(mark + 1, end + 2) if n not in there)
        self.mark[state] = first - 1 if gaps or self.world.on("mark_stops") else end
        return gaps

    def judge(self, r, e, session):
        """What an end record says about one command."""
        on = self.world.on
        win = e["windows"].get(r.id[1], {"status": {}})
        status = win["status"].get(r.id[2])
        if on("once_per_wake") and r.wake >= e["wake"]:
            return
        if r.final and not (r.guess and (r.claimed or r.alone)):
            return
        if status in FINAL or (status and r.final):
            if not on("window_asks"):
                return self.settle(r, status)
            if r.final and on("reopen"):  # a guess that the device knows better
                r.status, r.guess, r.claimed = "sent", False, r.claimed or self.tick()
            if not r.final and r.claimed:
                r.wake, r.need = e["wake"], True
        elif status is None and r.claimed and not r.final:
            drained = e["drained"] or (e["fence_dead"] and on("fence_dead"))
            later = [
                t
                for (state, n), t in self.reports.items()
                if state == e["state"] and n <= e["wake"] and t > (r.puback or r.claimed)
            ]
            flying = on("connection_gone") and r.session == session
            missing = later and drained if r.puback else len(later) >= 2 and on("orphan") and not flying
            if missing or (not e["present"] and on("session_present")):
                r.wake, r.need = e["wake"], True

    def telemetry(self, p):
        for n, v in p["records"]:
            k = (p["state"], n)
            if n <= self.mark.get(p["state"], 0):
                continue
            if self.stored.get(k, v) != v:
                raise Broken(f"4: two records with key {k}")
            self.stored[k] = v
