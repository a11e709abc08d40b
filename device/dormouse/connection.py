"""The connected part of a wake: connect, first flight, drain, act, confirm, and again where the link drops.

Must stay true: nothing here outlives the link's deadline or the wake's cap; the queue counts as drained when the
fence says so, and never because a guessed pause went by, but where no fence can work or `drain` says that it is no
proof. That another client uses this id is said only where a connection was cut that published nothing.
"""

from binascii import hexlify

from dormouse import app, codec, protocol
from dormouse.admit import Admission
from dormouse.errors import ConfigError, LinkError, ProtocolError
from dormouse.inbox import Inbox
from dormouse.link import Link, late, resolve
from dormouse.log import failure_of
from dormouse.report import end_record, wake_report
from dormouse.results import Results
from dormouse.runner import Runner
from dormouse.session import Session
from dormouse.state import FENCE_DEAD, FENCE_WORKS

_REJOIN_PAUSE = 100  # ms before the second connection of a wake; doubled for each further one
_LOOK = 20  # ms between two looks for the time
_CUT = 1000  # ms after CONNACK within which a cut counts as a take-over by another client
_CUTS = 3  # such cuts in a row after which a connection without a fence shows whether that was the cause
_LATE = 3  # unfinished or failed wakes in a row after which the fence waits for silence
_PING = 10000  # ms between two signs of life while `stay_awake` lasts; the shortest watchdog is not shorter


