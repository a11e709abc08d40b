"""Payloads: JSON in, as a Command or a ProtocolError with a reason; JSON out, as results and reports.

Must stay true: whatever bytes come in, nothing but ProtocolError comes out, within bounded memory and nesting; what
goes out is JSON in UTF-8 that any other reader understands. The host imports this very file, too.
"""

import json
import sys

from dormouse.errors import ConfigError, ProtocolError
from dormouse.protocol import CANCELLED, DEPTH_LIMIT, EXPIRED, TEXT_LIMIT, VALUE_LIMIT, split_id

_DO_LIMIT = 40  # characters of an unknown command's name that an answer repeats
_TYPES: dict = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


def legible_id(data):
    """The id at the very beginning of a payload that could not be parsed, or None. Only as first key is it believed."""
    parts = bytes(data[:64]).split(b'"')
    if len(parts) < 5 or parts[0].strip() != b"{" or parts[1] != b"id" or parts[2].strip() != b":":
        return None
    try:
        text = parts[3].decode()
        split_id(text)
    except (ValueError, UnicodeError):
        return None
    return text


def check_shape(data):
    """Reject what is nested too deeply, and what MicroPython's json.loads takes though it is cut off, unbalanced or
    holds a surrogate: it makes two of them where \\ud83d\\ude00 means one character, and writes them as broken UTF-8.
    """
    opened = []
    quoted = escaped = unicode = ended = False
    half = 0  # the least byte that would make what is before it a surrogate
    for byte in data:
        if escaped:
            escaped = False
            unicode = byte == 0x75
        elif quoted:
            if half and byte >= half:
                raise ProtocolError("half a character: send UTF-8, not surrogates")
            half = 0xA0 if byte == 0xED else 0x38 if unicode and byte | 32 == 0x64 else 0
            unicode = False
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
    """One command or tombstone: `void` is None for a command, else `cancelled` or `expired`.

    `id` is None for a command that was sent without one; `exp` is in Unix seconds or None; `crc` is the CRC-32 of
    the payload's bytes.
    """

    def __init__(self, crc):
        self.crc = crc
        self.id = self.state = self.ledger = self.do = self.exp = self.void = None
        self.number = 0
        self.args = {}

    def take_id(self, text):
        """Take over an id, or None; ProtocolError where it is not one."""
        if text is None:
            return
        try:
            self.state, self.ledger, self.number = split_id(text)
        except (ValueError, AttributeError, TypeError):
            raise ProtocolError("id is not <state>-<ledger>.<number>")
        self.id = text

    def parse(self, data):
        """Take in the bytes of one payload; ProtocolError says what is wrong with them. The id is taken first."""
        check_shape(data)
        try:
            message = json.loads(data)
        except (ValueError, UnicodeError):
            raise ProtocolError("not JSON")
        except MemoryError:  # else it would come again at every wake
            raise ProtocolError("not enough memory")
        if not isinstance(message, dict):
            raise ProtocolError("not a JSON object")
        if "id" in message:
            self.take_id(message["id"] or "")
        void, do, args, exp = message.get("void"), message.get("do"), message.get("args", {}), message.get("exp")
        if void is not None:
            if void not in (CANCELLED, EXPIRED) or self.id is None:
                raise ProtocolError("void needs an id, and is cancelled or expired")
            self.void = void
            return
        if not isinstance(do, str):
            raise ProtocolError("do is missing or not a string")
        self.do = do
        if not isinstance(args, dict):
            raise ProtocolError("args is not an object")
        self.args = args
        if exp is not None and (isinstance(exp, bool) or not isinstance(exp, (int, float))):
            raise ProtocolError("exp is not a number")
        self.exp = exp

    def head(self, find):
        """What running it takes: (do, handler, all arguments, exp, crc). ProtocolError where `find` knows no handler of
        that name, or where the arguments are not those that it declares.
        """
        handler = find(self.do)
        if handler is None:
            raise ProtocolError("unknown command %s" % self.do[:_DO_LIMIT])
        return self.do, handler, check_args(handler.spec, self.args), self.exp, self.crc


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
            raise ProtocolError("unknown argument %s" % str(name)[:40])  # MicroPython's JSON takes any scalar as key
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


def _is_plain(message):
    level = [message]
    for left in range(DEPTH_LIMIT, -1, -1):  # level by level: a call for each would need the C stack of a board
        deeper = []
        for value in level:
            if isinstance(value, float):
                if value - value != 0:  # infinite or NaN
                    return False
            elif value is not None and not isinstance(value, (bool, int, str)):
                if isinstance(value, dict):
                    for key in value:
                        if not isinstance(key, str):
                            return False
                    value = value.values()
                elif not isinstance(value, (list, tuple)):
                    return False
                if not left:
                    return False
                deeper.extend(value)
        level = deeper
    return True


if sys.implementation.name == "cpython":

    def _dumps(message):
        try:  # UTF-8 and not \ud83d\ude00, of which MicroPython makes two characters
            return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
        except UnicodeError:  # half of a pair
            return json.dumps(message, separators=(",", ":")).encode()

else:

    def _dumps(message):
        return json.dumps(message, separators=(",", ":")).encode()


def encode(message):
    """A message as the bytes that go on the wire: compact JSON in UTF-8; ProtocolError where JSON can't say it."""
    try:
        if _is_plain(message):  # MicroPython's json.dumps writes any object, and CPython's writes NaN
            return _dumps(message)
    except ValueError:  # CPython's, for an integer of thousands of digits
        pass
    raise ProtocolError("not expressible as JSON")


def encode_within(value, most=VALUE_LIMIT):
    """A value as bytes of JSON, or None where it is no plain JSON of at most so many bytes."""
    try:
        data = encode(value)
        return data if len(data) <= most else None
    except (ProtocolError, MemoryError):  # what memory can't hold as text is too long in any case
        return None


def result(status, command_id, crc, final=True, detail=b"", do=None):
    """One result. `crc` is that of the bytes first accepted under this id; without an id, `do` tells. `detail` is
    what `value_detail` or `why_detail` made.
    """
    message = {"status": status, "crc": crc}
    if command_id is not None:
        message["id"] = command_id
    elif do is not None:
        message["do"] = do[:_DO_LIMIT]
    if not final:
        message["final"] = False
    return encode(message)[:-1] + detail + b"}"


def value_detail(value, most=VALUE_LIMIT):
    """A handler's value as a piece of a result; None where it is no plain JSON of at most so many bytes."""
    data = b"" if value is None else encode_within(value, most)
    return b',"value":' + data if data else data


def why_detail(reason):
    """A reason as a piece of a result."""
    data = encode(reason[:TEXT_LIMIT])
    if len(data) > 2 * TEXT_LIMIT:  # escapes, six bytes for a character
        data = encode(reason[: TEXT_LIMIT // 4])
    return b',"why":' + data


def listed(head, entries):
    """A list of entries that are JSON already, in pieces; `head` is what stands before the first, up to its bracket."""
    pieces = [head]
    for entry in entries:
        pieces += (entry, b",")
    pieces[-1] = b"]" if head == b"[" else b"]}"
    return pieces
