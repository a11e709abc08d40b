"""The socket under the session: deadlines on every wait, one write per flight, one place that sends.

Must stay true: no call waits past `deadline` nor longer than `patience` without a byte moving; what was written
leaves in `flush` and nowhere else, and only after `before_send` (the journal's commit) has returned; buffers are
made once and never grow.
"""

import errno
import select
import socket
import sys
from binascii import crc32

from dormouse.errors import LinkError

OUT_LIMIT = 4096  # bytes of one flight (docs/design.md); beyond it, writing flushes
_PIECE = 1200  # bytes of it at once: with the heads of TLS, TCP and IP a packet that gets through wherever IPv6 must
_IN_SIZE = 512
_WHAT = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset by the peer",
    32: "closed by the peer",  # EPIPE
    29184: "the answer is no TLS",  # mbedTLS: invalid record
}
_WAITS = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY)


def late(stage):
    """The error that ends a wait at the deadline."""
    return LinkError("the wake's budget is used up", stage)


def resolve(host, port):
    """The (family, address) pairs of `host`, literal or by DNS. The resolver's own limit bounds it, or the watchdog."""
    try:
        return [(entry[0], entry[-1]) for entry in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)]
    except OSError as e:
        raise LinkError("no address for %s (%s)" % (host, e), "dns")


