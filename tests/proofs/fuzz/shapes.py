"""Shapes of made-up bytes: near enough to the real thing to get past the first check.

Must stay true: every shape can also be plain noise.
"""

import json

from hypothesis import strategies as st

NOISE = st.binary(max_size=300)
_NAMES = st.sampled_from(["id", "u", "do", "args", "exp", "void", "ledger", "s", "n", "x"])
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["000102-l.1", "000102-l.1073741823", "x-l.1", "once", "takes", "cancelled", "expired", "-.0"]),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=12
)


@st.composite
def _json(draw: st.DrawFn) -> bytes:
    """JSON, most often an object with our keys, whole or damaged."""
    value = draw(st.dictionaries(_NAMES, _VALUES, max_size=6) | _VALUES)
    text = bytearray(json.dumps(value, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass"))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=3)):
        if text:
            text[at % len(text)] = byte
    return bytes(text) * draw(st.sampled_from([1, 1, 1, 2, 40]))


_KINDS = st.sampled_from([0x30, 0x32, 0x33, 0x3A, 0x34, 0x36, 0x40, 0x62, 0x70, 0x90, 0xD0, 0x20])
_TOPICS = st.sampled_from([b"dormouse/dev/down/cmd", b"dormouse/dev/down/fence", b"x", b""])
_BODIES = st.sampled_from([b"\x00\x01", b"\x00\x02", b"\x00\x01\x01", b"\x00\x01\x80", b""])


def _length(size: int) -> bytes:
    head = bytearray()
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head)


@st.composite
def _packet(draw: st.DrawFn) -> bytes:
    """One MQTT packet, in order or with a length, a type or an id that is not."""
    kind = draw(_KINDS | st.integers(0, 255))
    if kind >> 4 == 3:
        topic = draw(_TOPICS | st.binary(max_size=30))
        pid = draw(st.sampled_from([b"\x00\x01", b"\x00\x00", b"\xff\xff"])) if kind & 6 else b""
        body = len(topic).to_bytes(2, "big") + topic + pid + draw(_json() | st.just(b"n") | NOISE)
    else:
        body = draw(_BODIES | st.binary(max_size=6))
    size = draw(st.just(len(body)) | st.integers(0, 300) | st.sampled_from([268435455, 65536, 2049]))
    return bytes([kind]) + draw(st.just(_length(size)) | st.binary(min_size=1, max_size=5)) + body


_PACKETS = st.builds(
    lambda piece, parts: bytes([piece]) + b"".join(parts), st.integers(0, 255), st.lists(_packet(), max_size=6)
)
_WINDOWS = st.text(alphabet=".osfriec0123456789", max_size=30).map(str.encode)
_IDS = st.builds("{}-{}.{}".format, st.text(max_size=13), st.text(max_size=13), st.integers() | st.text(max_size=11))
_MARKS = st.builds(
    lambda version, rest: bytes([version]) + rest, st.sampled_from([0, 1, 2, 255]), st.binary(min_size=20, max_size=90)
)

SHAPES = {
    "packets": _PACKETS | NOISE,
    "payload": _json() | NOISE,
    "journal": st.binary(max_size=60) | NOISE,
    "mark": _MARKS | NOISE,
    "retained": _MARKS | NOISE,
    "settings": _json() | st.builds(lambda j: b"0" + j, _json()) | NOISE,
    "texts": _WINDOWS | _IDS.map(lambda text: text.encode(errors="replace")) | NOISE,
    "said": _json() | NOISE,
}
