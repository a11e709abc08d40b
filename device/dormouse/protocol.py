"""Topics and payloads: what device and host say to each other, whatever carries it.

Must stay true: both sides import this very file, so a topic, a status or a limit has one place. Whatever bytes
come in, the answer is a Command or a ProtocolError with a reason, within bounded memory and nesting.
"""

import json
from binascii import crc32

from dormouse.errors import ConfigError, ProtocolError

VERSION = "0.1.0"
ROOT = "dormouse"

CMD = "down/cmd"
FENCE = "down/fence"
WAKE = "up/wake"
RESULT = "up/result"
TELEMETRY = "up/telemetry"
END = "up/end"

SUCCEEDED = "succeeded"
FAILED = "failed"
REJECTED = "rejected"
INTERRUPTED = "interrupted"
EXPIRED = "expired"
CANCELLED = "cancelled"
UNKNOWN = "unknown"
RUNNING = "running"
FINAL = (SUCCEEDED, FAILED, REJECTED, INTERRUPTED, EXPIRED, CANCELLED)

PAYLOAD_LIMIT = 2048  # bytes; a bigger payload is read off in pieces and rejected
DEPTH_LIMIT = 8  # nested arrays and objects; 1020 of them overflow MicroPython's stack (FACTS.md)
VALUE_LIMIT = 512  # bytes of JSON that one result may carry
TEXT_LIMIT = 120  # characters of a reason
NUMBER_LIMIT = 1 << 30  # a command's number stays a small integer on 32-bit MicroPython

_NAME = "abcdefghijklmnopqrstuvwxyz0123456789"
_DEVICE = _NAME + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-."
_TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


def _made_of(text, letters, most):
    return isinstance(text, str) and 0 < len(text) <= most and all(c in letters for c in text)


def check_device_id(device):
    """Return `device`, or raise ConfigError: 1 to 64 of A-Z a-z 0-9 _ - . and so safe in a topic and a file name."""
    if not _made_of(device, _DEVICE, 64):
        raise ConfigError("id: 1 to 64 characters of A-Z a-z 0-9 _ - . are allowed")
    return device


def check_root(root):
    """Return `root`, or raise ConfigError: levels as in a device id, joined by `/`."""
    if not isinstance(root, str) or len(root) > 64 or not all(_made_of(s, _DEVICE, 64) for s in root.split("/")):
        raise ConfigError("root: levels of A-Z a-z 0-9 _ - . joined by /, 64 characters at most")
    return root


def topic(root, device, leaf):
    """The full topic of `leaf` (one of CMD, FENCE, …, or `down/#`)."""
    return "%s/%s/%s" % (root, device, leaf)


def split_id(text):
    """`<state>-<ledger>.<number>` as (state, ledger, number); ValueError where it is anything else."""
    state, _, rest = text.partition("-")
    ledger, _, digits = rest.partition(".")
    if not (_made_of(state, _NAME, 12) and _made_of(ledger, _NAME, 12) and _made_of(digits, "0123456789", 10)):
        raise ValueError
    number = int(digits)
    if digits[0] == "0" or number >= NUMBER_LIMIT:
        raise ValueError
    return state, ledger, number


def legible_id(data):
    """The id in the first bytes of a payload that was not parsed, or None."""
    at = data.find(b'"id"')
    if at < 0:
        return None
    part = data[at + 4 : at + 48].split(b'"')
    if len(part) < 3 or part[0].strip() != b":":
        return None
    try:
        text = part[1].decode()
        split_id(text)
    except (ValueError, UnicodeError):
        return None
    return text


def _check_shape(data):
    """Reject what is nested too deeply, and what MicroPython's json.loads takes though it is cut off or unbalanced."""
    opened = []
    quoted = escaped = ended = False
    for byte in data:
        if escaped:
            escaped = False
        elif quoted:
            if byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte in b" \t\r\n":
            pass
        elif ended:
            raise ProtocolError("not JSON")
        elif byte == 0x22:
            quoted = True
        elif byte == 0x5B or byte == 0x7B:
            if len(opened) == DEPTH_LIMIT:
                raise ProtocolError("nested deeper than %d" % DEPTH_LIMIT)
            opened.append(byte + 2)  # the closing bracket of [ and of { stands two places after it in ASCII
        elif byte == 0x5D or byte == 0x7D:
            if not opened or opened.pop() != byte:
                raise ProtocolError("not JSON")
            ended = not opened
    if not ended:
        raise ProtocolError("not JSON")


