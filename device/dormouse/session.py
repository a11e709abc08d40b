"""The MQTT session of one connection: first flight, drain, fence, confirm. The only importer of umqtt.simple.

Must stay true: umqtt.simple, unmodified and of any version from 1.3.4 to 1.8.0, encodes CONNECT, SUBSCRIBE and
DISCONNECT by writing them to a recorder; all that it does wrong is worked around in this file and nowhere else
(docs/design.md lists it). It never reads from the network: CONNACK is read in `await_connack`, every packet afterwards
in `take`, exactly once, whole or not at all. A packet is acknowledged after `on_message` took it, and the link commits
before it sends.

The first flight in order: encode_connect, encode_subscribe, publish what is unconfirmed, send_fence, await_connack.
"""

from binascii import crc32

from umqtt import simple

from dormouse.errors import ConfigError, LinkError, ProtocolError
from dormouse.protocol import CMD, FENCE, FILE

FIRST_PACKETS = 30  # aedes closes beyond about 42 packets that come before CONNACK (docs/design.md)
FIRST_BYTES = 3900  # and one flight is one buffer of the link; what is left of it holds the fence
UNACKED = 10  # publishes in flight at once, after the first flight: what they carry is remembered until PUBACK
QUIET = 300  # ms; the least silence before a second fence
SECOND = 1000  # ms; the least wait for that one
_TOPIC_LIMIT = 200  # bytes; ours are shorter
_HEAD = 128  # bytes of an oversized payload that are kept to find its id

_REFUSALS = {
    1: (ConfigError, "the broker does not speak MQTT 3.1.1"),
    2: (ConfigError, "the broker refuses this client id"),
    3: (LinkError, "the broker is unavailable"),
    4: (ConfigError, "wrong user or password"),
    5: (ConfigError, "not authorised: user, password or the broker's rights"),
}


class _Recorder:
    """What umqtt.simple takes for the socket module and for the socket: what it writes goes into the link's flight, and
    what it reads is what lets it return.
    """

    def __init__(self, session):
        self.session = session
        self.greeting = True

    def socket(self, *_):
        return self

    def getaddrinfo(self, *_):
        return ((None,),)

    def connect(self, *_):
        pass  # the link is open already; its deadline holds; the connection closes it

    settimeout = setblocking = close = connect

    def write(self, data, size=None):
        self.session.link.write(data if size is None else memoryview(data)[:size])

    def read(self, size):
        if self.greeting:
            self.greeting = False
            return b"\x20\x02\0\0"
        pid = self.session.pid
        return b"\x90" if size == 1 else bytes((3, pid >> 8, pid & 255, 1))


