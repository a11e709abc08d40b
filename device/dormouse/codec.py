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

# What may come next in JSON, and its words in an error
_VALUE, _FIRST, _KEY, _FIRST_KEY, _COLON, _NEXT, _END = range(7)
_WANTED = ("a value", "a value or ]", 'a key in "', 'a key in " or }', ":", ", or the closing bracket", "the end")
_PLAIN = b"+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"  # of numbers and words
_HEX = b"0123456789abcdefABCDEF"
_LONGEST = 400  # characters of a number
_WIDEST = 2000  # values on one level, more than 4000 bytes hold: a list that is in itself many times grows beyond it


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
    """Reject all that is not JSON by RFC 8259, nested too deeply, or twice the same key: the two interpreters' own
    readers differ in what they take beyond it (cut off or unbalanced text, missing commas, NaN, UTF-16, 1e999). Half a
    surrogate pair, which MicroPython makes of \\ud83d\\ude00, is rejected too. The error's `at` is a place in `data`.
    """
    opened = []  # closing brackets, and the keys of each object so far
    keys = []
    state, at, end = _VALUE, 0, len(data)
    while at < end:
        byte, start = data[at], at
        at += 1
        if byte in b" \t\r\n":
            continue
        why = None
        if byte == 0x22 and opened and state < _COLON:
            at = _end_of_text(data, at)
            if state < _KEY:
                state = _NEXT
                continue
            state, key = _COLON, bytes(data[start + 1 : at - 1])
            if key not in keys[-1]:
                keys[-1].add(key)
                continue
            why = "the key %s stands twice in its object" % key.decode()[:40]
        elif byte in b"[{" and state < _KEY:
            if len(opened) == DEPTH_LIMIT:
                why = "nested deeper than %d" % DEPTH_LIMIT
            opened.append(byte + 2)  # the closing bracket of [ and of { stands two places after it in ASCII
            keys.append(set())
            state = _FIRST if byte == 0x5B else _FIRST_KEY
        elif byte in b"]}" and opened and opened[-1] == byte and state in (_FIRST, _FIRST_KEY, _NEXT):
            opened.pop()
            keys.pop()
            state = _NEXT if opened else _END
        elif byte == 0x2C and state == _NEXT:
            state = _KEY if opened[-1] == 0x7D else _VALUE
        elif byte == 0x3A and state == _COLON:
            state = _VALUE
        else:
            while at < end and data[at] in _PLAIN:
                at += 1
            if state < _KEY and opened and _is_scalar(bytes(data[start:at])):
                state = _NEXT
            elif byte > 126 or byte < 32:
                why = "not JSON: expected UTF-8 without a byte order mark"
            else:
                why = "not JSON: expected %s, not %s" % (_WANTED[state] if opened or state else "{", chr(byte))
        if why:
            raise _wrong(why, start)
    if state != _END:
        raise _wrong("not JSON: cut off", end)


def _wrong(why, at):
    error = ProtocolError(why)
    error.at = at
    return error


def _end_of_text(data, at):
    """The place after the quote that ends a text of which `at` is the first byte."""
    escaped = unicode = False
    half = 0  # the least byte that would make what is before it a surrogate
    while at < len(data):
        byte = data[at]
        at += 1
        if byte < 32:
            break
        if escaped:
            escaped = False
            unicode = byte == 0x75
            if byte not in b'"\\/bfnrtu' or (unicode and not all(c in _HEX for c in bytes(data[at : at + 4]))):
                break
        else:
            if half and byte >= half:
                raise _wrong("half a character: send UTF-8, not surrogates", at - 1)
            half = 0xA0 if byte == 0xED else 0x38 if unicode and byte | 32 == 0x64 else 0
            unicode = False
            if byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                return at
    raise _wrong("not JSON: text without its closing quote, or with \\ or a control character in it", at)


def _is_scalar(token):
    """Is this a number that is finite, or one of JSON's words?"""
    if token in (b"true", b"false", b"null"):
        return True
    digits = token.lower()
    if digits[:1] == b"-":
        digits = digits[1:]
    body, e, power = digits.partition(b"e")
    whole, point, part = body.partition(b".")
    if power[:1] in (b"+", b"-"):
        power = power[1:]
    if not whole.isdigit() or (whole[:1] == b"0" and len(whole) > 1) or len(token) > _LONGEST:
        return False
    if (point and not part.isdigit()) or (e and not power.isdigit()):
        return False
    value = float(token) if point or e else 0
    return value - value == 0


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
        try:
            check_shape(data)
            message = json.loads(data)
        except (ValueError, UnicodeError):
            raise ProtocolError("not JSON: not UTF-8")
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
        check_shape(text)
        values = json.loads(text)
    except ProtocolError as e:
        line = bytes(text[: e.at]).count(b"\n") + 1
        raise ConfigError("%s, line %d: %s" % (what, line, e.reason))
    except (ValueError, UnicodeError):
        raise ConfigError("%s: not JSON: not UTF-8" % what)
    if not isinstance(values, dict):
        raise ConfigError("%s: not a JSON object: expected {" % what)
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
                if len(deeper) > _WIDEST:
                    return False
        level = deeper
    return True


_NO_JSON = "not expressible as JSON"

if sys.implementation.name == "cpython":

    def _dumps(message):
        for escaped in (False, True):  # UTF-8 and not \ud83d\ude00, of which MicroPython makes two characters
            try:
                return json.dumps(message, separators=(",", ":"), ensure_ascii=escaped).encode()
            except UnicodeError:  # half of a pair
                pass
            except ValueError:  # an integer of thousands of digits
                break
        raise ProtocolError(_NO_JSON)

else:

    def _dumps(message):
        return json.dumps(message, separators=(",", ":")).encode()


def encode(message):
    """A message as the bytes that go on the wire: compact JSON in UTF-8; ProtocolError where JSON can't say it."""
    if _is_plain(message):  # MicroPython's json.dumps writes any object, and CPython's writes NaN
        return _dumps(message)
    raise ProtocolError(_NO_JSON)


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
