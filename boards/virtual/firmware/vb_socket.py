"""`socket` and `select` of a board, over this machine's own sockets.

Must stay true: without Wi-Fi there is no address and no connection; when Wi-Fi goes, every open socket falls silent,
neither closed nor refused, and its peer hears nothing of it; a wait ends when it would on a board, and no sooner.

Not as on a board: a connection does not come back to life when Wi-Fi does.
"""

import errno as _errno
import io as _io
import select as _select
import socket as _socket

import vb_link as _link
import vb_machine as _m
import vb_time as _clock

AF_INET, AF_INET6 = 2, 10
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP = 0, 6, 17
TCP_NODELAY, SOL_SOCKET, SO_REUSEADDR = 1, 1, 2
_SEND = 11680  # bytes that a connection takes while nobody reads: lwIP's TCP_SND_BUF on rp2
_open = set()  # sockets that Wi-Fi carries


def _notice(what):
    """Wi-Fi is gone: put a line that nobody answers in the place of each connection."""
    if what == "wifi lost":
        for stream in _open:
            stream._s = _Silent(stream._s)
        _open.clear()


_link.on_notice = _notice


class _Silent:
    """A connection whose other end neither reads nor answers. The real one stays open: its peer hears nothing."""

    def __init__(self, real):
        self._real = real
        self._room = _SEND

    def recv(self, size):
        raise OSError(_errno.EAGAIN)

    accept = recvfrom = recv

    def readinto(self, buffer):
        return None

    def send(self, data):
        n = min(len(data), self._room)
        if not n:
            raise OSError(_errno.EAGAIN)
        self._room -= n
        return n

    def sendto(self, data, address):
        return len(data)

    def write(self, data):
        return self.send(data) if self._room else None

    def setsockopt(self, level, option, value):
        pass

    def connect(self, raw):
        raise OSError(_errno.EHOSTUNREACH)

    def close(self):
        self._real.close()


class _Poll:
    """`select.poll()`; the simulation can speak while it waits."""

    def __init__(self):
        self._poll = _select.poll()
        self._poll.register(_link.fileno, _select.POLLIN)

    def register(self, stream, events=_select.POLLIN | _select.POLLOUT):
        self._poll.register(stream, events)

    def unregister(self, stream):
        self._poll.unregister(stream)

    def modify(self, stream, events):
        self._poll.modify(stream, events)

    def poll(self, timeout=-1):
        end = None if timeout is None or timeout < 0 else _clock.ticks_add(_clock.ticks_ms(), int(timeout))
        while True:
            left = -1 if end is None else max(0, _clock.ticks_diff(end, _clock.ticks_ms()))
            slice = _clock._serve(left)
            ready = self._poll.poll(slice)
            if not ready and slice != left:
                continue
            others = [item for item in ready if item[0] != _link.fileno]
            if len(others) < len(ready):
                _link.take_notice()
            if others or not ready:
                return others

    def ipoll(self, timeout=-1, flags=0):
        return iter(self.poll(timeout))


class _Select:
    """The module `select`."""

    POLLIN, POLLOUT, POLLERR, POLLHUP = _select.POLLIN, _select.POLLOUT, _select.POLLERR, _select.POLLHUP

    def poll(self):
        return _Poll()


def _address(pair):
    """For this machine's socket; a Pico W wants numbers, an ESP32 asks for the name."""
    host, port = pair[:2]
    if _link.ask("wifi", "state") != "up":
        raise OSError(_errno.EHOSTUNREACH)
    return _socket.getaddrinfo(*getaddrinfo(host, port)[0][-1])[0][-1]


def _pair_of(raw):
    parts = _socket.sockaddr(raw)
    return ".".join(str(byte) for byte in parts[1]), parts[2]


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    answer = _link.ask("resolve", host, port)
    while answer is None:  # nothing answers, and nothing bounds it
        _clock.sleep_ms(1000)
    if isinstance(answer, int):  # the resolver's own error
        raise OSError(answer)
    return [(AF_INET, type or SOCK_STREAM, 0, host, tuple(answer))]