class Session(simple.MQTTClient):
    """One connection. `on_message(is_command, payload, size, retain, crc)` takes each message but fences; `is_command`
    says that its topic is `down/cmd`; `payload` is cut to its first 128 bytes where `size` is above the limit, and
    then `crc` is of the whole. `prefix` is `<root>/<id>/`. `files` is the Update that takes chunks, or
    None: they are dropped. `unacked` maps the packet id of each publish that awaits its
    PUBACK to (function to call then, its arguments…), or None.
    """

    def __init__(self, link, prefix, config, secrets, on_message):
        user, password = secrets.get("user"), secrets.get("password") or ""
        # bytes, because umqtt.simple counts characters where MQTT counts bytes; keepalive bounds a half-open session
        simple.MQTTClient.__init__(
            self,
            config["id"].encode(),
            config["host"],
            config["port"],
            user.encode() if user else None,
            password.encode() if user else None,
            min(config["total"] + 60, 65535),
        )
        self.cb = on_message  # umqtt.simple refuses to subscribe without one
        self.link = link
        self.prefix = prefix.encode()
        self.limit = config["payload"]
        self.clean = config["clean_session"]
        self.signer = self.files = None
        self.unacked = {}  # packet id -> tag
        self.packets = 0
        self.hidden = False  # the connection broke so that a refusal in CONNACK may have been lost
        self.present = None  # session_present, once CONNACK has come
        self.rtt = 0
        self.heard = self.connected = 0  # link.clock() of the last packet, and of CONNACK
        self.problem = None
        self.nonce = None
        self.fences = 0
        self.quiet = config["quiet"] if config["drain"] == "quiet" else 0  # ms, behind the fence
        self.back = None  # which fence has come back
        self.drained = None  # how the queue was found to be empty

    def encode_connect(self):
        """CONNECT, as umqtt.simple has it, into the flight."""
        simple.socket = _Recorder(self)
        self.connect(self.clean)
        self.packets = 1

    def encode_subscribe(self):
        """SUBSCRIBE, as umqtt.simple has it, into the flight; `take` judges the true SUBACK."""
        self.subscribe(self.prefix + b"down/#", 1)
        self.packets += 1

    def await_connack(self):
        """Send the flight and read CONNACK. Raises LinkError, ConfigError, ProtocolError."""
        link = self.link
        failed = None
        try:
            link.flush()
        except LinkError as e:
            if e.stage == "tls":
                raise
            failed = e  # a refusal is often followed by a reset; CONNACK may be there all the same
        try:
            connack = link.read(1)
            if connack[0] == 0x20:
                connack += link.read(3)
        except LinkError as e:
            self.hidden = self.packets > 1 and not e.silent
            e.reason, e.stage = e.reason + " before CONNACK", "connack"
            raise
        if len(connack) < 4 or connack[1] != 2 or connack[2] > 1 or (failed and not connack[3]):
            why = "an HTTP answer: a captive portal, or another server" if connack[:1] == b"H" else "not an MQTT broker"
            raise ProtocolError(why, "connack")
        link.ahead = True
        self.heard = self.connected = link.clock()
        self.rtt = link.rtt = self.heard - link.flew
        if connack[3]:
            kind, why = _REFUSALS.get(connack[3], (ProtocolError, "CONNACK code %d" % connack[3]))
            raise kind(why, "connack")
        self.present = bool(connack[2])

    def publish(self, leaf, payload, qos=1, retain=False, confirmed=None):
        """Put one PUBLISH into the flight; at QoS 1 `confirmed` is (function, arguments…), called at PUBACK.

        `payload` is bytes, or a list of them.
        """
        topic = self.prefix + leaf.encode()
        pieces = payload if isinstance(payload, list) else [payload]
        if self.signer and leaf != FENCE:
            pieces = pieces + [self.signer.signature(leaf, pieces)]
        size = 2 + len(topic) + (2 if qos else 0) + sum(map(len, pieces))
        head = bytearray((0x30 | qos << 1 | retain,))
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        head.append(size)
        head.append(0)
        head.append(len(topic))
        self.link.write(head)
        self.link.write(topic)
        if qos:
            self.pid = self.pid % 65535 + 1
            while self.pid in self.unacked:
                self.pid = self.pid % 65535 + 1
            self.unacked[self.pid] = confirmed
            self.link.write(bytes((self.pid >> 8, self.pid & 255)))
        for piece in pieces:
            self.link.write(piece)
        self.packets += 1

    def fits(self, size):
        """May a publish with `size` bytes of payload still go out now?"""
        if self.present is None:
            return self.packets < FIRST_PACKETS - 1 and self.link.used + size + len(self.prefix) + 85 <= FIRST_BYTES
        return len(self.unacked) < UNACKED

    def send_fence(self, nonce):
        """Publish the fence; it is proof when its copy with this nonce comes back."""
        self.nonce = nonce
        self.fences += 1
        self.publish(FENCE, nonce)

    def silence(self):
        """Milliseconds without a packet after which a fence counts as overdue, or the queue as empty behind one."""
        return self.quiet if self.back else max(4 * self.rtt, QUIET if self.fences < 2 else SECOND, self.quiet)

    def take(self):
        """Take one packet that has begun to arrive. ProtocolError where it can't be understood."""
        op = self.link.read(1)[0]
        size = shift = 0
        while True:
            byte = self.link.read(1)[0]
            size |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 21:
                raise ProtocolError("remaining length longer than four bytes")
        if not self.link.whole(size):
            self.link.flush()  # what is acknowledged does not wait for the rest of a packet
        kind = op & 0xF0
        if kind == 0x30:
            self._take_publish(op, size)
        elif kind == 0x90 and size == 3:
            granted = self.link.read(3)[2]
            if granted != 1:
                self.problem = "the broker refuses the subscription to down/#" if granted else "the broker has no QoS 1"
        elif size == 2 and kind in (0x40, 0x60):
            body = self.link.read(2)
            pid = body[0] << 8 | body[1]
            if kind == 0x60:
                self.acknowledge(0x70, pid)
            elif pid in self.unacked:
                confirmed = self.unacked.pop(pid)
                if confirmed:
                    confirmed[0](*confirmed[1:])
        elif kind != 0xD0 or size:
            raise ProtocolError("a packet of type %02x and %d bytes" % (op, size))
        self.heard = self.link.clock()

    def acknowledge(self, kind, pid):
        """Put PUBACK (0x40) or its like into the flight."""
        self.link.write(bytes((kind, 2, pid >> 8, pid & 255)))

    def _take_publish(self, op, size):
        qos = op >> 1 & 3
        length = self.link.read(2)
        length = length[0] << 8 | length[1]
        size -= 2 + length + (2 if qos else 0)
        if size < 0 or qos == 3:
            raise ProtocolError("a PUBLISH that contradicts itself")
        topic = self.link.read(min(length, _TOPIC_LIMIT))
        self.link.skip(length - len(topic))
        pid = 0
        if qos:
            body = self.link.read(2)
            pid = body[0] << 8 | body[1]
            if not pid:
                raise ProtocolError("packet id 0")
        payload = self.link.read(size if size <= self.limit else _HEAD)
        crc = self.link.skip(size - len(payload), crc32(payload)) if size > len(payload) else None
        if topic == self.prefix + FILE.encode():
            if self.files and qos == 1 and size <= self.limit and self.files.offer(payload, pid):
                return  # acknowledged once it is on flash
        elif topic != self.prefix + FENCE.encode():
            self.cb(topic == self.prefix + CMD.encode(), payload, size, bool(op & 1), crc)
        elif payload == self.nonce:
            self.back = "fence" if self.fences == 1 else "second fence"
        if qos:  # PUBREC for QoS 2, so that a broker that sends it against the subscription gets rid of it
            self.acknowledge(0x40 if qos == 1 else 0x50, pid)

    def close(self, leaf, payload):
        """A last publish at QoS 0 and DISCONNECT, in one write."""
        self.publish(leaf, payload, 0)
        self.disconnect()
        self.link.flush()
