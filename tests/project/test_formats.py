"""docs/formats.md and the code agree: its tables are read and compared with what is written on flash and sent."""

import ast
import hashlib
import hmac
import re
import struct
from binascii import crc32
from pathlib import Path

import pytest

from dormouse import codec, inbox, journal, protocol
from dormouse.journal import Mark
from dormouse.ports.storage import Storage
from dormouse.signing import SIZE, Signer
from support import pages

FORMATS = pages.page("formats")
AGENT = Path(protocol.__file__).parent
LEAVES = (protocol.CMD, protocol.FENCE, protocol.FILE, protocol.WAKE, protocol.RESULT, protocol.TELEMETRY, protocol.END)
_TYPES = {"u8": "B", "i8": "b", "u16": "H", "u32": "I"}


def packing(place: str) -> str:
    """The format of `struct` that the table of a place's fields tells."""
    found = "<"
    for _, kind, *_ in pages.table(FORMATS, f"field of {place}"):
        count, _, unit = kind.rpartition(" ")
        found += count + "s" if unit == "bytes" else count.removesuffix(" ×") + _TYPES[unit]
    return found


def keys_made_by(function: str) -> set[str]:
    """The keys of the dict that a function of the agent returns, or fills first."""
    for file in sorted(AGENT.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                made = next(inner for inner in ast.walk(node) if isinstance(inner, ast.Dict))
                return {str(key.value) for key in made.keys if isinstance(key, ast.Constant)}
    raise LookupError(function)


def section(title: str) -> str:
    """A part of the page."""
    return re.split(r"^#+ ", FORMATS.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", ["formats", "design"])
def test_the_leaves_are_those_of_the_protocol(name):
    assert [row[0] for row in pages.table(pages.page(name), "leaf")] == [f"`{leaf}`" for leaf in LEAVES]


def test_every_limit_has_its_value():
    assert {row[0].strip("`"): int(row[1]) for row in pages.table(FORMATS, "name")} == {
        name: getattr(protocol, name)
        for name in dir(protocol)
        if name.endswith("_LIMIT") or name in ("BATCH", "WINDOW")
    }


def test_a_window_is_written_with_the_letters_of_the_table():
    rows = pages.table(FORMATS, "code")
    assert [row[2] for row in rows] == ["never seen", *protocol.STATUSES[1:]]
    letters = "".join(row[1].strip("`") for row in rows)
    assert protocol.pack_window(range(len(letters))) == letters
    assert protocol.pack_window([2, 2, 2, 0, 3]) == "s3.f"


def test_the_example_of_a_command_is_one_and_its_keys_are_in_the_table():
    example = re.search(r'^`(\{"id".*\})`$', section("Command"), re.MULTILINE)
    assert example
    command = codec.Command(0)
    command.parse(example[1].encode())
    assert (command.id, command.do, command.args, command.exp) == ("7f3a-k9fe.17", "water", {"s": 30}, 1795000000)
    assert set(re.findall(r'"(\w+)":', example[1])) - {"s"} | {"void"} == {
        row[0].strip("`") for rows in pages.tables(section("Command")) for row in rows[1:]
    }
    assert f'"crc":{crc32(example[1].encode())}' in section("Result")


def test_the_example_of_a_tombstone_is_one():
    example = re.search(r'`(\{"id".*"void".*\})`', section("Command"))
    assert example
    command = codec.Command(0)
    command.parse(example[1].encode())
    assert command.void == "cancelled"


def test_the_keys_of_a_result_are_in_the_table():
    made = codec.result("running", None, 1, final=False, detail=codec.value_detail(1), do="water")
    made += codec.result("failed", "7f3a-k9fe.17", 1, detail=codec.why_detail("no"))
    (rows,) = pages.tables(section("Result"))
    assert {row[0].strip("`") for row in rows[1:]} == set(re.findall(r'"(\w+)":', made.decode()))
    assert set(protocol.FINAL) | {protocol.UNKNOWN, protocol.RUNNING} <= pages.quoted([rows[1][1]])


@pytest.mark.parametrize("title, function", [("End record", "end_record"), ("Wake report", "wake_report")])
def test_the_keys_of_a_report_are_in_the_table(title, function):
    rows = next(pages.tables(section(title)))
    assert pages.quoted([row[0] for row in rows[1:]]) == keys_made_by(function)


def test_a_signed_payload_is_that_of_the_example_and_of_any_other_hmac():
    vector = section("Signature")
    key = re.search(r"key `([0-9a-f]{64})`", vector)
    signed = re.search(r"```\n(.*)\n([0-9a-f]{64})\n```", vector)
    assert key
    assert signed
    said = hmac.new(bytes.fromhex(key[1]), f"greenhouse/down/cmd\n{signed[1]}".encode(), hashlib.sha256)
    assert said.hexdigest() == signed[2]
    assert Signer(key[1], "greenhouse").check("down/cmd", f"{signed[1]}\n{signed[2]}".encode()) == signed[1].encode()
    assert f"{SIZE} bytes" in vector


def test_the_kinds_of_records_are_those_of_the_inbox():
    (rows,) = pages.tables(section("Records of `cmd`"))
    assert {name.strip("`"): int(kind) for kind, name, _ in rows[1:]} == {
        name: getattr(inbox, f"_{name}")
        for name in ("STATE", "LEDGER", "FORGET", "ACCEPT", "SEEN", "DONE", "TOLD", "WINDOW", "VALUE")
    }


@pytest.mark.parametrize("place", ["`wake`", "`net`", "`work`"])
def test_the_fields_of_a_mark_are_packed_by_the_agent(place):
    """The format that the table makes stands in a module of the agent, letter by letter."""
    text = "\n".join(file.read_text() for file in sorted(AGENT.rglob("*.py")))
    assert re.search(rf'"{packing(place)}"', text), packing(place)


def test_a_mark_is_what_the_table_says(tmp_path):
    Mark(Storage(str(tmp_path / "state")), "wake").save(b"data")
    written = (tmp_path / "state" / "wake").read_bytes()
    head = packing("a mark")
    assert written[struct.calcsize(head) :] == b"data"
    assert struct.unpack_from(head, written) == (crc32(b"data", 77),)


def test_a_journal_is_what_the_tables_say(tmp_path):
    """A reader made from the page alone finds the records: those of the main file, then those of the tail."""
    writer = journal.Journal(Storage(str(tmp_path / "state")), "cmd", 6000)
    assert list(writer.open()) == []
    put = [(4, b"a" * 700), (5, b"b"), (7, b"")]
    for kind, data in put:
        writer.add(kind, data)
        writer.commit()
    main = (tmp_path / "state" / "cmd").read_bytes()
    group, record = packing("a group"), packing("a record")
    found: list[tuple[int, bytes]] = []
    at, generation = 0, 0  # the head gives the generation, 1 or more
    while at < len(main):
        length, crc = struct.unpack_from(group, main, at)
        start = at + struct.calcsize(group)
        body = main[start : start + length]
        assert crc == crc32(body, generation << 16 | at if at else 77)
        if not at:
            (generation,) = struct.unpack("<H", body)
        else:
            found += split(record, body)
        at = start + length
    assert found == put[:1]
    tail = (tmp_path / "state" / "cmd.t0").read_bytes()
    assert struct.unpack_from("<I", tail)[0] == crc32(tail[4:], generation << 16 | len(main))
    assert tail[4] == 0
    assert found + list(split(record, tail[5:])) == put


def split(head, body):
    """The records of a body."""
    at = 0
    while at < len(body):
        kind, length = struct.unpack_from(head, body, at)
        at += struct.calcsize(head) + length
        yield kind, body[at - length : at]
