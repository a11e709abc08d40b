"""The built-in commands, which every device answers whatever its app is.

Must stay true: each of them may be repeated without harm; none can lock the owner out: settings are checked before
they are kept, and those that keep a wake from finishing are undone at the next.
"""

from dormouse import app, protocol
from dormouse.app import Handler
from dormouse.errors import ConfigError
from dormouse.state import connect_in

_STAY = 3600  # s; the longest `stay_awake`
_STEP = 60  # s of one step of an update
_MOST = 2600  # bytes of the value of describe, report and log


class Builtins:
    """Their handlers, with what they look into and change. `control` is the Connection, of which they use

    report()                             the wake report, a plain value
    stay(seconds)                        go on for so long though everything is done
    try_credential(credential, is_cert)  from the next wake on; returns how it stands
    reset()                              boot at once when this wake is over
    update                               the Handler of `update`, which gets its function before it runs; None at first
    """

    def __init__(self, port, config, state, log, inbox, telemetry, control):
        self.port = port
        self.settings = config
        self.longest = config["total"] - config["budget"]
        self.state = state
        self.kept = log.kept
        self.inbox = inbox
        self.telemetry = telemetry
        self.control = control

    def find(self, name):
        """The Handler of one of protocol.STANDARD."""
        if name == "update":
            if not self.control.update:
                spec = {"step": "str", "release": "str", "of": ["dict", {}]}
                self.control.update = Handler(None, min(_STEP, self.longest), True, spec, _MOST)
            return self.control.update
        most = protocol.VALUE_LIMIT
        if name in ("describe", "report", "log", "config"):
            most = _MOST
        function = (  # in the order of STANDARD
            self.ping,
            self.describe,
            self.report,
            self.set_interval,
            self.config,
            self.stay_awake,
            self.resend,
            self.forget_ledger,
            self.set_password,
            self.set_certificate,
            self.log,
            self.reset,
        )[protocol.STANDARD.index(name)]
        return Handler(function, 5, True, protocol.standard_specs().get(name, {}), most)

    def ping(self, context):
        return {"ms": self.port.ms(), "time": context.time()}

    def describe(self, context):
        return {"commands": app.catalogue(), "standard": sorted(protocol.STANDARD)}

    def report(self, context):
        return self.control.report()

    def set_interval(self, context, connect_every, sample_every):
        changed = {}
        if connect_every > 0:
            changed["connect_every"] = connect_every
        if sample_every >= 0:
            changed["sample_every"] = sample_every
        from dormouse.config import change

        self.settings.update(change(self.port.storage, self.settings, changed))
        self.state.plan = connect_in(self.settings, 0, self.port.battery(), self.port.random(1)[0])
        return changed

    def config(self, context, **args):
        changed = args["set"]
        if not changed:
            from dormouse.config import told

            return {"settings": told(self.settings)}
        for key in ("id", "root", "ca", "psk"):
            if key in changed:
                raise ConfigError("%s can't be changed by a command" % key)
        from dormouse.config import try_out

        try_out(self.port.storage, self.settings, changed)
        return {"on trial": sorted(changed)}

    def stay_awake(self, context, s):
        s = max(0, min(s, _STAY))
        self.control.stay(s)
        return {"s": s}

    def resend(self, context, to, **args):
        return {"dropped": self.telemetry.resend(max(1, args["from"]), to)}

    def forget_ledger(self, context, ledger):
        if not any(name == ledger for _, name in self.inbox.forgotten):
            self.inbox.forget(ledger)
        return {"forgotten": ledger}

    def set_password(self, context, password):
        return self.control.try_credential(password, False)

    def set_certificate(self, context, cert, key):
        return self.control.try_credential(cert + " " + key, True)

    def log(self, context):
        text = self.kept()
        while len(text.encode()) + sum([text.count(c) for c in '"\\\n']) + 2 > _MOST:  # as JSON
            text = text.partition("\n")[2]
        return text

    def reset(self, context):
        self.control.reset()