class Link:
    """A TCP stream. `clock()` gives milliseconds; `deadline` is set by the agent and may move while handlers run."""

    def __init__(self, clock, patience):
        self.clock = clock
        self.patience = patience
        self.deadline = 0
        self.before_send = None
        self.out = bytearray(OUT_LIMIT)
        self.used = 0
        self.buffer = bytearray(_IN_SIZE)
        self.start = self.end = 0
        self.stream = self.sock = self.poll = None
        self.flights = self.turns = self.sent = self.received = 0
        self.plain = True  # no TLS
        self.shaking = False  # is TLS's handshake not through yet?
        self.ahead = False  # is more read than was asked for? Not before CONNACK (`_receive`)
        self.heard = True  # an answer came since the last flight: the next flight begins a round trip
        self.rtt = self.flew = 0  # ms of a round trip; clock() of the last flight that began one

    def open(self, family, address, security=None):
        """Connect to one address of `resolve`; LinkError (stage `connect`) when it refuses or stays silent.

        `security` is a `tls.Security`; its handshake goes with the first flight, whose errors have the stage `tls`.
        """
        self.close()
        self.used = self.start = self.end = 0
        self.heard = True
        self.ahead = False
        self.turns += 1
        self.sock = self.stream = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        try:
            self.sock.connect(address)
        except OSError as e:
            if e.errno not in _WAITS:
                self._fail(e, "connect")
        self._watch(self.sock)
        self._wait(select.POLLOUT, "connect")
        try:
            self.sock.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY: named on no board
        except OSError:
            pass  # a port without it sends all the same, a little later
        self.plain = not security
        self.shaking = not self.plain
        if security:
            self.stream = security.wrap(self.sock)
        elif sys.implementation.name == "cpython":  # whose raw file reads as a board's socket does
            self.stream = self.sock.makefile("rwb", 0)
        self._watch(self.stream)

    def _watch(self, stream):
        self.poll = select.poll()
        self.poll.register(stream, select.POLLOUT)

    def _fail(self, error, stage):
        number = abs(error.errno or 0)  # MicroPython's TLS has some of them negative
        raise LinkError(_WHAT.get(number, str(error)), stage)

    def _wait(self, events, stage):
        """Wait until the socket is ready; False never returns, silence raises."""
        left = int(min(self.deadline - self.clock(), self.patience))
        self.poll.modify(self.stream, events)
        ready = self.poll.poll(left) if left > 0 else []
        if not ready:
            error = late(stage)
            if left > 0:
                silent = "silent for %d ms" % left
                error.reason = silent + (", and " + error.reason if left < self.patience else "")
            error.silent = True
            raise error
        if stage == "connect" and ready[0][1] & (select.POLLERR | select.POLLHUP):
            self._fail(self._pending_error(), stage)

    def _pending_error(self):
        try:
            self.sock.recv(1)
        except OSError as e:
            return e
        return OSError(errno.ECONNREFUSED)

    def ready(self, ms):
        """Is there a byte to read, now or within `ms` (never past the deadline)? Not to be asked before CONNACK."""
        until = min(self.clock() + ms, self.deadline)
        while self.start == self.end and not self._take(self.buffer):  # what TLS has decrypted already no poll shows
            left = int(until - self.clock())
            self.poll.modify(self.stream, select.POLLIN)
            if left <= 0 or not self.poll.poll(left):
                return False
        return True

    def whole(self, size):
        """Are `size` bytes there, as far as is known? What TLS has taken from the socket no poll shows."""
        self.poll.modify(self.stream, select.POLLIN)
        return not self.plain or self.end - self.start >= size or self.poll.poll(0)

    def read(self, size):
        """Exactly `size` bytes, which the caller has bounded; LinkError when the peer ends the stream, stays silent or
        the deadline comes.
        """
        data = bytearray(size)
        at = 0
        while at < size:
            n = self._buffered(size - at)
            data[at : at + n] = memoryview(self.buffer)[self.start : self.start + n]
            self.start += n
            at += n
        return data

    def skip(self, size, crc=0):
        """Read off `size` bytes, however many, without keeping them. Returns their CRC-32, continued from `crc`."""
        while size > 0:
            n = self._buffered(size)
            crc = crc32(memoryview(self.buffer)[self.start : self.start + n], crc)
            self.start += n
            size -= n
        return crc

    def _buffered(self, most):
        if self.start == self.end:
            self._receive(most)
        return min(self.end - self.start, most)

    def _receive(self, most):
        # MicroPython's readinto goes on until the buffer is full, and where a reset comes next it loses what it has
        into = self.buffer if self.ahead else memoryview(self.buffer)[:most]
        while not self._take(into):
            self._wait(select.POLLIN, "read")

    def _take(self, into):
        """Read what has come. False where that is nothing."""
        try:
            n = self.stream.readinto(into)
        except (OSError, ValueError) as e:
            n = self._refused(e, "read")
        if n == 0:
            raise LinkError(_WHAT[32], "read")
        if not n:
            return False
        self.start, self.end = 0, n
        self.received += n
        now = self.clock()
        if now >= self.deadline:  # a stream that never pauses never comes to `_wait`
            raise late("read")
        if 2 * (now - self.flew) >= self.rtt:  # earlier it answers an earlier flight
            self.heard = True
        return True

    def _refused(self, error, stage):
        """None where the stream would only have to wait."""
        if isinstance(error, ValueError):  # the broker's certificate
            raise LinkError(str(error).strip(), "tls")
        if error.errno != errno.EAGAIN:
            self._fail(error, stage)

    def write(self, data):
        """Add to the flight that the next `flush` sends; a full buffer is flushed on the way."""
        data = memoryview(data)
        while len(data):
            if self.used == OUT_LIMIT:
                self.flush()
            n = min(OUT_LIMIT - self.used, len(data))
            self.out[self.used : self.used + n] = data[:n]
            self.used += n
            data = data[n:]

    def flush(self):
        """Commit the journal, then send what was written."""
        if self.before_send:
            self.before_send()
        if not self.used:
            return
        view = memoryview(self.out)[: self.used]
        self.used = 0
        self.flights += 1
        if self.heard:
            self.heard = False
            self.turns += 1
            self.flew = self.clock()
        while len(view):
            try:  # in this frame: below it is TLS's handshake
                n = self.stream.write(view[:_PIECE])
            except (OSError, ValueError) as e:
                n = self._refused(e, "tls" if self.shaking else "write")
            if n:
                self.sent += n
                view = view[n:]
                if self.shaking:
                    self.shaking = False
                    self.flew = self.clock()
            elif self.shaking:  # writing is always possible, and what is waited for is the peer's part
                self._wait(select.POLLIN, "tls")
                self.turns += 1
            else:
                self._wait(select.POLLOUT, "write")

    def close(self):
        """Close without sending; a link that was never open is closed too."""
        for file in (self.stream, self.sock):
            if file is not None:
                try:
                    file.close()
                except OSError:
                    pass  # closed is what was wanted
        self.stream = self.sock = self.poll = None