class Connection:
    """One wake's dealings with the broker, in `steps` that are called one after the other until none is left; `over` is
    told where one raises. `facts`: what the wake report tells of this wake, see report.wake_report.

    Afterwards: `failure`, the error that kept it from finishing, or None, where `finish` has the last word to the
    broker; `present`, what CONNACK said of the session; `drained`; `turns`, round trips; `resets`: boot at once.

    It is also the `control` that the built-in commands have (builtins.py).
    """

    def __init__(self, port, config, secrets, state, log, telemetry, facts, context):
        self.port = port
        self.config = config
        self.secrets = secrets
        self.state = state
        self.log = log
        self.telemetry = telemetry
        self.facts = facts
        self.context = context
        self.link = Link(port.ms, config["patience"])
        self.budget = self.link.deadline = port.ms() + int(config["budget"] * 1000)
        self.cap = port.ms() + int(config["total"] * 1000)  # and not even handlers go past this
        self.security = self.session = self.credentials = self.builtins = self.own = self.present = None
        self.arriving = self.update = None  # the Update that is under way; the Handler of the command once it came
        self.inbox = None  # while it is made, it asks `_find`
        self.inbox = Inbox(port.storage, port.random, config["inbox"], self._find)
        self.results = Results(self.inbox)
        self.admission = Admission(self.inbox, config["payload"], self.results.refuse, log)
        key = secrets.get("command_key")
        if key is not None:
            from dormouse.signing import Signer

            self.admission.signer = Signer(key, config["id"])
        longest = config["total"] - config["budget"]
        self.runner = Runner(port, self.inbox, self.results.refuse, log, self.cap, longest)
        self.link.before_send = self.inbox.commit
        self.was_up = False  # has a connection of this wake had its CONNACK?
        self.turns = 0  # round trips
        self.pause = _REJOIN_PAUSE
        self.mute = self.bare = False  # no fence is sent; or nothing at all is published: connections with it were cut
        state.cutoffs = min(state.cutoffs, _CUTS - 1)  # each wake tries it once
        self.gave_up = self.drained = False  # the fence is no longer waited for; it has come
        self.loaded = False  # are the credentials?
        self.until = port.ms() + int(config["linger"] * 1000)  # until then the wake goes on though all is done
        self.staying = False  # … and for all that time, not only until a first command has come
        self.resets = False  # boot at once when the wake is over
        self.steps = [self._dial]
        if port.slots and port.slots.phase:
            self._arrive()

    def over(self, e=None):
        """A connection has ended, all confirmed or by `e`, memory above all: another one follows, or none."""
        s = self.session
        problem = s and s.problem  # which may have been why the broker closed
        if e or problem:
            self.link.close()
            e = LinkError(problem, "subscribe") if problem else failure_of(e, "agent")
        else:
            self._phase("confirm")
            self.turns = self.link.turns
            self.inbox.end()
        if s:
            self.state.alone = s.hidden
        self.steps = [self._dial]
        self.failure = e and self._judge(e)
        if self.failure or not e:
            self.steps = []
            self.state.refused = self.admission.refused
            self._count()
            if s:
                self.present, self.drained = s.present, bool(s.drained)

    def _arrive(self):
        """The function of the command `update`, here where the stack is not deep; None where it can't be loaded."""
        try:
            if not self.arriving:
                from dormouse.update import Update

                self.arriving = Update(self.port, self.log, self.reset)
                if self.session:
                    self.arriving.begin(self.session)
            return self.arriving.run
        except Exception as e:  # whatever has become of its files, it costs itself and not the wake
            self.log("error", kind="update", stage="update", why=failure_of(e, "update").reason)

    def finish(self):
        """The end record, in the write of DISCONNECT; then the link is closed."""
        try:
            self.session.close(protocol.END, codec.encode(self._end()))
        except LinkError as e:  # the next report repeats the end record
            self.log("error", kind="LinkError", stage="end", why=e.reason)
        self.link.close()
        self._count()

    def _count(self):
        state, link = self.state, self.link
        state.flights, state.up, state.down = link.flights, link.sent, link.received

    def _load_credentials(self):
        self.own = self.secrets.get("password")
        if self.config["tls"]:
            from dormouse.tls import Security

            self.security = Security(self.config, self.port)
            self.own = self.security.own or self.own
        if self.port.storage.size("credentials"):
            self._several()
        self.loaded = True

    def _several(self):
        if not self.credentials:
            from dormouse.credentials import Credentials

            self.credentials = Credentials(self.port.storage, self.own)
        return self.credentials

    def _judge(self, e):
        """The error that ends this wake after `e` has ended a connection, or None where another one has a chance."""
        c = self.config
        if not isinstance(e, (ConfigError, LinkError, ProtocolError)):
            return e
        if e.stage == "tls" and self.security and self.security.retry():
            pass
        elif self.credentials and self.credentials.another(e, c["cert"] or c["psk"], self.state.alone):
            self.log("rejoin", stage=e.stage, why=e.reason)
        else:
            if isinstance(e, ConfigError):
                return e
            s = self.session
            cut = e.stage in ("read", "write") and not e.silent and s and s.present is not None
            if self.bare:
                return LinkError("another client uses this id: cut off right after CONNACK", "session") if cut else e
            if cut and self.port.ms() - s.connected < _CUT + s.rtt:
                self.state.cutoffs += 1
                self.bare = self.state.cutoffs > _CUTS
            again = self.pause > _REJOIN_PAUSE and (e.silent or e.stage == "confirm")  # silent once more
            over = self.port.ms() + self.pause >= self.link.deadline
            if again or over or e.stage == "subscribe" or not (self.was_up or e.silent):
                return e
            self.log("rejoin", stage=e.stage, why=e.reason)
            self.port.pause(self.pause)
            self.pause *= 2
        self.results.rewind()
        self.telemetry.rewind()
        return None

    def _phase(self, name):
        self.port.feed()
        self.state.phase(name, self.port.ms())

    def _dial(self):
        """Join the network and connect. What follows has the Session, its CONNECT in the flight."""
        c, link = self.config, self.link
        if not self.loaded:
            self._load_credentials()
        self.session = None
        self.port.join(c, self.secrets, link.deadline)
        if c["clock"] == "first":
            self._await_time()
        self.log("connecting", host=c["host"], port=c["port"])
        self._phase("join")
        addresses = resolve(c["host"], c["port"])
        credential = self.credentials.all[self.credentials.at] if self.credentials else self.own
        if c["cert"] or c["psk"]:
            self.security.own = credential
        else:
            self.secrets["password"] = credential
        while True:
            family, address = addresses.pop(0)
            try:
                link.open(family, address, self.security)
                break
            except LinkError as e:
                if type(address) is tuple and address[0] != c["host"]:
                    e.reason += " at %s" % address[0]
                if e.silent or not addresses:  # nobody listens at one of them, as at ::1 of localhost: try the next
                    raise
        s = self.session = Session(link, protocol.topic(c["root"], c["id"], ""), c, self.secrets, self.admission.offer)
        s.signer = self.admission.signer
        if self.arriving:
            self.arriving.begin(s)
        s.encode_connect()
        self.steps = [self._first_flight, s.await_connack]
        if self.state.alone or self.bare:
            self.steps.reverse()
        self.steps += [self._drain, self.over]

    def _first_flight(self):
        """What follows CONNECT in one write: subscription, report, what is owed, fence."""
        s, state = self.session, self.state
        if self.bare:
            self._listen()
        self.nonce = hexlify(self.port.random(4))
        self.mute = state.cutoffs >= _CUTS
        s.encode_subscribe()
        s.publish(protocol.WAKE, codec.encode(self.report()), retain=self.config["retain"])
        self._send()
        if not (self.mute or state.failures >= _LATE or state.unfinished & 15 > _LATE):
            s.send_fence(self.nonce)

    def _listen(self):
        """Publish nothing for as long as the broker took to cut what did: is it that, or another client? Raises."""
        end = self.port.ms() + _CUT
        while self.link.ready(end - self.port.ms()):
            self.session.take()
        why = "the broker closes at the wake report: it may take no retained one (retain = false)"
        raise ConfigError(why, "publish")

    def _await_time(self):
        """Nothing goes to a broker before the dates of its certificate can be checked."""
        end = min(self.port.ms() + int(self.config["patience"]), self.link.deadline)
        while self.port.time() is None:
            if self.port.ms() >= end:
                raise LinkError("no time server has answered", "clock")
            self.port.pause(_LOOK)

    # ---- drain, act, confirm
    def _drain(self):
        """Take what comes, act, answer, until there is provably nothing left to wait for."""
        s, link, inbox, results = self.session, self.link, self.inbox, self.results
        self.was_up = True
        if self.security:
            self.port.shaking(False)
        if self.credentials:
            self.credentials.accepted()
        self.log("connected", present=s.present, rtt=s.rtt)
        self._phase("connect")
        told = self.gave_up = False
        while True:
            while not inbox.full and (not results.full or not s.fits(protocol.BATCH)) and link.ready(0):
                inbox.spare()
                s.take()
                self.port.feed()  # the watchdog: what has come is progress, waiting is none
            if self.arriving and self.arriving.held and (s.drained or not link.ready(2 * s.rtt)):
                self.arriving.fail(self.arriving.flush())
            link.flush()
            if s.back and not told and self.port.ms() - s.heard >= s.quiet:
                told = True
                s.drained = s.back
                self.state.fence, self.state.cutoffs = FENCE_WORKS, 0
                self.log("drained", how=s.drained)
                self._phase("drain")
            if self.update:
                self.update.function = self._arrive() or 0
            done = s.drained or self.gave_up
            self._send(link.flush)  # first: what lies unsent keeps commands from running
            settled = (done or inbox.full) and self.runner.act(self.context, self._room)
            self._extend()
            self._send(link.flush)
            link.flush()
            if settled:
                s.heard = self.port.ms()
                continue
            if inbox.full:
                return  # the cap is near: the broker keeps the rest for the next wake
            pending = s.unacked or results.pending() or self.telemetry.pending()
            if done and not pending and not link.ready(0):
                left = self.until - self.port.ms()
                if left <= 0 or (self.admission.taken and not self.staying):
                    return
                if not link.ready(min(left, _PING)) and left > _PING:
                    s.ping()
                    link.flush()
            else:
                self._wait(s, done)

    def _send(self, flush=None):
        """Publish what is unconfirmed and fits now; with `flush`, batch by batch, so that none lies in RAM twice."""
        s, state = self.session, self.inbox.state
        while s.fits(protocol.BATCH):
            if flush and self.link.used > protocol.BATCH:
                flush()
            if not self.results.send(s) and not self.telemetry.send(s, state):
                return

    def _extend(self):
        self.link.deadline = min(self.budget + self.runner.spent, self.cap)

    def _room(self):
        """May one more command run, or should values be sent first? A full inbox reads nothing, not even PUBACKs."""
        return (self.inbox.details.room() and not self.results.full) or not self.session.fits(protocol.BATCH)

    def _wait(self, s, done):
        """Wait for the next packet; a fence that is overdue is sent a second time, then given up."""
        now = self.port.ms()
        patience = self.link.patience if done else s.silence()
        if self.link.ready(s.heard + patience - now):
            return
        now = self.port.ms()
        if now >= self.link.deadline:
            raise late("confirm" if done else "drain")
        if now < s.heard + patience or (s.back and not done):
            return
        if done:
            raise LinkError("silent for %d ms" % patience, "confirm")
        s.heard = now
        if not self.mute and (s.fences == 0 or (s.fences == 1 and self.state.fence != FENCE_DEAD)):
            s.send_fence(self.nonce)
        else:
            self.gave_up = True
            self.state.fence = FENCE_DEAD
            self.log("drained", how="quiet")

    # ---- built-in commands; all but `_find` is the `control` that they are given
    def _find(self, name):
        """The Handler of a command, built in or the app's, or None. ProtocolError where memory does not suffice."""
        if name not in protocol.STANDARD:
            return app.commands.get(name)
        try:
            if not self.builtins:
                from dormouse.builtins import Builtins

                self.builtins = Builtins(self.port, self.config, self.state, self.log, self.inbox, self.telemetry, self)
        except MemoryError:  # else it would come again at every wake
            raise ProtocolError("not enough memory")
        return self.builtins.find(name)

    def report(self):
        """The wake report, a plain value."""
        inbox, signed = self.inbox, self.admission.signer is not None
        return wake_report(self.facts, self.port, self.config, self.state, signed, inbox.state, self._end())

    def _end(self):
        end = end_record(self.state, self.inbox.state, self.inbox.windows)
        if self.arriving:
            end["update"] = self.arriving.told()
        return end

    def stay(self, seconds):
        """Go on for so long though everything is done; new commands run as they come."""
        self.until = self.port.ms() + seconds * 1000
        self.budget = max(self.budget, self.until + int(self.config["budget"] * 1000))
        self.cap = self.runner.cap = max(self.cap, self.budget)
        self._extend()
        self.staying = True

    def try_credential(self, credential, is_cert):
        """Try a new password, or a new certificate with its key, from the next wake on. Says how it stands."""
        if is_cert != bool(self.config["cert"]):
            raise ConfigError("this device authenticates with a " + ("password" if is_cert else "certificate"))
        if is_cert:
            self.security.context(credential)
        return self._several().add(credential)

    def reset(self):
        """Boot at once when this wake is over."""
        self.resets = True
