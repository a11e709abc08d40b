"""What can be known before the first byte is written: whose board it is, what holds its port, what the broker says.

What the device would refuse too is an error; what may be different where the device will be is a warning.
"""

import json
import socket
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dormouse.ports.storage import Storage
from dormouse.state import State
from dormouse_host import trust
from dormouse_host.errors import HostError
from dormouse_host.flash import owned
from dormouse_host.flash.project import DeviceFiles
from dormouse_host.flash.wire import Wire

_SHARED_KEYS = (1, 29)  # the first MicroPython whose TLS has them
_WAIT = 4.0  # seconds for the broker
_CONNACK = {
    1: "speaks no MQTT 3.1.1",
    2: "refuses the client id",
    3: "is not available",
    4: "refuses user and password",
    5: "refuses user and password",
}

_MARK = """
try:
    with open("/state/wake", "rb") as f:
        print('"' + "".join(["%02x" % b for b in f.read(300)]) + '"')
except OSError:
    print("null")
"""


def has_network(device: DeviceFiles) -> bool:
    """Has the device's configuration a Wi-Fi, or Ethernet?"""
    return bool(device.full["network"] or device.full["lan"])


def check_network(device: DeviceFiles) -> None:
    """HostError where it has neither."""
    if not has_network(device):
        raise HostError("ssid is missing: --ssid, or ssid in [wifi] of dormouse.toml", 2)


# ---- the broker


def anchored(
    device: DeviceFiles, warn: Callable[[str], None], at: tuple[str, int] | None = None, *, board: bool = True
) -> DeviceFiles:
    """The device's files with the one CA of several that certifies its broker. HostError where none does, or where a
    board's TLS cannot speak with that broker. `at` as in `broker`.
    """
    full, known = device.full, device.trusted
    if not full["tls"] or full["psk"]:
        return device
    name = f"broker {full['host']}:{full['port']}"
    try:
        shown = trust.ask(full["host"], full["port"], at)
    except trust.NoTls as error:
        raise HostError(f"{name}: {error.strerror}", 2) from None
    except OSError as error:
        if not known:
            return device
        why = f"it is not reached from here ({error.strerror or error})"
        raise HostError(f"{name}: {why}, and of {len(known)} CAs a device takes one: give that one as ca", 1) from None
    if board and (why := shown.unfit()):
        raise HostError(f"{name}: {why}", 2)
    if not known:
        return device
    one = trust.anchor(shown, known)
    if one is None:
        top = trust.name(shown.chain[-1])
        raise HostError(f"{name}: its certificate is of none of these {len(known)} CAs; it shows {top}", 2)
    warn(f"{name} is certified by {trust.name(one)}, SHA-256 {trust.fingerprint(one)}")
    return replace(device, keys={**device.keys, full["ca"]: trust.der(one)}, trusted=())


def broker(device: DeviceFiles, warn: Callable[[str], None], at: tuple[str, int] | None = None) -> None:
    """Connect to the broker as the device, which must not run meanwhile. HostError where the device would refuse its
    certificate; a warning where it is not reached or refuses the device from here.

    `at`: where it is reached from here, if not at its own address. The device's session stays: it is taken up with
    clean_session=0, and removed only where this has made it.
    """
    name = f"broker {device.full['host']}:{device.full['port']}"
    if device.full["psk"] and not trust.SHARED_KEYS:
        warn(f"{name} is not tried from here: this Python's TLS has no shared keys, 3.13 is the first that does")
        return
    try:
        answer = _ask(device, at, clean=False)
        if answer == b"\x20\x02\0\0":
            _ask(device, at, clean=True)
    except ssl.SSLCertVerificationError as error:
        raise HostError(f"{name}: its certificate is refused by {device.ca}: {error.verify_message}", 2) from None
    except ssl.SSLError as error:
        what = "the shared key" if device.full["psk"] else "TLS"
        warn(f"{name} refuses {what} from here ({error.reason or error})")
        return
    except OSError as error:
        warn(f"{name} is not reached from here ({error.strerror or error}); the device may reach it")
        return
    if answer[:2] != b"\x20\x02":
        warn(f"{name} does not answer as an MQTT broker")
    elif answer[3]:
        warn(f"{name} {_CONNACK.get(answer[3], f'refuses with code {answer[3]}')}")


def _ask(device: DeviceFiles, at: tuple[str, int] | None, *, clean: bool) -> bytes:
    """The broker's CONNACK."""
    where = at or (device.full["host"], device.full["port"])
    with socket.create_connection(where, _WAIT) as bare, _secured(bare, device) as stream:
        stream.sendall(_connect(device, clean=clean))
        answer = _exactly(stream, 4)
        stream.sendall(b"\xe0\0")
        return answer


