"""The link over a stream that does what a socket may do: take nothing, take a little, break."""

import errno

from dormouse.errors import LinkError, StorageError
from dormouse.link import OUT_LIMIT, Link


class Stream:
    """A non-blocking socket. `takes` is how many bytes each write may take; None is EAGAIN as MicroPython says it."""

    def __init__(self, *takes):
        self.takes = list(takes)
        self.data = bytearray()
        self.writes = 0

    def write(self, data):
        n = self.takes.pop(0) if len(self.takes) > 1 else self.takes[0]
        if isinstance(n, int) and n < 0:
            raise OSError(-n)
        if n:
            n = min(n, len(data))
            self.data += data[:n]
            self.writes += 1
        return n


class Poll:
    """Time that goes by while nothing happens; `ready` says what a poll finds."""

    def __init__(self, ready):
        self.ready = ready
        self.now = 0

    def modify(self, sock, events):
        pass

    def poll(self, ms):
        self.now += 10 if self.ready else ms
        return [(None, 4)] if self.ready else []


def _link(stream, ready=True, patience=1000, deadline=5000):
    poll = Poll(ready)
    link = Link(lambda: poll.now, patience)
    link.deadline = deadline
    link.stream, link.sock, link.poll = stream, None, poll
    return link, poll


def _failure(function, *args):
    try:
        function(*args)
    except LinkError as e:
        return e
    return None


def test_what_is_written_leaves_in_flush_and_in_one_write():
    """Three to five small writes per packet cost umqtt.simple a round trip each (Nagle), or a record each (TLS)."""
    stream = Stream(100000)
    link, _ = _link(stream)
    for piece in (b"\x30", b"topic", b"payload"):
        link.write(piece)
    assert stream.writes == 0
    link.flush()
    assert (stream.writes, bytes(stream.data)) == (1, b"\x30topicpayload")


def test_no_packet_is_longer_than_every_network_takes():
    """Behind a tunnel packets above some 1400 bytes may vanish without a word: what fits IPv6's 1280 does not."""
    sizes = []

    class Noting(Stream):
        def write(self, data):
            sizes.append(len(data))
            return super().write(data)

    link, _ = _link(Noting(100000))
    link.write(b"x" * OUT_LIMIT)
    link.flush()
    assert sum(sizes) == OUT_LIMIT
    assert max(sizes) <= 1280 - 40 - 20 - 12 - 5  # heads of IPv6, of TCP with a time stamp, and of a TLS record


def test_nothing_is_sent_before_the_journal_is_committed():
    """A PUBACK that leaves before its command is on flash loses the command in a power cut."""
    stream = Stream(100000)
    link, _ = _link(stream)
    seen = []
    link.before_send = lambda: seen.append(len(stream.data))
    link.write(b"x" * (OUT_LIMIT + 10))
    link.flush()
    assert seen == [0, OUT_LIMIT]


def test_commit_that_fails_sends_nothing():
    """Flash is full: what depends on it stays unacknowledged, and comes again."""
    stream = Stream(100000)
    link, _ = _link(stream)

    def full():
        raise StorageError("full")

    link.before_send = full
    link.write(b"\x40\x02\x00\x01")
    try:
        link.flush()
        raise AssertionError("it sent")
    except StorageError:
        assert not stream.data


def test_write_in_pieces_arrives_whole():
    """A socket takes what it has room for."""
    stream = Stream(3, None, 1, 5, None, 100)
    link, _ = _link(stream)
    link.write(b"0123456789abcdef")
    link.flush()
    assert bytes(stream.data) == b"0123456789abcdef"


def test_peer_that_reads_nothing_ends_the_write_within_patience():
    """A full send buffer is silence, too."""
    link, poll = _link(Stream(None), ready=False)
    link.write(b"x")
    failure = _failure(link.flush)
    assert failure and failure.stage == "write"
    assert poll.now == 1000


def test_write_never_waits_past_the_deadline():
    """Nor when the peer's patience would be longer."""
    link, poll = _link(Stream(None), ready=False, patience=60000, deadline=700)
    link.write(b"x")
    assert _failure(link.flush).stage == "write"
    assert poll.now == 700


def test_peer_that_takes_one_byte_now_and_then_ends_at_the_deadline():
    """A trickle is never silent: only the deadline ends it."""
    link, poll = _link(Stream(*[1, None] * 1000), deadline=300)
    link.write(b"x" * 2000)
    assert _failure(link.flush) is not None
    assert poll.now <= 310


def test_broken_stream_is_a_link_error():
    """EPIPE and ECONNRESET are the network's, and no traceback."""
    for number in (errno.EPIPE if hasattr(errno, "EPIPE") else 32, errno.ECONNRESET):
        link, _ = _link(Stream(-number))
        link.write(b"x")
        assert _failure(link.flush).stage == "write"


def test_link_that_was_never_open_is_closed_without_a_word():
    """The end of a wake closes it whatever came before."""
    link, _ = _link(None)
    link.stream = link.poll = None
    link.close()
    link.close()
