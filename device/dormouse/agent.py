"""One wake from boot to sleep: what comes first, what comes last, and what happens when something fails.

Must stay true: whatever fails, the wake ends in sleep within its budget; an app that raises ends only itself; what
is remembered is on flash before the last word to the broker. A wake that only samples imports neither link nor
session.
"""

import sys

from dormouse import catalogue, config, protocol, schedule
from dormouse.errors import DormouseError, LinkError, ProtocolError
from dormouse.outbox import Outbox
from dormouse.report import Log, describe, wake_report
from dormouse.state import State
from dormouse.wake import Wake


def run(app, port=None):
    """One wake with the commands and readings of module `app`. Returns the error that kept it from finishing, or
    None, where the port's sleep returns at all.
    """
    return Agent(port or find_port()).wake(app)


def find_port():
    """The port of this platform."""
    name = {"linux": "posix", "darwin": "posix"}.get(sys.platform, sys.platform)
    module = "dormouse.ports." + name
    __import__(module)
    return sys.modules[module].Port()


class Agent:
    """The life of one wake on `port`."""

    def __init__(self, port):
        self.port = port
        self.log = Log(port)
        self.state = State(port.storage)
        self.outbox = Outbox()
        self.config = self.online = self.app_error = None
        self.plan = schedule.CAP

    def wake(self, app):
        """From boot to sleep."""
        failure = None
        try:
            self.live(app)
        except DormouseError as e:
            failure = e
            self.log("error", kind=type(e).__name__, stage=e.stage, why=e.reason)
        if self.state.device:
            self.state.end(isinstance(failure, (LinkError, ProtocolError)))
            if failure:
                self.plan_next()
        self.log("asleep", **self.summary())
        self.port.sleep(int(self.plan * 1000))
        return failure

    def live(self, app):
        storage_config = self.port.config()
        self.config = config.check(config.load(storage_config[0], "config.json"))
        secrets = config.load(storage_config[1], "secrets.json")
        broken = self.state.begin(self.config["id"])
        self.log("boot", wake=self.state.wake, cause=self.port.cause(), agent=protocol.VERSION, fw=self.port.firmware())
        wake = Wake(self.port, self.config, self.log)
        self.plan_next()
        self.load_app(app)
        if broken and self.port.cause() not in ("power", "reset"):
            self.state.failures += 1
            raise LinkError("the wake before this one never ended", "boot")
        self.sample(wake)
        self.connect(wake, secrets)

    def plan_next(self):
        self.plan = schedule.next_connect(self.config["connect_every"], self.state.failures, self.port.random(1)[0])

    def load_app(self, app):
        """Import the user's module inside a guard: a broken app leaves the device reachable."""
        catalogue.clear()
        sys.modules.pop(app, None)
        try:
            module = __import__(app)
            if hasattr(module, "safe_state"):
                module.safe_state()
        except Exception as e:
            self.app_error = describe(e)
            self.log("error", kind="app", stage="import", why=self.app_error)

    def sample(self, wake):
        """Take the readings."""
        values = {}
        for name in sorted(catalogue.readings):
            try:
                values.update(catalogue.readings[name][0](wake) or {})
            except Exception as e:
                self.log("error", kind="telemetry", stage=name, why=describe(e))
        if values:
            try:
                self.outbox.record(self.state.wake, self.port.time(), values)
            except ProtocolError as e:
                self.log("error", kind="telemetry", stage="encode", why=e.reason)

    def connect(self, wake, secrets):
        """Bring the network up and deal with the broker."""
        from dormouse.online import Online

        self.online = Online(self.port, self.log, self.state, self.config, secrets, self.outbox)
        self.port.join(self.config, secrets, self.online.link.deadline)
        self.online.run(wake, wake_report(self.port, self.state, self.config, self.plan, self.app_error))

    def summary(self):
        """The wake in figures, for the log."""
        figures = {"ms": self.port.ms(), "next": int(self.plan), "drained": False}
        if self.online:
            link, session = self.online.link, self.online.session
            figures.update(turns=self.online.turns, flights=link.flights, bytes_up=link.sent, bytes_down=link.received)
            if session:
                figures.update(drained=bool(session.drained), present=session.present)
        return figures
