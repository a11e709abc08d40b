"""The built-in commands, which every device answers whatever its app is.

Must stay true: each of them may be repeated without harm; none can lock the owner out: settings are checked before
they are kept, and those that keep a wake from finishing are undone at the next.
"""

from dormouse import app
from dormouse.admit import FORGET
from dormouse.app import Handler
from dormouse.codec import fits
from dormouse.errors import ConfigError

_STAY = 3600  # s; the longest `stay_awake`
_MOST = 2600  # bytes of the value of describe, report and log


class Standard:
    """Their handlers. `agent` is the Agent that they look into, `online` the Online they run in."""

    def __init__(self, agent, online):
        self.agent = agent
        self.online = online
        self.handlers = {
            "ping": Handler(self.ping, 5, True, {}),
            "describe": Handler(self.describe, 5, True, {}, _MOST),
            "report": Handler(self.report, 5, True, {}, _MOST),
            "set_interval": Handler(
                self.set_interval, 5, True, {"connect_every": ["int", 0], "sample_every": ["int", -1]}
            ),
            "config": Handler(self.config, 5, True, {"set": "dict"}),
            "stay_awake": Handler(self.stay_awake, 5, True, {"s": "int"}),
            "resend": Handler(self.resend, 5, True, {"from": "int", "to": "int"}),
            FORGET: Handler(self.forget_ledger, 5, True, {"ledger": "str"}),
            "set_password": Handler(self.set_password, 5, True, {"password": "str"}),
            "set_certificate": Handler(self.set_certificate, 5, True, {"cert": "str", "key": "str"}),
            "log": Handler(self.log, 5, True, {}, _MOST),
            "reset": Handler(self.reset, 5, True, {}),
        }

    def ping(self, wake):
        return {"ms": self.agent.port.ms(), "time": wake.time()}

    def describe(self, wake):
        return {"commands": app.catalogue(), "standard": sorted(self.handlers)}

    def report(self, wake):
        return self.agent.report(self.online.inbox)

    def set_interval(self, wake, connect_every, sample_every):
        changed = {}
        if connect_every > 0:
            changed["connect_every"] = connect_every
        if sample_every >= 0:
            changed["sample_every"] = sample_every
        self.agent.change(changed)
        return changed

    def config(self, wake, **args):
        changed = args["set"]
        for key in ("id", "root", "ca"):
            if key in changed:
                raise ConfigError("%s can't be changed by a command" % key)
        self.agent.try_out(changed)
        return {"on trial": sorted(changed)}

    def stay_awake(self, wake, s):
        self.online.stay(max(0, min(s, _STAY)))
        return {"s": max(0, min(s, _STAY))}

    def resend(self, wake, to, **args):
        return {"dropped": self.online.outbox.resend(max(1, args["from"]), to)}

    def forget_ledger(self, wake, ledger):
        inbox = self.online.inbox
        if any(name == ledger for _, name in inbox.forgotten):
            return {"forgotten": ledger}
        inbox.forget(ledger)
        return {"forgotten": ledger}

    def set_password(self, wake, password):
        return self._hold(password, False)

    def set_certificate(self, wake, cert, key):
        return self._hold(cert + " " + key, True)

    def _hold(self, credential, cert):
        """Try a new password, or a new certificate with its key. Says how it stands."""
        online = self.online
        if cert != bool(online.config["cert"]):
            raise ConfigError("this device comes in with a " + ("password" if cert else "certificate"))
        if cert:
            online.security.context(credential)
        return online.several().add(credential)

    def log(self, wake):
        text = self.agent.log.kept()
        while not fits(text, _MOST):
            text = text.partition("\n")[2]
        return text

    def reset(self, wake):
        self.agent.reset = True
