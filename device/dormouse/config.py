"""The configuration of one device: every key with type, range and default in one table; what commands changed of it.

Must stay true: nothing else holds a default; a wrong key, type or range raises ConfigError naming the key, before
anything depends on it; secrets live in a file of their own and in no message. Nothing that came by a command can lock
the owner out: settings that no wake could finish with are undone. Nor can a program that damages these files: where
config.json or secrets.json can't be used, the copy of the last wake that finished counts, and what commands changed
goes where it can't be read. On a board this module is let go after each use, big as its table is.

Files in the agent's folder: `kept`, the keys that commands have changed, each with its value and with what config.json
said then; `trial`, those on trial until a wake has finished with them, after a byte that says whether one has connected
with them: "0" not yet, "1" begun; `good`, config.json, a byte 0 and secrets.json as a wake that finished had them.
"""

import sys
from binascii import unhexlify

from dormouse.codec import encode, load
from dormouse.errors import ConfigError
from dormouse.protocol import PAYLOAD_LIMIT, ROOT, check_device_id, check_root

# key: (default, smallest, largest); a string's default has no range, a boolean's neither
KEYS: dict = {
    "id": ("", None, None),  # the fixed device id, also the MQTT client id
    "broker": ("", None, None),  # mqtt://host[:port], or mqtts://
    "ca": ("", None, None),  # file with the CA of a broker at mqtts://, in DER
    "cert": ("", None, None),  # file with this device's certificate, in DER, where the broker wants one
    "key": ("", None, None),  # and its key
    "psk": (False, None, None),  # True: in place of a ca, both have the key that is `password` in secrets.json, in hex
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
    "lan": ("", None, None),  # Ethernet in the place of Wi-Fi: the arguments of MicroPython's network.LAN
    "address": ("", None, None),  # a fixed one in the network `ssid`, with its bits: 192.168.1.50/24
    "gateway": ("", None, None),  # with `address`
    "dns": ("", None, None),  # whom to ask for names, in the place of whom the network says
    "battery_pin": (-1, -1, 48),  # of ADC1 on an ESP32; 29 is VSYS on a Pico W; -1: none
    "battery_divider": (1, 0.1, 100),  # volts of the battery for each volt at the pin
    "led": ("", None, None),  # number or name of the pin that blinks once: woke, twice: confirmed, five times: error
    "hold_pin": (-1, -1, 48),  # pulled low it keeps the board at the prompt
    "wake_pin": (-1, -1, 48),  # ends sleep at the level `wake_level`
    "wake_level": (0, 0, 1),
    "watchdog": (30, 10, 600),  # s without progress; twice patience at least; handlers have their limit and then this
    "clock": ("ntp", None, None),  # "ntp": ask once a day; "first": and wait for it; "none": do without
    "ntp": ("pool.ntp.org", None, None),  # whom
    "retain": (True, None, None),  # False: the wake report is not retained, for a broker that takes no such message
    "drain": ("fence", None, None),  # "quiet": behind the fence `quiet` must pass, as it is no proof there
    "quiet": (500, 50, 60000),  # ms without a packet
    "clean_session": (False, None, None),  # True only to show what is lost then
}
_WHOLE = ("battery_pin", "hold_pin", "wake_pin", "wake_level", "inbox", "payload")
_SECRETS = ("user", "password", "wifi_password", "wifi", "command_key")  # of secrets.json
_NETWORKS = 8  # at most, beside `ssid`


def check_secrets(values):
    """Raise ConfigError, which tells no value, for the first wrong key of secrets.json."""
    for key in sorted(values):  # the two interpreters order a dict differently
        if key not in _SECRETS:
            raise ConfigError("secrets.json: unknown key %s: expected one of %s" % (key[:40], ", ".join(_SECRETS)))
        if key == "wifi":
            _networks(values[key])
        elif not isinstance(values[key], str):
            raise ConfigError('secrets.json: %s is text in "' % key)


def _networks(pairs):
    """The pairs of a Wi-Fi's name and password, in bytes."""
    try:
        found = [(_network(name), key.encode()) for name, key in pairs]
    except (AttributeError, TypeError, ValueError):
        found = [(b"", b"")]
    if isinstance(pairs, list) and len(found) <= _NETWORKS and all(0 < len(name) <= 32 for name, _ in found):
        return found
    raise ConfigError("secrets.json: wifi is at most %d pairs [name, password]" % _NETWORKS)


