"""The names of the protocol: topics, statuses, limits, ids, and windows as text.

Must stay true: device and host import this very file, so each of them has one place.
"""

from dormouse.errors import ConfigError

VERSION = "0.1.0"
ROOT = "dormouse"

CMD = "down/cmd"
FENCE = "down/fence"
FILE = "down/file"
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
OPEN = "open"  # in a window: taken and not yet settled
# The status of a number in a window is an index into this; 0 is: never seen.
STATUSES = (None, OPEN) + FINAL
_DIGITS = "0123456789"
_LETTERS = ".osfriec"  # one for each of STATUSES, in the end record
WINDOW = 256  # numbers, the highest and those below it, that a device remembers for each ledger (RFC 4303, 3.4.3)

FORGET = "forget_ledger"
# the commands that every device answers (builtins.py)
STANDARD = (
    "ping",
    "describe",
    "report",
    "set_interval",
    "config",
    "stay_awake",
    "resend",
    FORGET,
    "set_password",
    "set_certificate",
    "log",
    "reset",
    "update",
)
# what is under way with the slots of a board, for guard.py: from one boot to the next
IDLE, SENDING, TRIAL, KEPT, BACK = range(5)
FORMATS = 1  # of journal, state and settings on flash: two slots share them
PAYLOAD_LIMIT = 2048  # bytes; a bigger payload is read off in pieces and rejected
DEPTH_LIMIT = 8  # nested arrays and objects; 1020 of them overflow MicroPython's stack (docs/design.md)
VALUE_LIMIT = 512  # bytes of JSON that a command's result may carry
BATCH = 1024  # bytes of one publish of results or telemetry
TEXT_LIMIT = 240  # characters of a reason
NUMBER_LIMIT = 1 << 30  # a command's number stays a small integer on 32-bit MicroPython


def _is_name(text, most, more=""):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789" + more
    return isinstance(text, str) and 0 < len(text) <= most and all(c in letters for c in text)


def _is_level(text):
    return _is_name(text, 64, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-.")


def check_device_id(device):
    """Return `device`, or raise ConfigError: 1 to 64 of A-Z a-z 0-9 _ - . and so safe in a topic and a file name."""
    if not _is_level(device) or device in (".", ".."):
        raise ConfigError("id: 1 to 64 characters of A-Z a-z 0-9 _ - . are allowed")
    return device


def check_root(root):
    """Return `root`, or raise ConfigError: levels as in a device id, joined by `/`."""
    if not isinstance(root, str) or len(root) > 64 or not all(_is_level(s) for s in root.split("/")):
        raise ConfigError("root: levels of A-Z a-z 0-9 _ - . joined by /, 64 characters at most")
    return root


def topic(root, device, leaf):
    """The full topic of `leaf` (one of CMD, FENCE, …, or `down/#`)."""
    return "%s/%s/%s" % (root, device, leaf)


def split_id(text):
    """`<state>-<ledger>.<number>` as (state, ledger, number); ValueError where it is anything else."""
    state, _, rest = text.partition("-")
    ledger, _, digits = rest.partition(".")
    if not (_is_name(state, 12) and _is_name(ledger, 12) and digits.encode().isdigit() and len(digits) <= 10):
        raise ValueError
    number = int(digits)
    if digits[0] == "0" or number >= NUMBER_LIMIT:
        raise ValueError
    return state, ledger, number


def pack_window(codes):
    """Status codes, from the highest number downward, as text: a letter for each, and how often where more than once.

    What was never seen at the far end is left out: `s3.f` is succeeded three times, one unseen, one failed.
    """
    parts = []
    last = count = 0
    for code in codes:
        if code == last:
            count += 1
            continue
        if count:
            parts.append(_LETTERS[last] + (str(count) if count > 1 else ""))
        last, count = code, 1
    if last:
        parts.append(_LETTERS[last] + (str(count) if count > 1 else ""))
    return "".join(parts)


def unpack_window(text):
    """The inverse of `pack_window`: a list of statuses, at most WINDOW long. ValueError for anything else."""
    if not isinstance(text, str):
        raise ValueError("a window is text")
    statuses = []
    at = 0
    while at < len(text):
        code = _LETTERS.index(text[at])
        end = at + 1
        while end < len(text) and text[end] in _DIGITS:
            end += 1
        count = int(text[at + 1 : end][:4]) if end > at + 1 else 1
        if count == 0 or count > WINDOW - len(statuses):
            raise ValueError("more than a window")
        statuses += [STATUSES[code]] * count
        at = end
    return statuses


def standard_specs():
    """The arguments of those of STANDARD that have any, each a type's name, or [type's name, default]."""
    return {
        "set_interval": {"connect_every": ["int", 0], "sample_every": ["int", -1]},
        "config": {"set": ["dict", {}]},
        "stay_awake": {"s": "int"},
        "resend": {"from": "int", "to": "int"},
        FORGET: {"ledger": "str"},
        "set_password": {"password": "str"},
        "set_certificate": {"cert": "str", "key": "str"},
    }
