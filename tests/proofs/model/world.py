"""A world: one device, its broker, the ledgers and relays; the actions of a schedule, and the oracle.

Modelled: any interleaving of device, broker and relay steps with cuts, lost links, lost sessions, brokers that forget
or go back in time, relay crashes, a second relay and ledger, backup and restore, wiped flash, a changed app, expiry;
a second device that lies to the ledger, and a broker that withholds reports and repeats what was said long ago.
The oracle sees every effect. A failure begins with the number of its check:
1 done twice, 2 the ledger lies, 3 never settled or never quiet, 4 telemetry lost or doubled, 5 needless work without
faults, 6 order or `after`, 7 the owner is locked out (a fresh command at the end does not succeed).
"""

import copy
from collections import Counter

from proofs.model.device import Device
from proofs.model.ledger import EVIL, ME, Ledger
from proofs.model.relay import Relay
from proofs.model.wire import LEDGERS, Broken, Broker

ROUNDS = 24  # quiet wakes at the end, in which everything has to be settled


class World:
    """Everything that a schedule acts on. `rules` are those that are kept."""

    stat: Counter[str]
    published: Counter[int]
    ran: Counter[int]
    effects: Counter[int]

    def __init__(self, cfg, rules):
        self.cfg, self.rules = cfg, frozenset(rules)
        self.now, self.t, self.uids, self.renames, self.restores, self.quiet = 1, 0, 0, 0, 0, False
        self.foreign, self.lies, self.hearing = 0, 0, ME
        self.stat, self.published, self.ran, self.effects = (Counter() for _ in range(4))
        self.app_version, self.app_out, self.conns, self.records = 0, False, [], {}
        self.inject, self.steps, self.length = {}, 0, 0
        self.broker, self.dev = Broker(self), Device(self)
        self.dbs = [Ledger(self, "A")] + ([Ledger(self, "B")] if cfg["two_ledgers"] else [])
        self.relays = [Relay(self, self.dbs[0], "r0")]
        if cfg["two_ledgers"]:
            self.relays.append(Relay(self, self.dbs[1], "rB"))
        if cfg["two_relays"]:
            self.relays.append(Relay(self, self.dbs[0], "r1"))
        for db in self.dbs:
            db.states[ME] = self.dev.flash.state
            db.lease = next(r.cid for r in self.relays if r.db is db)

    def on(self, rule):
        return rule in self.rules

    def tick(self):
        self.t += 1
        return self.t

    def uid(self):
        self.uids += 1
        return self.uids

    def hear(self, db, topic, p, session):
        """A relay takes a message in. What another device says touches no command of this one."""
        if topic != "up/evil":
            return db.hear(ME, topic, p, session)
        before = [self.seen(r) for r in db.rows if r.device == ME]
        db.hear(EVIL, *p, session)
        for was, r in zip(before, (r for r in db.rows if r.device == ME), strict=True):
            if was != self.seen(r):
                raise Broken(f"2: another device's word made #{r.uid} {r.id} of {was[0]} {r.status}")

    @staticmethod
    def seen(r):
        return r.status, r.guess, r.void, r.need, r.claimed, r.id

    def given_up(self, r, again):
        """A command is called unknown, for the device has another state. `again`: one that it had before."""
        if again and r.device == ME and r.id[0] == self.dev.flash.state and not self.restores:
            raise Broken(f"2: #{r.uid} {r.id} is given up by a report of a state that was left")

    def shown(self, db, device, state, wake):
        """A report counts: is it newer than the last one that did?"""
        if device == ME and state == db.states[ME] and wake < db.reported and not self.restores:
            raise Broken(f"2: the ledger shows wake {wake} of {state}, and has known of wake {db.reported}")
        db.reported = wake

    def lie(self, what, pick):
        """What a device with a credential of its own may say; it knows every name, and no key."""
        for db in self.dbs:
            self.lies += 1
            rows = [r for r in db.rows if r.id]
            for name in sorted(set(db.names.values())):
                state = "E1" if pick % 2 else db.state
                p = {"id": (state, name, 1 + pick % 4), "status": "unknown", "final": True, "crc": 0, "value": None}
                if what == "end":
                    windows = {name: {"high": 50 + self.lies, "status": {}, "crc": {}}}
                    p = {"state": state, "wake": self.lies, "present": False, "drained": True, "acked": 0}
                    p.update(fence_dead=False, windows=windows)
                elif what == "crc" and rows:
                    p.update(id=rows[pick % len(rows)].id, status="succeeded")
                leaf = "up/end" if what == "end" else "up/result"
                p["why"] = "forgotten" if what == "forgotten" else None
                self.broker.route("up/evil", (leaf, p), 1, None)

    def effect(self, p, dev):
        self.effects[p["uid"]] += 1
        rows = {r.uid: r for db in self.dbs for r in db.rows}
        r = rows.get(p["uid"])
        if r and r.after in rows and not rows[r.after].final and not self.restores:
            raise Broken(f"6: #{r.uid} ran before #{r.after} was settled")
        if self.effects[p["uid"]] > 1 and not p["repeatable"]:
            raise Broken(f"1: effect of #{p['uid']} {p['id']} happened twice")
        f = dev.flash
        if p["do"] == "resend":
            low, high = p["arg"]
            have = [x for x in f.ring if low <= x[0] <= high]
            dev.send_telemetry(have)
            return "succeeded", [n for n in range(low, high + 1) if n not in {x[0] for x in have} and n < f.next]
        if p["do"] == "report":
            return "succeeded", f.wake
        if p["do"] == "forget" and p["arg"] in f.windows and p["arg"] != p["id"][1]:
            dev.forget(p["arg"])
        return p["outcome"], f"value{p['uid']}"

    def act(self, a):
        """One action of a schedule; one that is not enabled does nothing."""
        kind, *x = a
        b, d, db = self.broker, self.dev, self.dbs[0]
        live = [c for c in self.conns if c.open]
        relay = self.relays[x[0]] if kind in ("relay", "rkill", "roff", "lease") and x[0] < len(self.relays) else None
        if kind == "wake" and d.gen is None:
            d.gen = d.wake()
            d.step()
        elif kind == "dev" and d.gen and not (d.wait == "wait" and not d.conn.down and d.conn.open):
            d.step()
        elif kind == "timeout" and d.gen and d.wait == "wait" and not d.conn.down:
            d.step("timeout")
        elif kind == "brk":
            for c in [c for c in live if c.up and c.cid == x[0]][:1]:
                b.step(c)
        elif kind == "trickle":
            b.trickle(x[0])
        elif kind == "dead":
            for c in [c for c in live if not c.alive and c.cid == x[0]][:1]:
                c.open = False
                c.up.clear()
        elif kind == "relay" and relay and not relay.off:
            relay.step(x[1])
        elif kind == "send":
            db = self.dbs[x[0] % len(self.dbs)]
            repeatable, outcome, exp, after, version, arg = x[1:]
            mine = (r.uid for r in reversed(db.rows) if r.do == "do" and r.device == ME)
            before = next(mine, None) if after else None
            db.send(
                repeatable=repeatable,
                outcome=outcome,
                exp=self.now + exp if exp else None,
                after=before,
                version=version,
                arg=arg,
            )
        elif kind == "cancel":
            rows = [r for r in db.rows if r.do == "do" and r.device == ME]
            if len(rows) >= x[0]:
                db.withdraw(rows[-x[0]], "cancelled")
        elif kind == "other":
            self.dbs[x[0] % len(self.dbs)].send(device=EVIL)
        elif kind == "lie":
            self.lie(*x)
        elif kind == "hold":
            b.hold = True
        elif kind == "late" and b.tape:
            said = b.held or b.tape if x[0] < 0.5 else b.tape
            topic, p = said[int(2 * x[0] % 1 * len(said))]
            b.route(topic, copy.deepcopy(p), 1, None)
        elif kind == "prune":
            db.prune()
        elif kind == "forget":
            self.forget(db)
        elif kind == "time":
            self.now += x[0]
        elif kind == "cut":
            d.cut()
        elif kind == "wipe":
            d.cut()
            d.wipe()
        elif kind == "app":
            self.app_version = 1
        elif kind == "out":
            self.app_out = not self.app_out
        elif kind == "net" and d.conn:
            d.conn.open = False
            d.conn.down.clear()
        elif kind == "snap":
            b.snapshot()
        elif kind == "crash":
            b.crash(x[0])
        elif kind == "lose":
            b.lose(x[0])
        elif kind == "rkill" and relay:
            relay.kill()
        elif kind == "roff" and relay:
            relay.kill()
            relay.off = x[1]
        elif kind == "lease" and relay:
            relay.db.lease = relay.cid
        elif kind == "backup":
            db.backup = copy.deepcopy({k: v for k, v in db.__dict__.items() if k not in ("world", "backup")})
        elif kind == "restore" and db.backup:
            for r in self.relays:
                r.kill() if r.db is db else None
            db.__dict__.update(copy.deepcopy(db.backup))
            self.restores += 1
        self.conns = [c for c in self.conns if c.open]

    def forget(self, db):
        """The owner forgets a name that no database uses any more."""
        for name in self.dev.flash.windows:
            if name not in [d.name for d in self.dbs] and not any(
                r.do == "forget" and r.arg == name and not r.final for r in db.rows
            ):
                db.send(do="forget", arg=name, repeatable=True)
                break

    def settle(self):
        """Run everything but timeouts and wakes until nothing moves."""

        def tap():
            self.steps += 1
            for a in self.inject.get(self.steps, ()):
                self.act(a)

        for _ in range(4000):
            moved = False
            for c in list(self.conns):
                if not c.alive and c.open:
                    c.open, moved = False, True
                if c.open and c.up:
                    self.broker.step(c)
                    moved = True
                    tap()
            for i, r in enumerate(self.relays):
                if not r.off and r.busy():
                    self.act(("relay", i, "in"))
                    moved = True
                    tap()
            d = self.dev
            if d.gen and not (d.wait == "wait" and not d.conn.down and d.conn.open):
                d.step()
                moved = True
                tap()
            moved = moved or any(self.broker.trickle(c.cid) for c in self.conns)
            if not moved:
                if not (d.gen and d.wait == "wait"):
                    return
                d.step("timeout")
            self.conns = [c for c in self.conns if c.open]
        raise Broken("3: does not come to rest")

    def rounds(self, n):
        last = []
        for _ in range(n):
            before = self.stat["published"]
            self.settle()
            self.act(("wake",))
            self.settle()
            self.now += 4
            last.append(self.stat["published"] - before)
            for db in self.dbs:  # the owner makes room for a fifth ledger
                if (
                    db.name not in self.dev.flash.windows
                    and len(self.dev.flash.windows) >= LEDGERS
                    and any(not r.final for r in db.rows if r.device == ME)
                ):
                    if self.foreign:
                        raise Broken("7: locked out: the device knows as many ledgers as it can, by another's word")
                    self.forget(db)
        return last

    def finish(self):
        self.quiet, self.app_out = True, False
        if self.cfg["relay_dies"]:
            self.relays = [r for r in self.relays if r.cid != "r1"]
        for r in self.relays:
            r.off, r.db.lease = False, r.cid
        self.check(self.rounds(ROUNDS))
        if not self.cfg["faultfree"]:
            probes = []
            for k in range(2):  # the first may be the one that finds out
                probes = [db.send(arg=9 + k) for db in self.dbs]
                self.rounds(8)
            for p in probes:
                if p.status != "succeeded" or self.effects[p.uid] != 1:
                    raise Broken(f"7: locked out: probe #{p.uid} {p.id} is {p.status}, effects {self.effects[p.uid]}")
            self.check([])

    def check(self, last):
        for r in (r for db in self.dbs for r in db.rows if r.device == ME):
            e = self.effects[r.uid]
            what = f"#{r.uid} {r.do} {r.id}: ledger says {r.status}, effects {e}"
            if not r.final:
                raise Broken("3: never settled: " + what)
            if r.do != "do":
                continue
            if r.status == "unknown" and r.wiped and r.id[0] == self.dev.flash.state:
                raise Broken("2: given up by a report of a state that the device has left: " + what)
            if r.status in ("succeeded", "failed") and not (e and r.outcome == r.status):
                raise Broken("2: " + what)
            if r.status in ("expired", "cancelled", "rejected") and e:
                raise Broken("2: " + what)
            if r.status == "interrupted" and not self.ran[r.uid]:
                raise Broken("2: " + what)
            if self.cfg["faultfree"] and r.status in ("unknown", "rejected", "interrupted"):
                raise Broken("5: fault-free, but " + what)
        if any(last[-4:]):
            raise Broken(f"3: still publishing {last}")
        f, db = self.dev.flash, self.dbs[0]
        for state, n in self.records:
            if state == f.state and n <= f.acked and (state, n) not in db.stored and (state, n) not in db.gone:
                raise Broken(f"4: record {state},{n} neither stored nor counted")
        twice = [u for u, n in self.published.items() if n > 1]
        if self.cfg["faultfree"] and (twice or self.stat["resends"]):
            raise Broken(f"5: fault-free, but published twice {twice}, resends {self.stat['resends']}")
