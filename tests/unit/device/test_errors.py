"""The four kinds of error: what the caller can do about each, and what it is told."""

from dormouse.errors import ConfigError, DormouseError, LinkError, ProtocolError, StorageError


def test_each_kind_is_caught_as_a_dormouse_error_and_as_no_other_kind():
    """A wake guards itself with one clause and still tells the four apart."""
    kinds = (ConfigError, LinkError, ProtocolError, StorageError)
    for kind in kinds:
        try:
            raise kind("broker is away", "connect")
        except DormouseError as error:
            assert [other for other in kinds if isinstance(error, other)] == [kind]


def test_an_error_says_its_reason_and_how_far_the_wake_had_come():
    """The wake report carries both."""
    error = LinkError("no answer in 8 s", "connack")
    assert str(error) == error.reason == "no answer in 8 s"
    assert error.stage == "connack"
    assert ConfigError("no broker").stage is None
