"""Cases in which the broker is silent, slow, gone, or not there, or somebody takes its place or the device's.

Must stay true: where nobody behaves as a broker, what is queued at the real one comes at the next wake.
"""

import socket
import struct
import time
from contextlib import contextmanager

from proofs.hostile.meddler import Link, Meddler, Pipe
from proofs.hostile.packets import answered, meddled
from proofs.hostile.stage import QUIET, Case, Stage
from support.device_folder import command, say
from support.peer import CONNACK, Connection, Packet, Peer, Script, connack, packet, puback, publish, stays_open, suback

FLOOD = 5000
ORPHANS = 200
# a board's socket takes 11.7 KB before it makes its program wait, one of Linux megabytes
SMALL_BUFFER = """
import socket
try:
    import dormouse.link as link
except ImportError:
    import dormouse.connection as link  # bundled, as on a board

class Sockets:
    SOCK_STREAM = socket.SOCK_STREAM

    def getaddrinfo(self, *of):
        return socket.getaddrinfo(*of)

    def socket(self, *of):
        made = socket.socket(*of)
        made.setsockopt(1, 7, 2304)  # SOL_SOCKET, SO_SNDBUF
        return made

link.socket = Sockets()
"""
FORBIDDEN = ("acl_file {folder}/acl",)


def taken_by(*scripts: Script, in_tls: bool = True, buffer: int = 0):
    """Company: these scripts in the broker's place; `buffer` bytes are what its socket takes unread."""

    @contextmanager
    def company(stage: Stage):
        with Peer(*scripts, tls=stage.context if in_tls else None) as peer:
            if buffer:
                peer.take_little(buffer)
            yield peer.port

    return company


def only_connack(_link: Link, found: Packet, data: bytes) -> bytes:
    return data if found.kind == CONNACK else b""


def refuses(code: int) -> Script:
    """CONNACK with this code, then RST."""

    def script(connection: Connection) -> None:
        connection.next()
        connection.send(connack(code))
        connection.reset()

    return script


def never_reads(connection: Connection) -> None:
    """Sends what must be answered at length, acknowledges the answers unread, and takes none: buffers fill."""
    flight = connection.flight()
    topic = connection.topic("down/cmd")
    wrong = [publish(topic, b"{}", n) for n in range(1, 101)]
    later = [puback(n) for n in range(flight[-1].pid + 1, flight[-1].pid + 200)]  # and never the one for the telemetry
    connection.send(connack(), suback(flight[1].pid), puback(flight[2].pid))
    while True:
        connection.send(*later, *wrong)


@contextmanager
def syn_dropped(_stage: Stage):
    """Company: a listener whose backlog is full. Linux drops further SYNs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = [socket.socket() for _ in range(3)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield listener.getsockname()[1]
        for each in filling:
            each.close()


@contextmanager
def nobody(_stage: Stage):
    """Company: a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def half_a_handshake(stage: Stage):
    """Company: the real broker's TLS, of which 300 bytes get through."""

    def limit(_connection: int, up: bool, gone: int) -> int:
        return 1 << 20 if up else max(0, 300 - gone)

    with Pipe(stage.home(), limit) as pipe:
        yield pipe.port


@contextmanager
def one_byte_per_second(stage: Stage):
    """Company: the real broker over a line that lets a byte through now and then, after the handshake."""
    said = {True: 0, False: 0}
    slow: list[float] = []  # when it began, and how much had come down by then
    enough = 900 if stage.tls else 1  # bytes upward that are more than a handshake

    def limit(_connection: int, up: bool, gone: int) -> int:
        said[up] = gone
        if said[True] < enough:
            return 1 << 20
        slow[2:] = []
        slow.extend([time.monotonic(), gone] if not slow and not up else [])
        return 1 << 20 if up or not slow else int(gone - slow[1] < time.monotonic() - slow[0])

    with Pipe(stage.home(), limit) as pipe:
        yield pipe.port


@contextmanager
def link_drops(stage: Stage):
    """Company: the first connection ends behind the first command, unacknowledged; the next is in order."""

    def down(link: Link, found: Packet, data: bytes) -> bytes:
        if link.n == 0 and found.kind == 3 and b"down/cmd" in found.body:
            link.cut()
        return data

    with Meddler(stage.broker.address.port, down=down, tls=stage.context) as meddler:
        yield meddler.port


