"""The configuration of one device: every key, its type, range and default in one table.

Must stay true: nothing else holds a default; a wrong key, type or range raises ConfigError naming the key, before
anything depends on it; secrets live in a file of their own and in no message.
"""

import json
from binascii import crc32

from dormouse.errors import ConfigError, ProtocolError
from dormouse.payloads import check_shape, encode
from dormouse.protocol import PAYLOAD_LIMIT, ROOT, check_device_id, check_root

# key: (default, smallest, largest); a string's default has no range, a boolean's neither
KEYS: dict = {
    "id": ("", None, None),  # the fixed device id, also the MQTT client id
    "broker": ("", None, None),  # mqtt://host[:port], or mqtts://
    "ca": ("", None, None),  # file with the CA of a broker at mqtts://, in DER
    "cert": ("", None, None),  # file with this device's certificate, in DER, where the broker wants one
    "key": ("", None, None),  # and its key
    "root": (ROOT, None, None),  # first levels of every topic
    "sample_every": (0, 0, 604800),  # s; 0: at every wake
    "connect_every": (900, 1, 604800),  # s between two wakes that connect
    "battery_floor": (0, 0, 60),  # V; below it the intervals are stretched
    "budget": (20, 1, 600),  # s awake, handlers' declared limits apart
    "total": (600, 1, 3600),  # s awake, everything included
    "patience": (5000, 50, 60000),  # ms without a byte before the link counts as dead
    "inbox": (64, 1, 512),  # commands held at once
    "payload": (PAYLOAD_LIMIT, 64, 4000),  # bytes of one payload that is read as a whole
    "linger": (0, 0, 3600),  # s to stay for a first command after an empty drain
    "ssid": ("", None, None),  # the Wi-Fi's name; its password is `wifi_password` in secrets.json
    "battery_pin": (-1, -1, 48),  # of ADC1 on an ESP32; 29 is VSYS on a Pico W; -1: none
    "battery_divider": (1, 0.1, 100),  # volts of the battery for each volt at the pin
    "led": ("", None, None),  # number or name of the pin that blinks once: woke, twice: confirmed, five times: error
    "hold_pin": (-1, -1, 48),  # pulled low it keeps the board at the prompt
    "wake_pin": (-1, -1, 48),  # ends sleep at the level `wake_level`
    "wake_level": (0, 0, 1),
    "watchdog": (30, 10, 600),  # s without progress; twice patience at least; handlers have their limit and then this
    "clock": ("ntp", None, None),  # "ntp": ask once a day; "first": and wait for it; "none": do without
    "ntp": ("pool.ntp.org", None, None),  # whom
    "clean_session": (False, None, None),  # True only to show what is lost then
}


_TRIALS = 4  # credentials held at once, the flashed one apart
_SPACE = 4096  # characters of all of them: a certificate and its key have some 800
_BROKER = "config: broker is mqtt://host[:port] or mqtts://host[:port]"


def check(values):
    """A full configuration: `values` over the defaults. Raises ConfigError naming the first wrong key."""
    full = {key: KEYS[key][0] for key in KEYS}
    for key in values:
        if key not in KEYS:
            raise ConfigError("config: unknown key %s" % str(key)[:40])
        default, least, most = KEYS[key]
        value = values[key]
        if isinstance(value, bool) != isinstance(default, bool) or isinstance(value, str) != isinstance(default, str):
            raise ConfigError("config: %s is of the wrong type" % key)
        if least is not None and not (isinstance(value, (int, float)) and least <= value <= most):
            raise ConfigError("config: %s is a number from %d to %d" % (key, least, most))
        full[key] = value
    if full["clock"] not in ("ntp", "first", "none"):
        raise ConfigError("config: clock is ntp, first or none")
    full["watchdog"] = max(full["watchdog"], full["patience"] / 500)  # patience may go by without progress
    if full["total"] <= full["budget"]:
        raise ConfigError("config: total is more than budget: handlers run in what is left")
    check_device_id(full["id"])
    check_root(full["root"])
    full["tls"], full["host"], full["port"] = split_broker(full["broker"])
    if full["tls"] != bool(full["ca"]):
        raise ConfigError("config: mqtts:// and ca go together: no broker goes unchecked, and none with a CA in clear")
    if bool(full["cert"]) != bool(full["key"]) or (full["cert"] and not full["tls"]):
        raise ConfigError("config: cert and key go together, with mqtts://")
    return full


