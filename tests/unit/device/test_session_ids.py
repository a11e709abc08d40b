"""The session against a link that never was: packet ids, whose subclass it is, and a refusal behind a write error."""

import dormouse.ports.posix  # noqa: F401  (on CPython it gives umqtt.simple the module names that it imports)
from dormouse.errors import ConfigError, LinkError, ProtocolError
from dormouse.session import UNACKED, Session, simple

CONFIG = {"id": "dev", "host": "h", "port": 1883, "total": 600, "payload": 2048, "clean_session": False}
CONFIG.update(drain="fence", quiet=500)


class Recorder:
    """Takes what a link is given."""

    rtt = flew = 0

    def __init__(self):
        self.data = bytearray()

    def clock(self):
        return 0

    def write(self, data):
        self.data += data


def _session():
    return Session(Recorder(), "dormouse/dev/", CONFIG, {}, None)


def _publish(session):
    """The packet id that one more QoS 1 publish gets, as it stands on the wire."""
    session.link.data = bytearray()
    session.publish("up/result", b"[]")
    data = session.link.data
    at = 4 + (data[2] << 8 | data[3])
    return data[at] << 8 | data[at + 1]


def test_session_is_a_subclass_that_leaves_connect_subscribe_and_disconnect_alone():
    """The protocol's client is umqtt.simple; what we add stands beside it."""
    assert issubclass(Session, simple.MQTTClient)
    session = _session()
    plain = simple.MQTTClient("id", "host")
    for name in ("connect", "subscribe", "disconnect"):
        ours, theirs = getattr(Session, name), getattr(simple.MQTTClient, name)
        assert ours is theirs, name
        assert hasattr(session, name) and hasattr(plain, name)


def test_packet_id_wraps_past_65535_and_is_never_0():
    """After 65535 umqtt.simple sends 0, and the broker closes (MQTT-2.3.1-1)."""
    session = _session()
    session.pid = 65533
    found = []
    for _ in range(4):
        pid = _publish(session)
        found.append(pid)
        session.unacked.pop(pid)
    assert found == [65534, 65535, 1, 2]


def test_packet_id_in_flight_is_never_given_again():
    """Its PUBACK would be taken for the other's, and a publish that never arrived for confirmed."""
    session = _session()
    session.pid = 65534
    session.unacked = {65535: None, 1: None, 2: None}
    assert _publish(session) == 3


def test_publishes_in_flight_are_bounded():
    """What awaits its PUBACK is kept in RAM."""
    session = _session()
    session.present = True
    for _ in range(UNACKED):
        assert session.fits(1024)
        _publish(session)
    assert not session.fits(1024)
    session.unacked.pop(1)
    assert session.fits(1024)


def test_lengths_are_counted_in_bytes_and_in_as_many_as_needed():
    """One to four bytes of seven bits (MQTT 3.1.1, section 2.2.3), where umqtt.simple counts characters."""
    for size, head in ((90, 1), (140, 2), (20000, 3)):
        session = _session()
        session.publish("up/result", b"\xc3\xa9" * (size // 2))
        data = session.link.data
        length = shift = 0
        at = 1
        while True:
            length |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        assert at == 1 + head
        assert len(data) == at + length


class Refusing(Recorder):
    """The broker has closed already: writing fails, and what it said before can still be read."""

    def __init__(self, said):
        Recorder.__init__(self)
        self.said = said

    def flush(self):
        raise LinkError("reset by the peer", "write")

    def read(self, size):
        if len(self.said) < size:
            raise LinkError("closed by the peer", "read")
        data, self.said = self.said[:size], self.said[size:]
        return bytearray(data)


def test_refusal_is_read_though_writing_has_failed():
    """A refused CONNECT ends in RST, which may come while the rest of the flight is being written."""
    for said, kind, words in (
        (b"\x20\x02\x00\x05", ConfigError, "not authorised"),
        (b"\x20\x02\x00\x00", ProtocolError, "not an MQTT broker"),
        (b"", LinkError, "before CONNACK"),
    ):
        session = Session(Refusing(said), "dormouse/dev/", CONFIG, {}, print)
        try:
            session.encode_connect()
            session.encode_subscribe()
            session.await_connack()
            raise AssertionError("it connected")
        except (ConfigError, LinkError, ProtocolError) as e:
            assert type(e) is kind
            assert words in e.reason
