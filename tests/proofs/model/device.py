"""The device: one wake, as a generator that a power cut may drop at any yield.

Modelled: first flight, fence (second fence, dead fence, orphaned fences, the silence behind one that is no proof),
drain in groups journalled before PUBACK, inbox limit, windows with status and CRC, tombstones, marks, attempts,
results, telemetry ring, end record, ledger slots and forget_ledger, wipe.
Not modelled: time inside a wake, Wi-Fi, TLS, signatures, limits of handlers, flash wear or corrupt flash (every
write is atomic), payload limits, `reset`, commands without an id.
"""

import copy
from typing import Any

from proofs.model.wire import FINAL, INBOX, LEDGERS, RING, TRIES, VALUES, WINDOW, Broken, Conn


class Flash:
    """What a device keeps over sleep and power cuts; a wiped one begins with a new state."""

    started: Any
    end: Any

    def __init__(self, state):
        self.state, self.wake, self.unfinished, self.windows, self.forgotten = state, 0, 0, {}, set()
        self.inbox, self.started, self.done, self.values, self.owed = [], None, {}, {}, []
        self.ring, self.next, self.acked, self.end, self.fence_works = [], 1, 0, None, True


class Device:
    """Its flash, and the wake that is under way."""

    flash: Flash
    gen: Any
    wait: str | None
    conn: Conn | Any
    unacked: dict[int, Any]
    told: set[Any]
    out: list[Any]

    def __init__(self, world):
        self.world, self.wipes = world, 0
        self.wipe()

    def wipe(self):
        self.wipes += 1
        self.flash, self.gen, self.wait, self.conn = Flash(f"S{self.wipes}"), None, None, None

    def cut(self):
        if self.conn:
            self.conn.alive = False
        self.gen = self.wait = None

    def step(self, signal=None):
        try:
            self.wait = self.gen.send(signal) if self.wait else next(self.gen)
        except StopIteration:
            self.gen = self.wait = None

    # ---- identity
    def key(self, p):
        return p["id"] if self.world.on("marks_ledger") else p["id"][2]

    def mark(self, i, status, crc=None):
        win = self.flash.windows[i[1]]
        win["status"][i[2]] = status
        if crc is not None:
            win["crc"][i[2]] = crc
        win["high"] = max(win["high"], i[2])
        for n in [n for n in win["status"] if n <= win["high"] - WINDOW]:
            del win["status"][n]
            win["crc"].pop(n, None)

    def settle(self, i, status, value=None):
        f = self.flash
        if i[1] not in f.windows:
            return
        self.mark(i, status)
        f.inbox = [p for p in f.inbox if p["id"] != i]
        if value is not None:
            f.values[i] = value
            for k in [k for k in f.values if k not in f.owed and k != i][: max(0, len(f.values) - VALUES)]:
                del f.values[k]
        f.owed.append(i)

    def ever_started(self, p):
        return (self.flash.started and self.flash.started[0] == self.key(p)) or self.key(p) in self.flash.done

    def forget(self, name):
        f = self.flash
        f.windows.pop(name, None)
        f.forgotten.add(name)
        for p in [p for p in f.inbox if p["id"][1] == name]:
            if f.started and f.started[0] == self.key(p):
                f.started = None
            f.inbox.remove(p)
        f.owed = [i for i in f.owed if i[1] != name]

    def accept(self, p):
        """One command or tombstone; the caller journals the group before it acknowledges."""
        f, on, (state, ledger, num) = self.flash, self.world.on, p["id"]

        def answer(status, final=True, crc=p["crc"], value=None, why=None):
            self.out.append({"id": p["id"], "status": status, "final": final, "crc": crc, "value": value, "why": why})

        if state != f.state:
            return answer("unknown" if on("refusal_unknown") else "rejected", why="state")
        if ledger in f.forgotten and on("forgotten_refused"):
            return answer("unknown" if on("refusal_unknown") else "rejected", why="forgotten")
        if ledger not in f.windows:
            if len(f.windows) >= LEDGERS:
                if not (p["do"] == "forget" and on("forget_unknown") and p["arg"] in f.windows):
                    return answer("rejected", final=not on("not_final"))
                self.forget(p["arg"])
            f.windows[ledger] = {"high": 0, "status": {}, "crc": {}}
        win = f.windows[ledger]
        if num in win["status"]:
            status = win["status"][num]
            if status in FINAL:
                crc = win["crc"].get(num) if on("crc_first") else p["crc"]
                answer(status, crc=crc, value=f.values.get(p["id"]))
            elif p["void"]:
                held = next(q for q in f.inbox if q["id"] == p["id"])
                if self.ever_started(held) and on("void_started"):
                    answer("running", final=False)
                else:
                    if f.started and f.started[0] == self.key(held):
                        f.started = None
                    self.settle(p["id"], p["void"])
        elif num <= win["high"] - WINDOW:
            answer("unknown" if on("refusal_unknown") else "rejected", why="stale")
        elif p["void"]:
            self.mark(p["id"], p["void"], p["crc"])
            f.owed.append(p["id"])
        elif self.world.app_out and p["do"] == "do":
            answer("rejected", final=not on("absent_open"))
        elif p["version"] > self.world.app_version:
            if on("reject_marked"):
                self.mark(p["id"], "rejected", p["crc"])
                f.owed.append(p["id"])
            else:
                answer("rejected")
        else:
            self.mark(p["id"], "pending", p["crc"])
            f.inbox.append(p)

    # ---- upward
    def publish(self, topic, p, what=None):
        self.mid += 1
        self.unacked[self.mid] = what
        self.conn.send(("pub", topic, 1, self.mid, p, None))

    def send_results(self):
        f = self.flash
        for i in f.owed:
            win = f.windows.get(i[1])
            if i not in self.told and win and win["status"].get(i[2]) in FINAL:
                self.told.add(i)
                self.publish(
                    "up/result",
                    {
                        "id": i,
                        "status": win["status"][i[2]],
                        "final": True,
                        "crc": win["crc"].get(i[2]),
                        "value": f.values.get(i),
                        "why": None,
                    },
                    ("result", i),
                )
        for answer in self.out:
            self.publish("up/result", answer)
        self.out = []

    def send_telemetry(self, records):
        for k in range(0, len(records), 3):
            batch = records[k : k + 3]
            self.publish("up/telemetry", {"state": self.flash.state, "records": batch}, ("telemetry", batch[-1][0]))

    def store(self, record):
        f = self.flash
        f.ring.append(record)
        f.next = record[0] + 1
        self.world.records[f.state, record[0]] = record[1]
        del f.ring[:-RING]

    # ---- one wake
    def wake(self):
        f, w, on = self.flash, self.world, self.world.on
        f.wake += 1
        f.unfinished += 1
        yield "flash"
        if f.started:  # found "started" at boot
            key, tries = f.started
            p = next((p for p in f.inbox if self.key(p) == key), None)
            if not (p and p["repeatable"] and tries < TRIES):
                if p:
                    f.done[key] = "interrupted"
                f.started = None
            yield "flash"
        record, stored = (f.next, f"v{w.tick()}"), on("telemetry_flush")
        if stored:
            self.store(record)
            yield "flash"
        if f.done:
            yield from self.fold({})
        self.unacked, self.out, self.told, self.mid = {}, [], set(), 0
        acked: Any = f.acked
        confirmed, present, rejoin, drained = [], [], 1, False
        while True:
            self.conn = c = Conn("dev")
            w.conns.append(c)
            self.unacked, self.told, nonce = {}, set(), (f.state, f.wake, rejoin)
            c.send(("connect",), ("sub", "down/"))
            self.publish("up/wake", {"state": f.state, "wake": f.wake, "end": copy.deepcopy(f.end)})
            self.send_results()
            self.send_telemetry([r for r in f.ring if r[0] > f.acked] + ([] if stored else [record]))
            fences, acted, late, back = 1, 0, f.unfinished > 3, False
            if not late:
                self.publish("down/fence", {"nonce": nonce})
            yield "sent"
            if not stored:
                self.store(record)
                stored = True
                yield "flash"
            while c.open:
                if c.down and len(f.inbox) < INBOX:
                    acks = []
                    while c.down and len(f.inbox) < INBOX:
                        kind, *a = c.down.popleft()
                        if kind == "connack":
                            present.append(a[0])
                        elif kind == "puback":
                            what, which = self.unacked.pop(a[0], None) or (None, None)
                            if what == "result":
                                confirmed.append(which)
                            elif what == "telemetry":
                                acked = max(acked, which)
                        elif a[1]["topic"] == "down/fence":
                            acks.append(a[0])
                            if a[1]["p"]["nonce"] == nonce:
                                back = f.fence_works = True
                                drained = not (w.cfg["overtakes"] and on("quiet"))
                        else:
                            acks.append(a[0])
                            self.accept(a[1]["p"])
                    yield "flash"  # the group is journalled, then acknowledged
                    if acks:
                        c.send(*[("ack", x) for x in acks])
                        yield "sent"
                    continue
                full = len(f.inbox) >= INBOX
                if full or drained or fences == 3:
                    if f.inbox and acted < 6:
                        acted, before = acted + 1, copy.deepcopy(f.windows)
                        yield from self.act()
                        self.send_results()
                        yield "sent"
                        if len(f.inbox) >= INBOX:
                            break
                        continue
                    if full:
                        break
                    self.send_results()
                    if not self.unacked and not c.down:
                        break
                if (yield "wait") == "timeout":
                    if drained or fences == 3:
                        break
                    if back:  # and silence since, which is taken for proof
                        drained = True
                        continue
                    if late:
                        late = False
                        self.publish("down/fence", {"nonce": nonce})
                        yield "sent"
                    elif not f.fence_works:
                        fences = 3
                    elif fences == 1:
                        fences = 2
                        self.publish("down/fence", {"nonce": nonce})
                        yield "sent"
                    else:
                        fences, f.fence_works = 3, False
                        yield "flash"
                elif not f.fence_works and not self.unacked and not c.down:
                    fences = 3
            if c.open or not rejoin:
                break
            rejoin, drained = rejoin - 1, False
        if not c.open:
            c.alive = False
            return
        f.owed, f.acked, f.unfinished = [i for i in f.owed if i not in confirmed], acked, 0
        f.end = {
            "state": f.state,
            "wake": f.wake,
            "present": all(present),
            "drained": drained,
            "fence_dead": not f.fence_works,
            "windows": copy.deepcopy(f.windows if on("end_windows") or not acted else before),
            "acked": f.acked if on("tail_acked") else f.next - 1,
        }
        yield "flash"
        c.send(("pub", "up/end", 0, 0, f.end, None), ("disconnect",))
        w.stat["wakes"] += 1

    def fold(self, values):
        f = self.flash
        for p in list(f.inbox):
            if self.key(p) in f.done:
                self.settle(p["id"], f.done[self.key(p)], values.get(p["id"]))
        yield "flash"
        f.done = {}
        yield "flash"

    def act(self):
        f, w = self.flash, self.world
        for p in list(f.inbox):
            if p["exp"] and w.cfg["clock"] and p["exp"] <= w.now and not self.ever_started(p):
                self.settle(p["id"], "expired")
        yield "flash"
        order: list[Any] = []
        values, last = {}, None
        for p in list(f.inbox):
            if p not in f.inbox or self.key(p) in f.done:
                continue
            if w.cfg["short"] and len(order) >= 2:  # the budget is used up
                break
            key = self.key(p)
            tries = f.started[1] if f.started and f.started[0] == key and w.on("mark_attempt") else 0
            if last:
                f.done[last[0]] = last[1]
            f.started = (key, tries + 1)
            w.ran[p["uid"]] += 1
            yield "flash"
            order.append((p["id"][1], p["first"]))
            yield "handler"
            if w.ran[p["uid"]] > 40:
                raise Broken("1: repeatable command run for ever")
            status, value = w.effect(p, self)
            yield "effect"
            values[p["id"]], last = value, (key, status)
        if last:
            f.done[last[0]], f.started = last[1], None
            yield "flash"
        if w.cfg["faultfree"]:
            for ledger in f.windows:
                n = [first for name, first in order if name == ledger]
                if n != sorted(n):
                    raise Broken(f"6: order within a drain {n}")
        yield from self.fold(values)