def split_broker(url):
    """`mqtt://host[:port]`, or `mqtts://`, as (TLS?, host, port). User and password stand in secrets.json alone."""
    scheme, _, rest = url.partition("://")
    tls = scheme == "mqtts"
    if scheme not in ("mqtt", "tcp", "mqtts") or "@" in rest:
        raise ConfigError(_BROKER)
    rest = rest.rstrip("/")
    if rest[:1] == "[":
        host, end, digits = rest[1:].partition("]")
        colon, digits = digits[:1] if end else "missing", digits[1:]
    else:
        host, colon, digits = rest.partition(":")
    port = 8883 if tls else 1883
    if colon:
        port = int(digits) if colon == ":" and digits.encode().isdigit() and len(digits) < 6 else 0
    if not host or "/" in host or not 0 < port < 65536:
        raise ConfigError(_BROKER)
    return tls, host, port


class Overlay:
    """Keys that commands have changed: kept ones, and those on trial until a wake has finished with them.

    `kept` and `trial` are files in the agent's folder; the trial's first byte says whether a wake has connected with
    it. `undone`: the keys of a trial that no wake could finish with, or None.
    """

    def __init__(self, storage):
        self._storage = storage
        self.kept = load(storage.read("kept"), "kept settings")
        self.undone = None
        self.trial = self._waiting()
        if storage.read("trial") and not self.trial:
            self.undone = sorted(load(storage.read("trial")[1:], "settings on trial"))
            storage.remove("trial")

    def _waiting(self):
        data = self._storage.read("trial")
        return load(data[1:], "settings on trial") if data and data[:1] == b"0" else {}

    def over(self, values):
        """`values` of config.json with what is kept and what is on trial over them."""
        full = dict(values)
        full.update(self.kept)
        full.update(self.trial)
        return full

    def keep(self, values):
        """Keep these from now on."""
        self.kept.update(values)
        self._storage.replace("kept", encode(self.kept))

    def put_on_trial(self, values):
        """The next wake that connects does it with these, and keeps them if it finishes."""
        full = self._waiting()
        full.update(values)
        self._storage.replace("trial", b"0" + encode(full))

    def begin(self):
        """A wake is going to connect with what is on trial."""
        if self.trial:
            self._storage.replace("trial", b"1" + encode(self.trial))

    def finished(self):
        """A wake has finished with what was on trial."""
        if self.trial:
            self.keep(self.trial)
            self.trial = {}
            if not self._waiting():  # unless this wake has put others there
                self._storage.remove("trial")


class Credentials:
    """Those that the broker may want, the newest first; the flashed one comes last, and stays. Each is one text: a
    password, or what `tls.Security` shows.

    None is forgotten before the broker has accepted a newer one. They are in the file `credentials`, with the CRC of
    the flashed one: another one there makes them void.
    """

    def __init__(self, storage, first):
        self._storage = storage
        self._first = first
        self._crc = crc32((first or "").encode())
        said = load(storage.read("credentials"), "credentials")
        self.all = (said["held"] if said.get("crc") == self._crc else []) + [first]
        self.at = 0  # the one whose turn it is
        self._left = len(self.all)

    def refused(self):
        """The broker refuses the one whose turn it is. Is there another to try?"""
        self.at = (self.at + 1) % len(self.all)
        self._left -= 1
        return self._left > 0

    def accepted(self):
        """The broker has accepted it: the newest makes those before it superfluous."""
        self._left = len(self.all)  # for the next connection of this wake
        if self.at == 0 and self._left > 2:
            self._hold(self.all[:1])

    def add(self, credential):
        """Try this one first from the next wake on. Says how it stands: has this connection been made with it?"""
        if credential not in self.all:
            if not self._first:
                raise ConfigError("no credential to change")
            if len(self.all) > _TRIALS or len("".join(self.all)) + len(credential) > _SPACE:
                raise ConfigError("too many credentials on trial, or too long")
            self._hold([credential] + self.all[:-1])
            self.at += 1
        return "in use" if credential == self.all[self.at] else "on trial"

    def _hold(self, credentials):
        self._storage.replace("credentials", encode({"crc": self._crc, "held": credentials}))
        self.all = credentials + [self._first]
        self._left = len(self.all)


def load(text, what):
    """The JSON object in `text` (bytes or None); `what` names the file in an error."""
    if text is None:
        return {}
    try:
        check_shape(text)  # MicroPython takes half a file
        values = json.loads(text)
    except (ProtocolError, ValueError, UnicodeError):
        raise ConfigError("%s is not JSON" % what)
    if not isinstance(values, dict):
        raise ConfigError("%s is not a JSON object" % what)
    return values