@contextmanager
def taken_over(stage: Stage):
    """Company: whenever the device has connected, a second client with its id does; it acknowledges nothing. What the
    broker had sent by then is too late.
    """
    name = stage.id.encode()
    connect = packet(0x10, b"\x00\x04MQTT\x04\x00\x00\x3c" + struct.pack(">H", len(name)) + name)
    intruders: list[socket.socket] = []
    taken: list[Link] = []

    def down(link: Link, found: Packet, data: bytes) -> bytes:
        if link in taken:
            return b""
        if found.kind == CONNACK:
            taken.append(link)
            link.tell(data)
            intruder = socket.create_connection(("127.0.0.1", stage.broker.address.port))
            intruders.append(intruder)
            intruder.sendall(connect)
            intruder.recv(4)
            return b""
        return data

    with Meddler(stage.broker.address.port, down=down, tls=stage.context) as meddler:
        yield meddler.port
    for each in intruders:
        each.close()


@contextmanager
def at_home(stage: Stage):
    """Company: the real broker itself."""
    yield stage.home()


# ---- queues that the real broker delivers


def orphaned_fences(stage: Stage) -> list[bytes]:
    stage.host.send(*(b"%08x" % n for n in range(ORPHANS)), leaf="down/fence")
    return [stage.say(n, text) for n, text in enumerate(stage.texts, 1)]


def retained(stage: Stage) -> list[bytes]:
    stage.host.send(stage.say(1, stage.texts[0]), say("never"), retain=True)
    return [stage.say(n, text) for n, text in enumerate(stage.texts, 1)]


def too_long(stage: Stage) -> list[bytes]:
    first, second = (stage.say(n, text) for n, text in enumerate(stage.texts, 1))
    return [first, command(stage.state, 3, "say", text="y" * 100_000), second]


def ended_by_the_budget_or_through(stage: Stage) -> list[str]:
    """The flood's wake says of itself what has happened to it."""
    code, why = stage.ran[1].code, str(stage.notes["why"])
    return [] if ("budget is used up" in why) == bool(code) else [f"exit code {code}, and the report's reason is {why}"]


def flooded(stage: Stage) -> list[bytes]:
    wanted = [stage.say(n, text) for n, text in enumerate(stage.texts, 1)]
    return [command(None, 0, "flood")] * FLOOD + wanted


CASES = [
    Case("nobody listens", nobody, "refused", codes=(1,)),
    Case("SYN dropped", syn_dropped, "silent for 600 ms", codes=(1,)),
    Case("silent after accept", taken_by(stays_open, in_tls=False), "silent for 600 ms", codes=(1,)),
    Case("TLS handshake stops half-way", half_a_handshake, "silent for 600 ms", codes=(1,), tls=(True,)),
    Case("silent after CONNACK", meddled(down=only_connack), QUIET, codes=(1,)),
    Case(
        "one byte per second",
        one_byte_per_second,
        "budget is used up",
        codes=(1,),
        config={"patience": 5000},
    ),
    Case(
        "a peer that never reads",
        taken_by(never_reads, stays_open, buffer=2304),
        QUIET,
        check=lambda stage: [] if '"stage":"write"' in stage.ran[1].output else ["no write ever waited"],
        codes=(1,),
        app=SMALL_BUFFER,
        budget=4,
    ),
    *[Case(f"CONNACK {code}, then RST", taken_by(refuses(code)), "connack", codes=(1, 2)) for code in range(1, 6)],
    Case("link drops in the middle", link_drops, "rejoin"),
    Case("200 orphaned fences", at_home, queue=orphaned_fences),
    Case("fence forbidden", at_home, settings=FORBIDDEN, fence=False),
    # asked to queue without limit, mosquitto 2.0.11 closes where it else drops in silence; MQTT 3.1.1 allows both
    Case(
        "fence forbidden, connection closed",
        at_home,
        "rejoin",
        settings=(*FORBIDDEN, "max_queued_messages 0"),
        fence=False,
    ),
    Case("RETAIN set", at_home, "retained and without an id", queue=retained),
    Case("payload of 100 KB", at_home, "above the limit of 2048", queue=too_long, check=answered("above the limit", 1)),
    Case(
        "flood of 5000 messages",
        at_home,
        "budget is used up|unknown command flood",
        check=ended_by_the_budget_or_through,
        codes=(0, 1),  # a fast machine's device is through in time
        queue=flooded,
        seconds=60,
        slow=True,
    ),
    Case("a second client with our id", taken_over, "another client uses this id", codes=(1,), budget=4),
]