def check(values, over=None):
    """A full configuration: `values` over the defaults, or over the full one given. Raises ConfigError naming the
    first wrong key.
    """
    full = dict(over) if over else {key: KEYS[key][0] for key in KEYS}
    for key in sorted(values):  # the two interpreters order a dict differently
        if key not in KEYS:
            raise ConfigError("config: unknown key %s" % str(key)[:40])
        default, least, most = KEYS[key]
        value = values[key]
        wanted = None
        if isinstance(default, str):
            if not isinstance(value, str):
                wanted = 'text in "'
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                wanted = "true or false"
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            wanted = "a number from %s to %s" % (least, most)
        elif key in _WHOLE and value != int(value):
            wanted = "a whole number"
        if wanted:
            raise ConfigError("config: %s is %s" % (key, wanted))
        full[key] = value
    full["network"] = _network(full["ssid"])
    if len(full["network"]) > 32:
        raise ConfigError("config: ssid is at most 32 bytes")
    full["static"] = _static(full)
    if full["clock"] not in ("ntp", "first", "none"):
        raise ConfigError("config: clock is ntp, first or none")
    if full["drain"] not in ("fence", "quiet"):
        raise ConfigError("config: drain is fence or quiet")
    full["watchdog"] = max(full["watchdog"], full["patience"] / 500)  # patience may go by without progress
    if full["total"] <= full["budget"]:
        raise ConfigError("config: total is more than budget")
    check_device_id(full["id"])
    check_root(full["root"])
    full["tls"], full["host"], full["port"] = split_broker(full["broker"])
    if full["tls"] != bool(full["ca"]) + full["psk"]:  # exactly one of them, with TLS
        raise ConfigError("config: mqtts:// and ca go together, or psk")
    if bool(full["cert"]) != bool(full["key"]) or (full["cert"] and not full["ca"]):
        raise ConfigError("config: cert and key go together, with mqtts://")
    return full


def _network(name):
    """The bytes of a network's name: as UTF-8, or those that `0x` and hex digits tell."""
    try:
        return unhexlify(name[2:]) if name[:2] == "0x" else name.encode()
    except ValueError:
        return name.encode()


def _static(full):
    """What `ifconfig` takes, or None where the network gives an address."""
    address, _, digits = full["address"].partition("/")
    texts = {"address": address, "gateway": full["gateway"], "dns": full["dns"]}
    for key in sorted(texts):
        try:
            bits = int(digits or 24)
            if texts[key] and (len(bytes([int(part) for part in texts[key].split(".")])) != 4 or not 0 < bits < 33):
                raise ValueError
        except ValueError:
            raise ConfigError("config: %s is an IPv4 address" % key)
    if not address:
        return None
    gateway = full["gateway"] or "0.0.0.0"
    mask = ".".join([str((-1 << 32 - bits) >> n & 255) for n in (24, 16, 8, 0)])
    return address, mask, gateway, full["dns"] or gateway


def split_broker(url):
    """`mqtt://host[:port]`, or `mqtts://`, as (TLS?, host, port). User and password stand in secrets.json alone."""
    scheme, _, rest = url.partition("://")
    tls = scheme == "mqtts"
    rest = rest.rstrip("/")
    if rest[:1] == "[":
        host, end, digits = rest[1:].partition("]")
        colon, digits = digits[:1] if end else "missing", digits[1:]
    else:
        host, colon, digits = rest.partition(":")
    port = 8883 if tls else 1883
    if colon:
        port = int(digits) if colon == ":" and digits.encode().isdigit() and len(digits) < 6 else 0
    if scheme not in ("mqtt", "tcp", "mqtts") or "@" in url or not host or "/" in host or not 0 < port < 65536:
        raise ConfigError("config: broker is mqtt://host[:port] or mqtts://host[:port]")
    return tls, host, port


def read(texts, storage):
    """What the `texts` of config.json and secrets.json say, each bytes or None, and what commands changed. Returns
    (what in_force returns …, the object in secrets.json, what is wrong with these files or None). Where one is missing
    or wrong, the copies count.
    """
    wrong = None
    while True:
        try:
            secrets = load(texts[1], "secrets.json")
            if texts[1] is None and (storage.read("good") or b"\0")[-1]:
                raise ConfigError("secrets.json is missing")
            return in_force(load(texts[0], "config.json"), storage, secrets) + (secrets, wrong)
        except ConfigError as e:
            good = storage.read("good")
            if wrong or not good:
                raise
            wrong = e.reason + ": its copy is used"
            texts = [text or None for text in (good + b"\0").split(b"\0")]


