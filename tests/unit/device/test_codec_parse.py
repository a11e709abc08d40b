"""Payloads that come in: whatever bytes they are, they become a Command or a reason, the same on both interpreters."""

import json

from desk import Dice, parsed, reason, refused

from dormouse import codec
from dormouse.errors import ConfigError, ProtocolError


def nested(depth, inner=b"1"):
    """A command whose args make it `depth` deep altogether."""
    return b'{"do":"x","args":' + b'{"a":' * (depth - 1) + inner + b"}" * depth


# ---- the id of a command


def test_an_id_of_another_type_is_refused_and_not_a_crash():
    """JSON may put anything under `id`."""
    for value in ("5", "null", "true", "false", "[]", '["a-b.1"]', "{}", '{"a":1}', "1.5", '""', '"a-b.01"'):
        assert refused(b'{"id":' + value.encode() + b',"do":"x"}') == "id is not <state>-<ledger>.<number>", value


def test_the_id_is_taken_before_anything_else_is_refused():
    """A refusal with an id settles the command at its sender; one without can't."""
    for rest in (b'"do":5', b'"do":"x","args":3', b'"do":"x","exp":"soon"', b'"void":"gone"', b'"u":1'):
        command = codec.Command(0)
        assert reason(ProtocolError, command.parse, b'{"id":"a-b.3",' + rest + b"}")
        assert (command.id, command.state, command.ledger, command.number) == ("a-b.3", "a", "b", 3)


# ---- the id of what can't be parsed


def test_a_legible_id_is_believed_as_the_first_key_only():
    """Anywhere else it could stand in somebody's text, and a command of another would be settled by it."""
    assert codec.legible_id(b'{"id":"a-b.7","do":') == "a-b.7"
    assert codec.legible_id(b' \n{ "id" : "a-b.7" garbage') == "a-b.7"
    assert codec.legible_id(bytearray(b'{"id":"a-b.7"')) == "a-b.7"
    for data in (
        b'{"do":"x","id":"a-b.7"}',
        b'{"x":{"id":"a-b.7"}}',
        b'[{"id":"a-b.7"}]',
        b'"id":"a-b.7"',
        b'{"id" "a-b.7"}',
        b'{"id":["a-b.7"]}',
        b'{"id":"a-b.7',
        b'{"id":"a-b.07"}',
        b'{"id":"a-b.7 "}',
        b'{"id":"\xff-b.7"}',
        b"{'id':'a-b.7'}",
        b'{"id":7}',
        b"",
        b"{",
        b'""""',
        b"\xff" * 64,
    ):
        assert codec.legible_id(data) is None, data


def test_a_legible_id_stands_in_the_first_64_bytes():
    """So much of an oversized payload is kept for certain."""
    assert codec.legible_id(b'{"id":' + b" " * 50 + b'"a-b.7"}') == "a-b.7"
    assert codec.legible_id(b'{"id":' + b" " * 60 + b'"a-b.7"}') is None


# ---- parsing


def test_a_whole_command_is_taken_in():
    """The example of docs/design.md."""
    c = parsed(b'{"id":"7f3a-k9fe.17","u":"q4mz7c","do":"water","args":{"s":30},"exp":1795000000}')
    assert (c.id, c.do, c.args, c.exp, c.void, c.crc) == (
        "7f3a-k9fe.17",
        "water",
        {"s": 30},
        1795000000,
        None,
        7,
    )
    c = parsed(bytearray(b' \t\r\n{"do":"x"} \n'))
    assert (c.id, c.do, c.args, c.exp) == (None, "x", {}, None)


def test_a_tombstone_needs_an_id_and_is_cancelled_or_expired():
    """Nothing else can void a command, and what has no id can't be voided."""
    for status in ("cancelled", "expired"):
        c = parsed(b'{"id":"a-b.1","void":"' + status.encode() + b'"}')
        assert (c.void, c.do) == (status, None)
        assert refused(b'{"void":"' + status.encode() + b'"}')
    for value in ('"succeeded"', '"Cancelled"', '""', "true", "false", "0", "[]", '["cancelled"]', '{"cancelled":1}'):
        assert refused(b'{"id":"a-b.1","do":"x","void":' + value.encode() + b"}"), value


def test_a_tombstone_voids_even_when_it_looks_like_a_command():
    """`void` decides: such a payload must not run."""
    c = parsed(b'{"id":"a-b.1","void":"expired","do":"x","args":5}')
    assert (c.void, c.do) == ("expired", None)