class Command:
    """One command or tombstone as it came: `void` is None for a command, else `cancelled` or `expired`.

    `id` is None for a command that was sent without one; `exp` is in Unix seconds or None; `crc` is the CRC-32 of
    the payload's bytes.
    """

    def __init__(self, crc):
        self.crc = crc
        self.id = self.state = self.ledger = self.name = self.do = self.exp = self.void = None
        self.number = 0
        self.args = {}


def parse_command(data):
    """Turn the bytes of one payload into a Command; ProtocolError says what is wrong with them."""
    command = Command(crc32(data))
    _check_shape(data)
    try:
        message = json.loads(data)
    except (ValueError, UnicodeError):
        raise ProtocolError("not JSON")
    if not isinstance(message, dict):
        raise ProtocolError("not a JSON object")
    if "id" in message:
        try:
            command.state, command.ledger, command.number = split_id(message["id"])
        except (ValueError, AttributeError, TypeError):
            raise ProtocolError("id is not <state>-<ledger>.<number>")
        command.id = message["id"]
    void = message.get("void")
    if void is not None:
        if void not in (CANCELLED, EXPIRED) or command.id is None:
            raise ProtocolError("void needs an id, and is cancelled or expired")
        command.void = void
        return command
    if not isinstance(message.get("do"), str):
        raise ProtocolError("do is missing or not a string")
    command.do = message["do"]
    command.name = message.get("u")
    command.args = message.get("args", command.args)
    if not isinstance(command.args, dict):
        raise ProtocolError("args is not an object")
    command.exp = message.get("exp")
    if command.exp is not None and (isinstance(command.exp, bool) or not isinstance(command.exp, (int, float))):
        raise ProtocolError("exp is not a number")
    return command


def type_name(kind):
    """The catalogue's name of a declared type; ConfigError where it is none of them."""
    for name in _TYPES:
        if kind is _TYPES[name] or (name == "float" and kind is float):
            return name
    raise ConfigError("an argument's type is int, float, str, bool, list or dict")


def check_args(spec, args):
    """`args` with the defaults filled in. `spec` maps a name to a type's name, or to [type's name, default].

    Raises ProtocolError naming the first argument that is missing, unknown or of another type.
    """
    for name in args:
        if name not in spec:
            raise ProtocolError("unknown argument %s" % name[:40])
    full = {}
    for name in spec:
        kind = spec[name]
        if not isinstance(kind, str):
            kind, full[name] = kind
        if name in args:
            value = args[name]
            if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise ProtocolError("argument %s is not of type %s" % (name, kind))
            full[name] = value
        elif name not in full:
            raise ProtocolError("argument %s is missing" % name)
    return full


def _is_plain(value, depth):
    if value is None or isinstance(value, (bool, int, str)):
        return True
    if isinstance(value, float):
        return value - value == 0  # neither infinite nor NaN
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(_is_plain(v, depth - 1) for v in value.values())
    return isinstance(value, (list, tuple)) and all(_is_plain(v, depth - 1) for v in value)


def encode(message):
    """A message as the bytes that go on the wire: compact JSON in UTF-8; ProtocolError where JSON can't say it."""
    if not _is_plain(message, DEPTH_LIMIT):  # MicroPython's json.dumps writes any object, and CPython's writes NaN
        raise ProtocolError("not expressible as JSON")
    return json.dumps(message, separators=(",", ":")).encode()


def fits(value):
    """May a result carry this value: plain JSON, and not too long?"""
    try:
        return len(encode(value)) <= VALUE_LIMIT
    except ProtocolError:
        return False


def result(status, command_id, crc, final=True, value=None, why=None, do=None):
    """The payload of one result. `crc` is that of the bytes first accepted under this id; without an id, `do` tells."""
    message = {"id": command_id, "status": status, "crc": crc}
    if command_id is None:
        del message["id"]
        if do is not None:
            message["do"] = do
    if not final:
        message["final"] = False
    if value is not None:
        message["value"] = value
    if why is not None:
        message["why"] = why[:TEXT_LIMIT]
    return encode(message)