def in_force(base, storage, secrets=None):
    """`base` (the object in config.json) with what commands changed of it. Returns the full configuration, the keys
    that this wake is to try (an empty dict: none), and those of a trial that no wake could finish with, or None.
    Checks `secrets` (the object in secrets.json) too.

    In the configuration, `networks` are pairs of a Wi-Fi's name and key in bytes, the preferred one first; `flashed` is
    `base`, and `changed` what commands changed: key -> [value, what config.json said then]. Once config.json says
    otherwise, the newer word is its own, and the change is gone for good.
    """
    _let_go()
    secrets = secrets or {}
    check_secrets(secrets)
    values = dict(base)
    undone = None
    try:
        kept = _held(storage, "kept", base)
        new, trial = _trial(storage, base)
        if trial and not new:
            undone = sorted(trial)
            trial = {}
            storage.remove("trial")
        kept.update(trial)
        for key in kept:
            values[key] = kept[key][0]
        full = check(values)
    except ConfigError as e:
        full = check(base)  # else it is not their fault
        kept, trial, undone = {}, {}, [e.reason]
        storage.remove("kept")
        storage.remove("trial")
    first = full["network"], secrets.get("wifi_password", "").encode()
    full["networks"] = [first] + _networks(secrets.get("wifi", []))
    full["flashed"], full["changed"] = base, kept
    return full, trial, undone


def _let_go():
    if sys.implementation.name == "micropython":
        sys.modules.pop("dormouse.config", None)
        setattr(sys.modules["dormouse"], "config", None)  # noqa: B010 (mypy knows no such attribute)


def _held(storage, name, base, head=b""):
    """The changes in a file of which the first bytes are `head`; without those that config.json has overtaken, which
    leave the file, too.
    """
    changes = load((storage.read(name) or b"")[len(head) :] or None, "settings in " + name)
    current = {}
    for key in changes:
        entry = changes[key]
        if isinstance(entry, list) and len(entry) == 2 and base.get(key) == entry[1]:
            current[key] = entry
    if len(current) < len(changes):
        storage.replace(name, head + encode(current))
    return current


def _trial(storage, base):
    """(has no wake connected with it yet?, what is on trial)."""
    head = (storage.read("trial") or b"1")[:1]
    return head == b"0", _held(storage, "trial", base, head)


def _entries(config, values):
    """These values as changes of `config`."""
    return {key: [values[key], config["flashed"].get(key)] for key in values}


def change(storage, config, values):
    """Keep these from now on, whatever is on trial. Returns the full configuration; ConfigError names the first wrong
    key.
    """
    _let_go()
    full = check(values, config)
    entries = _entries(config, values)
    new, trial = _trial(storage, config["flashed"])
    if any(key in trial for key in values):
        trial = {key: trial[key] for key in trial if key not in values}
        storage.replace("trial", (b"0" if new else b"1") + encode(trial))
    _keep(storage, config, entries)
    config["changed"].update(entries)
    return full


def _keep(storage, config, entries):
    kept = _held(storage, "kept", config["flashed"])
    kept.update(entries)
    storage.replace("kept", encode(kept))


def try_out(storage, config, values):
    """The next wake that connects does it with these, and keeps them if it finishes."""
    _let_go()
    check(values, config)
    if values:
        new, trial = _trial(storage, config["flashed"])
        full = trial if new else {}
        full.update(_entries(config, values))
        storage.replace("trial", b"0" + encode(full))


def told(config):
    """Every setting that config.json or a command names, a plain value: key -> [value, "flashed"], or
    [value, "command", what config.json says].
    """
    _let_go()
    known = {}
    for key in KEYS:
        if key in config["changed"]:
            value, was = config["changed"][key]
            known[key] = [value, "command", was]
        elif key in config["flashed"]:
            known[key] = [config["flashed"][key], "flashed"]
    return known


def begin(storage, trial):
    """A wake is going to connect with what is on trial."""
    _let_go()
    storage.replace("trial", b"1" + encode(trial))


def finish(storage, config, trial):
    """A wake has finished with what was on trial, which is kept but for what commands have changed meanwhile."""
    _let_go()
    _keep(storage, config, {key: trial[key] for key in trial if config["changed"].get(key) == trial[key]})
    if not _trial(storage, config["flashed"])[0]:  # unless this wake has put others there
        storage.remove("trial")