def test_what_is_cut_off_is_refused():
    """MicroPython's json.loads takes `{"do":"x"`: half a command could be another command."""
    whole = b'{"id":"a-b.1","do":"x","args":{"a":[1,{"b":"c}]"}]},"exp":12}'
    assert parsed(whole).args == {"a": [1, {"b": "c}]"}]}
    for end in range(len(whole)):
        assert refused(whole[:end]).startswith("not JSON: "), whole[:end]


def test_what_is_unbalanced_or_followed_by_more_is_refused():
    """MicroPython's json.loads stops where it likes."""
    for data in (
        b'{"do":"x"}}',
        b'{"do":"x"]',
        b'{"do":"x","args":{"a":[1}}',
        b'{"do":"x","args":{"a":[1}]}',
        b'{"do":"x"}{"do":"y"}',
        b'{"do":"x"}1',
        b'{"do":"x"}\0',
        b'{"do":"x"},',
        b'}{"do":"x"}',
        b']{"do":"x"}',
        b'{"do":"x\\"}',
        b'{"do":"x}',
        b'{"do":"x"}"',
        b"{",
        b"[",
        b"",
        b" ",
        b"}",
        b"]",
    ):
        assert refused(data).startswith("not JSON: "), data


def test_what_is_no_object_is_refused():
    """A command is an object."""
    for data in (b"[]", b"[1]", b'["do"]', b'[{"do":"x"}]'):
        assert refused(data) == "not a JSON object", data
    for data in (b"1", b"-1.5e3", b'"x"', b"null", b"true", b"NaN"):
        assert refused(data).startswith("not JSON: "), data


def test_brackets_and_quotes_inside_strings_count_for_nothing():
    """A shape checker that looked into strings would refuse honest text."""
    for text in ("}", "]", "{{{{{{{{{{{{", "[[[[[[[[[[[", '\\"', "\\\\", '\\\\\\"}', "a\\u005d\\u0022", "\\n\\t\\/"):
        data = b'{"do":"x","args":{"s":"' + text.encode() + b'"}}'
        assert parsed(data).args == json.loads(data)["args"], text


def test_eight_levels_are_taken_and_nine_are_refused():
    """MicroPython's parser and the stack of a handler are bounded; so is what gets there."""
    assert parsed(nested(8)).do == "x"
    assert parsed(nested(7, b"[1]")).do == "x"
    assert refused(nested(9)) == refused(nested(8, b"[]")) == "nested deeper than 8"


def test_a_payload_of_brackets_is_a_refusal_and_not_a_crash():
    """1020 of them overflow MicroPython's stack (docs/design.md)."""
    for data in (b"[" * 2048, b'{"a":' * 400, b"[" * 1020 + b"]" * 1020):
        assert refused(data) == "nested deeper than 8"
    assert refused(b"[]" * 1000).startswith("not JSON: ")
    assert parsed(b'{"do":"x","args":{"a":[' + b"[]," * 300 + b"[]]}}").do == "x"


def test_do_is_a_string():
    """Everything else could only be misunderstood."""
    for value in ("5", "null", "true", "[]", "{}", '["x"]'):
        assert refused(b'{"do":' + value.encode() + b"}") == "do is missing or not a string", value
    assert refused(b"{}") == "do is missing or not a string"
    assert parsed(b'{"do":""}').do == ""


def test_args_is_an_object():
    """They are handed over by name."""
    for value in ("5", "null", "true", "[]", '"a"', '[["a",1]]'):
        assert refused(b'{"do":"x","args":' + value.encode() + b"}") == "args is not an object", value


def test_exp_is_a_number_and_true_is_none():
    """bool is an int in Python, and `true` as a time would be 1970."""
    for value in ("true", "false", '"1795000000"', "[]", "{}"):
        assert refused(b'{"do":"x","exp":' + value.encode() + b"}") == "exp is not a number", value
    assert parsed(b'{"do":"x","exp":null}').exp is None
    assert parsed(b'{"do":"x","exp":-1.5}').exp == -1.5
    assert parsed(b'{"do":"x","exp":' + b"9" * 300 + b"}").exp > 1 << 900


def test_of_two_equal_keys_none_counts():
    """The host that checks a payload and the device that runs it must not read two commands in one."""
    for data in (
        b'{"id":"a-b.1","do":"x","do":"y"}',
        b'{"do":"x","args":{"s":1,"t":{},"s":2}}',
        b'{"do":"x","args":{"a":[{"b":1,"b":1}]}}',
    ):
        assert refused(data).startswith("the key "), data
    assert parsed(b'{"do":"x","args":{"a":[{"b":1},{"b":2}],"b":{"b":3,"do":4}}}').do == "x"


def test_bytes_that_are_no_utf8_are_refused():
    """In a result they would make all of its batch unreadable."""
    for text in (b"\xff", b"\xc3", b"\xc3(", b"\x80", b"\xe2\x82", b"\xf8\x88\x80\x80\x80"):
        assert refused(b'{"do":"' + text + b'"}') == "not JSON: not UTF-8", text