class socket(_io.IOBase):
    """Never blocks in the kernel: it waits in `_wait`, where the simulation is heard."""

    def __init__(self, af=AF_INET, type=SOCK_STREAM, proto=0, *, _made=None):
        self._s = _made or _socket.socket(af, type, 0)
        self._s.setblocking(False)
        self._timeout = None
        self._ready = _select.poll()
        self._ready.register(self._s, 0)
        _open.add(self)

    def _wait(self, events):
        if self._timeout == 0:
            raise OSError(_errno.EAGAIN)
        waiting = _Poll()
        waiting.register(self, events)
        if not waiting.poll(-1 if self._timeout is None else self._timeout):
            raise OSError(_errno.ETIMEDOUT)

    def _again(self, events, name, *args):
        _link.hear()
        while True:
            try:
                return getattr(self._s, name)(*args)
            except OSError as e:
                if e.errno != _errno.EAGAIN or self._timeout == 0:
                    raise
            self._wait(events)

    def connect(self, address):
        raw = _address(address)
        try:
            self._s.connect(raw)
        except OSError as e:
            if e.errno != _errno.EINPROGRESS or self._timeout == 0:
                raise
            self._wait(_select.POLLOUT)
            try:
                self._s.connect(raw)
            except OSError as e:
                if e.errno != _errno.EISCONN:
                    raise

    def bind(self, address):
        self._s.bind(_socket.getaddrinfo(address[0] or "0.0.0.0", address[1])[0][-1])

    def listen(self, backlog=1):
        self._s.listen(backlog)

    def accept(self):
        made, raw = self._again(_select.POLLIN, "accept")
        return socket(_made=made), _pair_of(raw)

    def recv(self, size, flags=0):
        return self._again(_select.POLLIN, "recv", size)

    def recvfrom(self, size, flags=0):
        data, raw = self._again(_select.POLLIN, "recvfrom", size)
        return data, _pair_of(raw)

    def send(self, data, flags=0):
        return self._again(_select.POLLOUT, "send", data)

    def sendto(self, data, address):
        return self._again(_select.POLLOUT, "sendto", data, _address(address))

    def sendall(self, data):
        self.write(data)

    def write(self, data, size=None):
        view = memoryview(data) if size is None else memoryview(data)[:size]
        _link.hear()
        done = 0
        while done < len(view):
            n = self._s.write(view[done:])
            if n is None:
                if self._timeout == 0:
                    return done or None
                self._wait(_select.POLLOUT)
            else:
                done += n
        return done

    def readinto(self, buffer, size=None):
        view = memoryview(buffer) if size is None else memoryview(buffer)[:size]
        _link.hear()
        done = 0
        while done < len(view):
            n = self._s.readinto(view[done:])
            if n == 0:
                break
            if n is None:
                if self._timeout == 0:
                    return done or None
                self._wait(_select.POLLIN)
            else:
                done += n
        return done

    def read(self, size=-1):
        data = bytearray()
        piece = bytearray(256)
        while size < 0 or len(data) < size:
            n = self.readinto(piece, 256 if size < 0 else min(256, size - len(data)))
            if not n:
                return bytes(data) if data or n == 0 else None
            data += memoryview(piece)[:n]
        return bytes(data)

    def readline(self):
        data = bytearray()
        while not data.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                return bytes(data) if data or byte == b"" else None
            data += byte
        return bytes(data)

    def setsockopt(self, level, option, value):
        if isinstance(value, int):
            self._s.setsockopt(level, option, value)

    def settimeout(self, seconds):
        self._timeout = None if seconds is None else int(seconds * 1000)

    def setblocking(self, blocking):
        self._timeout = None if blocking else 0

    def makefile(self, *args):
        return self

    def close(self):
        _open.discard(self)
        self._s.close()

    def ioctl(self, request, argument):
        if request == 3:  # is it ready? Asked each millisecond, because there is no descriptor that would stay the same
            if isinstance(self._s, _Silent):
                return argument & _select.POLLOUT if self._s._room else 0
            self._ready.modify(self._s, argument)
            for _, events in self._ready.ipoll(0):
                return events
            return 0
        if request == 4:
            self.close()
            return 0
        return -_errno.EINVAL
