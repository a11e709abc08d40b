"""What is JSON and what is not: one verdict on both interpreters, whatever their own readers take."""

import json

from desk import parsed, reason, refused

from dormouse import codec
from dormouse.errors import ConfigError

NO_JSON = (
    (b"NaN", "a value, not N"),
    (b"Infinity", "a value, not I"),
    (b"-Infinity", "a value, not -"),
    (b"1e999", "a value, not 1"),
    (b"-1e999", "a value, not -"),
    (b"01", "a value, not 0"),
    (b"+1", "a value, not +"),
    (b".5", "a value, not ."),
    (b"1.", "a value, not 1"),
    (b"1e", "a value, not 1"),
    (b"0x10", "a value, not 0"),
    (b"1-2", "a value, not 1"),
    (b"9" * 401, "a value, not 9"),
    (b"True", "a value, not T"),
    (b"nul", "a value, not n"),
    (b"truefalse", "a value, not t"),
    (b"'x'", "a value, not '"),
    (b"// x\n1", "a value, not /"),
    (b"# x\n1", "a value, not #"),
    (b"", "a value, not }"),
    (b"[1,]", "a value, not ]"),
    (b"[,1]", "a value or ], not ,"),
    (b"[1 2]", ", or the closing bracket, not 2"),
    (b"[1:2]", ", or the closing bracket, not :"),
    (b'{"a":1,}', 'a key in ", not }'),
    (b"{,}", 'a key in " or }, not ,'),
    (b'{"a" 1}', ":, not 1"),
    (b'{"a","b"}', ":, not ,"),
    (b"{a:1}", 'a key in " or }, not a'),
    (b"{1:1}", 'a key in " or }, not 1'),
    (b'{"a":1 "b":2}', ', or the closing bracket, not "'),
    (b'"a" "b"', ', or the closing bracket, not "'),
    (b"\xff", "UTF-8 without a byte order mark"),
    (b"\xa0" + b"1", "UTF-8 without a byte order mark"),
    (b"1\0", "UTF-8 without a byte order mark"),
    (b'"a\nb"', "control character"),
    (b'"a\tb"', "control character"),
    (b'"\\x41"', "closing quote, or with"),
    (b'"\\u12g4"', "closing quote, or with"),
    (b'"\\u12"', "closing quote, or with"),
)


def test_what_one_interpreter_takes_beyond_json_is_refused_on_both_and_says_what_is_wanted():
    """CPython takes NaN and UTF-16, MicroPython missing commas, half numbers and what is cut off."""
    for value, words in NO_JSON:
        why = refused(b'{"do":"x","args":{"a":' + value + b"}}")
        assert why.startswith("not JSON: "), value
        assert words in why, (value, why)
        assert refused(b'{"do":"x","exp":' + value + b"}"), value
    text = b'{"do":"x"}'
    wide = b"".join(b"%c\0" % byte for byte in text)
    for data in (b"\xef\xbb\xbf" + text, b"\xff\xfe" + wide, wide, b"\0{\0}"):
        assert refused(data) == "not JSON: expected UTF-8 without a byte order mark", data


def test_every_number_and_word_of_json_is_taken():
    """And read alike."""
    for value in (b"0", b"-0", b"10", b"-1.50", b"1e5", b"1E+5", b"0.5e-3", b"true", b"false", b"null", b"9" * 400):
        data = b'{"do":"x","args":{"a":[' + value + b"," + value + b"]}}"
        assert parsed(data).args == json.loads(data)["args"], value


def test_an_object_of_a_file_is_wrong_in_a_line():
    """Its owner has an editor and no patience."""
    for text, line, words in (
        (b'{\n "id": "d",\n "led": "x",\n}', 4, 'a key in ", not }'),
        (b'{\r\n "id": "d"\r\n "led": 1}', 3, "the closing bracket"),
        (b'{"id": "d",\n\n// the broker\n"broker": 1}', 3, 'a key in ", not /'),
        (b'{"id": "d", "a": 1,\n"id": "e"}', 2, "the key id stands twice"),
        (b'\xef\xbb\xbf{"id": "d"}', 1, "without a byte order mark"),
        (b'\xff\xfe{\0"\0', 1, "without a byte order mark"),
        (b'{"id": "d"', 1, "cut off"),
        (b'{"id":\n"d', 2, "without its closing quote"),
    ):
        why = reason(ConfigError, codec.load, text, "config.json")
        assert why.startswith("config.json, line %d: " % line), (text, why)
        assert words in why, (text, why)
    assert "not UTF-8" in reason(ConfigError, codec.load, b'{"id":"\xe9"}', "config.json")
    assert codec.load(b'{\r\n "id": "d"\r\n}\r\n', "config.json") == {"id": "d"}