def _secured(bare: socket.socket, device: DeviceFiles) -> socket.socket:
    """The stream, in TLS where the device speaks it, checked against its own CA."""
    full, keys = device.full, device.keys
    if full["psk"]:
        own = trust.with_shared_key(full["id"], device.secrets["password"])
        return own.wrap_socket(bare, server_hostname=full["host"])
    if not full["tls"] or full["ca"] not in keys:
        return bare
    context = trust.context(trust.certificates(keys[full["ca"]], full["ca"]))
    if full["cert"] in keys and full["key"] in keys:
        with tempfile.TemporaryDirectory() as folder:  # its mode is 0700
            files = [Path(folder) / "cert", Path(folder) / "key"]
            for path, kind, one in zip(files, ("CERTIFICATE", "PRIVATE KEY"), ("cert", "key"), strict=True):
                path.write_text(_pem(keys[full[one]], kind))
            context.load_cert_chain(files[0], files[1])
    return context.wrap_socket(bare, server_hostname=full["host"])


def _pem(der: bytes, kind: str) -> str:
    if kind == "CERTIFICATE":
        return ssl.DER_cert_to_PEM_cert(der)
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_der_private_key(der, None)
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()


def _connect(device: DeviceFiles, *, clean: bool) -> bytes:
    """CONNECT (MQTT 3.1.1, section 3.1)."""
    user, password = device.secrets.get("user"), device.secrets.get("password", "")
    texts = [device.full["id"], *([user, password] if user else [])]
    body = b"\0\x04MQTT\x04" + bytes([0xC0 * bool(user) | 2 * clean]) + b"\0\x0a"
    body += b"".join(len(text.encode()).to_bytes(2, "big") + text.encode() for text in texts)
    size, length = len(body), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return b"\x10" + length + bytes([size]) + body


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := stream.recv(count - len(data))):
        data += more
    return data


# ---- the board


def firmware(device: DeviceFiles, version: tuple[int, ...]) -> None:
    """HostError where the board's MicroPython is too old for what the device is to do."""
    if device.full["psk"] and version < _SHARED_KEYS:
        told = ".".join(map(str, version))
        raise HostError(f"psk: the board has MicroPython {told}, whose TLS has no shared keys: 1.29 is the first", 3)


def identity(wire: Wire, device: str, *, new_device: bool) -> bool:
    """Is the board another device, which is to become this one? HostError where that was not asked for."""
    there = _name(wire)
    if there in (None, device):
        return False
    if new_device:
        return True
    raise HostError(
        f"the board is {there}: it would refuse to be {device}, because a new id is a new session; nothing was written:"
        " --new-device removes its state, with commands and telemetry not yet confirmed",
        2,
    )


def _name(wire: Wire) -> str | None:
    """The id of the device that the board has been, by its own state."""
    data = wire.ask(_MARK)
    if not data:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wake").write_bytes(bytes.fromhex(data))
        name: str | None = State(Storage(folder)).device
        return name


def replaced(wire: Wire, new: Mapping[str, Any], named: set[str]) -> tuple[list[str], dict[str, bytes]]:
    """What this flash changes of the settings on the board, in lines; and files of the agent's that it must change for
    it. `named`: the keys of the command line, which replace what commands have set even where config.json stays.
    """
    old, kept = _object(wire, "config.json"), _object(wire, "state/kept")
    lines, left = [], {}
    for key in sorted({*old, *new, *kept} - {"id"}):
        was, now = old.get(key), new.get(key)
        match kept.get(key):
            case [value, before] if before == was and was == now and key not in named:
                lines.append(f"{key}: {_word(value)} stays, which a command has set")
                left[key] = [value, before]
                continue
            case [value, before] if before == was:
                lines.append(f"{key}: {_word(value)}, which a command has set, becomes {_word(now)}")
                continue
        if old and was != now:
            lines.append(f"{key}: {_word(was)} becomes {_word(now)}")
    files = {"state/kept": json.dumps(left).encode()} if set(left) != set(kept) else {}
    trial = owned.read(wire, "state/trial") or ""
    waiting = _parsed(trial[1:])
    if over := named & set(waiting):
        lines += [f"{key}: the value that a command has put on trial is dropped" for key in sorted(over)]
        rest = {key: entry for key, entry in waiting.items() if key not in over}
        files["state/trial"] = trial[:1].encode() + json.dumps(rest).encode()
    return lines, files


def _word(value: Any) -> str:
    return "the default" if value is None else json.dumps(value, ensure_ascii=False)


def _object(wire: Wire, name: str) -> dict[str, Any]:
    return _parsed(owned.read(wire, name))


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
