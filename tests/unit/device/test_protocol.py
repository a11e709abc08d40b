"""Names of the protocol: ids, windows as text, topics. What no device or host writes is refused."""

from desk import Dice, reason

from dormouse import protocol
from dormouse.errors import ConfigError


def is_id(text):
    try:
        protocol.split_id(text)
    except ValueError:
        return False
    return True


def is_window(text):
    try:
        protocol.unpack_window(text)
    except ValueError:
        return False
    return True


# ---- ids


def test_an_id_is_taken_apart():
    """State, ledger and number are what windows are kept by."""
    assert protocol.split_id("7f3a-k9fe.17") == ("7f3a", "k9fe", 17)
    assert protocol.split_id("a-b.1") == ("a", "b", 1)
    assert protocol.split_id("%s-%s.%d" % ("a" * 12, "9" * 12, (1 << 30) - 1))[2] == (1 << 30) - 1


def test_a_number_has_one_spelling_only():
    """Two spellings of one number would be two ids of one command."""
    for digits in ("0", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", "", "１", "²", "1\n"):
        assert not is_id("a-b." + digits), digits


def test_a_number_of_two_to_the_thirty_or_more_is_no_number():
    """Above it a number is no small integer on 32-bit MicroPython, and the journal's u32 would end."""
    assert is_id("a-b.1073741823")
    for digits in ("1073741824", "2147483648", "4294967296", "9999999999", "10000000000", "9" * 400):
        assert not is_id("a-b." + digits), digits


def test_a_name_in_an_id_is_1_to_12_small_letters_and_digits():
    """Names stand in topics, files and records of bounded length."""
    for text in ("", "-", ".", "-.", "a-b", "a-b.", "-b.1", "a-.1", "a.1", "ab1", "a-b-c.1", "a-b.c.1", "a--b.1"):
        assert not is_id(text), text
    for text in ("A-b.1", "a-B.1", "a_-b.1", "é-b.1", "a-b\0.1", "a" * 13 + "-b.1", "a-" + "b" * 13 + ".1", " a-b.1"):
        assert not is_id(text), text


# ---- windows as text


def test_a_window_is_letters_and_counts():
    """The example of the docstring; what was never seen at the far end is left out."""
    assert protocol.pack_window([2, 2, 2, 0, 3, 0, 0]) == "s3.f"
    assert protocol.pack_window([]) == protocol.pack_window([0] * 256) == ""
    assert protocol.pack_window([1] * 256) == "o256"
    assert protocol.unpack_window("s3.f") == ["succeeded"] * 3 + [None, "failed"]
    assert protocol.unpack_window("") == []
    assert protocol.unpack_window("osfriec") == list(protocol.STATUSES[1:])


def test_any_window_comes_back_as_it_was():
    """256 numbers of random statuses, in runs and single."""
    dice = Dice(5)
    for _ in range(60):
        codes: list = []
        while len(codes) < 256 and dice.below(40):
            codes += [dice.below(8)] * (1 + dice.below(1 + dice.below(60)))
        codes = codes[:256]
        found = protocol.unpack_window(protocol.pack_window(codes))
        assert len(found) <= 256
        assert found + [None] * (256 - len(found)) == [protocol.STATUSES[c] for c in codes] + [None] * (
            256 - len(codes)
        )


def test_a_window_text_that_no_device_writes_is_refused():
    """A report is what a stranger may send: no length in it is believed, no other type is a crash."""
    for text in (
        "x",
        "S",
        "s257",
        "s999999999999",
        "o200s57",
        "3s",
        "s-1",
        "s 3",
        "s0",
        "s00",
        "s3.f,",
        "s٣",
        "s²",
        "s" * 257,
    ):
        assert not is_window(text), text
    others: list = [5, None, ["s"], {"s": 1}, b"s", True]
    for value in others:
        assert not is_window(value), value


# ---- topics


def test_a_topic_is_root_device_and_leaf():
    """The table of docs/design.md."""
    assert protocol.topic("dormouse", "dev1", protocol.CMD) == "dormouse/dev1/down/cmd"
    assert protocol.topic("a/b", "dev1", "down/#") == "a/b/dev1/down/#"


def test_a_device_id_is_safe_in_a_topic_and_as_a_file_name():
    """A wildcard or a slash in it would read another device's commands."""
    for name in ("a", "dev1", "A_b-c.9", "x" * 64, "...", ".a"):
        assert protocol.check_device_id(name) == name
    wrong: list = ["", "x" * 65, "a/b", "+", "#", "a b", "é", "a\0", "$SYS", "a\n", ".", "..", None, 5, b"a", ["a"]]
    for name in wrong:
        assert reason(ConfigError, protocol.check_device_id, name), name


def test_a_root_is_levels_joined_by_slashes():
    """An empty level or a wildcard would be another topic than the one that is meant."""
    for root in ("dormouse", "a/b/c", "x" * 64, "a.b/c-d"):
        assert protocol.check_root(root) == root
    wrong: list = ["", "/a", "a/", "a//b", "a/+", "#", "a/#/b", "$SYS/a", "é", "x" * 65, None, 5, b"a", ["a"]]
    for root in wrong:
        assert reason(ConfigError, protocol.check_root, root), root
