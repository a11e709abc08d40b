"""Messages that go out: compact JSON in UTF-8, of bounded size and depth, the same on both interpreters."""

import json

from desk import reason

from dormouse import codec, protocol
from dormouse.codec import encode, encode_within
from dormouse.errors import ProtocolError

# ---- encoding


def test_a_message_is_compact_json_in_utf8():
    """Both interpreters write the same bytes, and MicroPython can read them."""
    assert codec.encode({"a": [1, None, True, "é"]}) == b'{"a":[1,null,true,"\xc3\xa9"]}'
    assert codec.encode("\U0001f600") == b'"\xf0\x9f\x98\x80"'
    assert json.loads(codec.encode({"a": '"\\\n\x01', "b": -1.5, "c": (1, 2)})) == {
        "a": '"\\\n\x01',
        "b": -1.5,
        "c": [1, 2],
    }


def test_what_json_cannot_say_is_refused():
    """MicroPython's json.dumps writes any object, CPython's writes NaN."""
    inf = 1e999
    for value in (
        inf,
        -inf,
        inf - inf,
        b"x",
        bytearray(b"x"),
        {1: 2},
        {None: 1},
        {b"a": 1},
        object(),
        {1, 2},
        int,
        [[b""]],
    ):
        assert reason(ProtocolError, codec.encode, value) == "not expressible as JSON", value
        assert reason(ProtocolError, codec.encode, {"a": [value]})
        assert codec.encode_within(value) is None


def test_what_is_deeper_than_eight_levels_or_endless_is_refused():
    """A handler may return a list that contains itself."""
    deep: list = []
    for _ in range(7):
        deep = [deep]
    assert codec.encode(deep) == b"[[[[[[[[]]]]]]]]"
    assert reason(ProtocolError, codec.encode, [deep])
    loop: list = []
    loop.append(loop)
    assert reason(ProtocolError, codec.encode, loop)


def test_a_list_that_is_in_itself_many_times_is_refused_before_it_fills_the_memory():
    """Thirty times on each of eight levels are 656 thousand million values."""
    wide: list = [None] * 30
    wide[:] = [wide] * 30
    assert reason(ProtocolError, encode, wide) == "not expressible as JSON"
    assert encode_within({"x": wide}) is None


def test_an_integer_of_thousands_of_digits_does_not_fit():
    """CPython refuses to print it with a ValueError, which nobody expects of a value."""
    assert codec.encode_within(10**5000) is None
    assert codec.encode_within({"n": [10**5000]}) is None


def test_a_value_fits_up_to_its_limit_in_bytes():
    """Bytes on the wire count, not characters."""
    assert codec.encode_within("x" * 510)
    assert codec.encode_within("x" * 511) is None
    assert codec.encode_within("é" * 300) is None
    assert codec.encode_within([1, 2], 5)
    assert codec.encode_within([1, 2], 4) is None


# ---- results


def test_a_result_says_what_it_answers():
    """By id; without one, by the command's name; `final` stands there only where it is false."""
    read = json.loads
    assert read(codec.result("succeeded", "a-b.1", 9, True, codec.value_detail({"v": 1}), "x")) == {
        "status": "succeeded",
        "crc": 9,
        "id": "a-b.1",
        "value": {"v": 1},
    }
    assert read(codec.result("failed", None, 9, True, codec.why_detail("so"), "x")) == {
        "status": "failed",
        "crc": 9,
        "do": "x",
        "why": "so",
    }
    assert read(codec.result("running", "a-b.1", 0, False)) == {
        "status": "running",
        "crc": 0,
        "id": "a-b.1",
        "final": False,
    }
    assert read(codec.result("rejected", None, 4294967295)) == {"status": "rejected", "crc": 4294967295}
    assert codec.value_detail(None) == b""


def test_a_result_is_small_whatever_it_answers():
    """What a stranger sent must not come back in full: 64 answers may be held at once."""
    entry = codec.result("rejected", None, 1, True, codec.why_detail("\x01" * 2000), "\x01" * 2000)
    assert len(entry) < protocol.BATCH
    assert len(json.loads(entry)["why"]) == protocol.TEXT_LIMIT // 4
    entry = codec.result("rejected", None, 1, True, codec.why_detail("x" * 2000), "\x01" * 2000)
    assert len(entry) < protocol.BATCH
    assert len(json.loads(entry)["why"]) == protocol.TEXT_LIMIT