def test_a_surrogate_is_refused_however_it_is_written():
    """MicroPython makes two broken characters of a pair, and writes them as broken UTF-8."""
    for text in (
        b"\\ud83d\\ude00",
        b"\\uD83D\\uDE00",
        b"\\ud800",
        b"\\uDFFF",
        b"a\\\\\\ud8ff",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
    ):
        assert refused(b'{"do":"' + text + b'"}').startswith("half a character"), text
        assert refused(b'{"' + text + b'":1,"do":"x"}').startswith("half a character"), text


def test_characters_that_only_look_like_surrogates_are_taken():
    """U+D000 to U+D7FF are Korean; a backslash may be meant; UTF-8 says everything."""
    for text in (
        b"\\ud7ff",
        b"\\uD000",
        b"\\\\ud83d",
        b"\\u0d83",
        b"\xed\x9f\xbf",
        b"\xf0\x9f\x98\x80",
        b"ud83d",
        b"\\u00ed\\u00a0",
    ):
        data = b'{"do":"' + text + b'"}'
        assert parsed(data).do == json.loads(data)["do"], text


def test_no_bytes_whatever_do_anything_but_parse_or_be_refused():
    """Seeded noise out of JSON's own pieces."""
    dice = Dice(11)
    pieces = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u",
        b'"do"',
        b'"id"',
        b'"a-b.1"',
        b'"args"',
        b'"void"',
    ]
    pieces += [
        b'"exp"',
        b'"x"',
        b"1",
        b"-",
        b"1e9",
        b"null",
        b"true",
        b" ",
        b"\xed",
        b"\xa0",
        b"\0",
        b"{}",
        b'"cancelled"',
    ]
    for _ in range(600):
        data = b"".join(dice.pick(pieces) for _ in range(dice.below(14)))
        refused(data)
        refused(b'{"do":"x","args":' + data + b"}")
        codec.legible_id(b'{"id"' + data)


# ---- arguments


def test_arguments_are_of_their_types():
    """A handler is called with what it declared, or not at all."""
    good = {"int": 5, "float": 1.5, "str": "x", "bool": True, "list": [1], "dict": {"a": 1}}
    for kind in good:
        for other in good:
            why = reason(ProtocolError, codec.check_args, {"a": kind}, {"a": good[other]})
            fits = kind == other or (kind == "float" and other == "int")
            assert (why is None) == fits, (kind, other)
            assert fits or why == "argument a is not of type " + kind
        assert reason(ProtocolError, codec.check_args, {"a": kind}, {"a": None})


def test_true_is_no_number():
    """bool is an int in Python; a valve told to open for `true` seconds is a mistake."""
    for kind in ("int", "float"):
        assert reason(ProtocolError, codec.check_args, {"s": kind}, {"s": True}) == "argument s is not of type " + kind


def test_a_default_stands_in_for_what_is_left_out_only():
    """And a given value, even an empty one, beats it."""
    spec = {"s": "int", "n": ["int", 3], "t": ["str", None]}
    assert codec.check_args(spec, {"s": 1}) == {"s": 1, "n": 3, "t": None}
    assert codec.check_args(spec, {"s": 1, "n": 0, "t": ""}) == {"s": 1, "n": 0, "t": ""}
    assert reason(ProtocolError, codec.check_args, spec, {"n": 1}) == "argument s is missing"
    assert reason(ProtocolError, codec.check_args, spec, {"s": 1, "n": "3"}) == "argument n is not of type int"
    assert spec == {"s": "int", "n": ["int", 3], "t": ["str", None]}


def test_an_unknown_argument_is_refused_by_name():
    """A misspelt argument must not be dropped in silence."""
    assert reason(ProtocolError, codec.check_args, {}, {"limit": 1}) == "unknown argument limit"
    assert len(reason(ProtocolError, codec.check_args, {}, {"x" * 500: 1})) < 60


def test_a_key_that_is_no_string_is_an_unknown_argument():
    """MicroPython's JSON takes {1:2} and {null:1}: such a payload must be refused, or it would end every wake."""
    for key in (1, None, True, 1.5):
        assert reason(ProtocolError, codec.check_args, {"a": "int"}, {key: 2}).startswith("unknown argument")


def test_a_declared_type_has_a_name_or_is_refused():
    """The catalogue names types; a type that JSON has not is no argument's."""
    for kind in (int, float, str, bool, list, dict):
        assert codec.type_name(kind) == kind.__name__
    others: list = [bytes, tuple, None, "int", object]
    for kind in others:
        assert reason(ConfigError, codec.type_name, kind)
