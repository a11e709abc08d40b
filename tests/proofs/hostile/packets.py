"""Cases of wrong, odd and too many packets, said to a device whose broker is otherwise in order.

Must stay true: each is a rule of the meddler's; the commands come from the real broker all the while.
"""

import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager

from proofs.hostile.meddler import WAIT, Link, Meddler, Rule, as_it_is, flood
from proofs.hostile.stage import QUIET, Case, Stage
from support.peer import CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, SUBACK, Packet, packet, puback, publish

BIG = 268_435_455 - 64  # bytes of payload; four bytes of length can say no more (MQTT 3.1.1, section 2.2.3)
PIDS = (65534, 65535, 1, 2)


def meddled(up: Rule = as_it_is, down: Rule = as_it_is):
    """Company: a meddler with these rules."""

    @contextmanager
    def company(stage: Stage):
        with Meddler(stage.broker.address.port, up, down, stage.context) as meddler:
            stage.notes["meddler"] = meddler
            yield meddler.port
            assert not meddler.errors, meddler.errors

    return company


def injected(*words: Callable[[Link], bytes] | bytes, always: bool = False):
    """Company: this is said after SUBACK, on the first connection or on all of them."""

    def down(link: Link, found: Packet, data: bytes) -> bytes:
        if found.kind == SUBACK and (always or link.n == 0):
            data += b"".join(each if isinstance(each, bytes) else each(link) for each in words)
        return data

    return meddled(down=down)


def is_fence(found: Packet) -> bool:
    return found.kind == PUBLISH and found.topic.endswith("/down/fence")


def to(leaf: str, payload: bytes, pid: int, qos: int = 1) -> Callable[[Link], bytes]:
    """A PUBLISH to this device."""
    return lambda link: publish(link.topic + leaf, payload, pid, qos)


def acknowledged(*pids: int, kind: int = PUBACK) -> Callable[[Stage], list[str]]:
    """Check: the device acknowledged these."""

    def check(stage: Stage) -> list[str]:
        said = {each.pid for link in stage.notes["meddler"].links for each in link.up if each.kind == kind}
        return [f"packet id {pid} was not acknowledged" for pid in pids if pid not in said]

    return check


def answered(words: str, count: int = 1) -> Callable[[Stage], list[str]]:
    """Check: so many results are rejections with these words."""

    def check(stage: Stage) -> list[str]:
        found = [r["why"] for r in stage.results() if r["status"] == "rejected" and words in r["why"]]
        return [] if len(found) == count else [f"{len(found)} rejections with {words}, not {count}"]

    return check


# ---- rules


def no_puback(_link: Link, found: Packet, data: bytes) -> bytes:
    return b"" if found.kind == PUBACK else data


def puback_twice(_link: Link, found: Packet, data: bytes) -> bytes:
    return data * 2 if found.kind == PUBACK else data


def puback_unknown(_link: Link, found: Packet, data: bytes) -> bytes:
    return puback(40000) + data if found.kind == PUBACK else data


def suback_of(granted: int) -> Rule:
    def rule(_link: Link, found: Packet, data: bytes) -> bytes:
        return data[:-1] + bytes((granted,)) if found.kind == SUBACK else data

    return rule


def fence_dropped(link: Link, found: Packet, data: bytes) -> bytes:
    """As a broker does whose rights forbid it: with a PUBACK (`fence_acknowledged`)."""
    if is_fence(found) and link.down:
        link.tell(puback(found.pid))
    return b"" if is_fence(found) else data


def fence_acknowledged(link: Link, found: Packet, data: bytes) -> bytes:
    """The PUBACK for a fence of the first flight, where it belongs."""
    return data + b"".join(puback(each.pid) for each in link.up if is_fence(each)) if found.kind == SUBACK else data


def fence_twice(_link: Link, found: Packet, data: bytes) -> bytes:
    return data * 2 if is_fence(found) else data


def says_qos2(link: Link, found: Packet, data: bytes) -> bytes:
    """The sender's half of QoS 2, down to its end."""
    if found.kind == PUBREC:
        link.tell(packet(0x62, struct.pack(">H", found.pid)))
    return b"" if found.kind in (PUBREC, PUBCOMP) else data


def qos2_down(link: Link, found: Packet, data: bytes) -> bytes:
    return data + to("down/cmd", b"at QoS 2", 60000, 2)(link) if found.kind == SUBACK else data


def without(*pids: int) -> Rule:
    """The broker does not learn of PUBACKs for what it never sent."""

    def rule(_link: Link, found: Packet, data: bytes) -> bytes:
        return b"" if found.kind == PUBACK and found.pid in pids else data

    return rule


def huge(link: Link, found: Packet, data: bytes) -> bytes:
    """256 MB come before the queue does."""
    if found.kind == SUBACK:
        topic = (link.topic + "down/cmd").encode()
        head = struct.pack(">H", len(topic)) + topic + struct.pack(">H", 60001)
        link.device.settimeout(120)
        link.tell(data)
        for piece in flood(head, b"\x7b" * (1 << 20), BIG - len(head)):
            link.tell(piece)
        return b""
    return data


@contextmanager
def broker_restarted(stage: Stage):
    """Company: the broker stops at its first command, and is back at once, with what it keeps on disk."""
    now, end = threading.Event(), threading.Event()

    def restart() -> None:
        now.wait(WAIT)
        stage.broker.stop()
        stage.broker.start()
        end.wait()  # the broker ends with the thread that started it

    def down(link: Link, found: Packet, data: bytes) -> bytes:
        if found.kind == PUBLISH:
            now.set()
        return b"" if now.is_set() and link.n == 0 else data  # or the wake may be over before the broker is

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    stage.stack.callback(end.set)
    with Meddler(stage.broker.address.port, down=down, tls=stage.context) as meddler:
        yield meddler.port


def wrong(name: str, *words: Callable[[Link], bytes] | bytes, reason: str, **more) -> Case:
    """A packet that breaks the contract: the connection is left, the next one in the same wake finishes."""
    return Case(name, injected(*words), reason, **more)


CASES = [
    Case("PUBACK that never comes", meddled(down=no_puback), QUIET, codes=(1,)),
    Case("PUBACK twice", meddled(down=puback_twice)),
    Case("PUBACK for an unknown id", meddled(down=puback_unknown)),
    Case("SUBACK 0x80", meddled(down=suback_of(0x80)), "refuses the subscription", codes=(1,)),
    Case("SUBACK with a lower QoS", meddled(down=suback_of(0)), "has no QoS 1", codes=(1,)),
    Case(
        "fence dropped",
        meddled(fence_dropped, fence_acknowledged),
        check=lambda stage: [] if stage.notes["report"]["end"]["drained"] is False else ["drained without a fence"],
    ),
    Case("fence duplicated", meddled(down=fence_twice)),
    Case(
        "QoS 2 inbound",
        meddled(says_qos2, qos2_down),
        "rejected",
        check=lambda stage: acknowledged(60000, kind=PUBREC)(stage) + acknowledged(60000, kind=PUBCOMP)(stage),
    ),
    Case(
        "topic not ours",
        meddled(
            without(60000, 60001, 60002),
            lambda link, found, data: (
                data
                + publish("dormouse/other/down/cmd", b"{}", 60000)
                + publish("\x7f", b"{}", 60001)
                + to("down/cmd/more", b"{}", 60002)(link)
                if found.kind == SUBACK
                else data
            ),
        ),
        "nothing listens to this topic",
        check=answered("nothing listens to this topic", 3),
    ),
    Case(
        "payload of 256 MB",
        meddled(without(60001), huge),
        "above the limit of 2048",
        config={"patience": 20000},
        budget=400,  # of a machine that others use, too: it takes a quiet one 40 to 60 s
        seconds=430,
        check=acknowledged(60001),
        slow=True,
    ),
    wrong("remaining length malformed", b"\x32\xff\xff\xff\xff\x01", reason="remaining length longer than four bytes"),
    wrong("topic length beyond the packet", b"\x32\x05\xff\xff\x00\x00\x01", reason="contradicts itself"),
    wrong("packet id 0", to("down/cmd", b"{}", 0), reason="packet id 0"),
    Case(
        "packet ids up to 65535 and from 1 again",
        meddled(
            without(*PIDS[:2]),
            lambda link, found, data: (
                data + b"".join(to("down/fence", b"0badf00d", pid)(link) for pid in PIDS)
                if found.kind == CONNACK
                else data
            ),
        ),
        check=acknowledged(*PIDS),
    ),
    wrong("garbage", bytes(range(255, 0, -1)), reason="remaining length longer"),
    wrong("garbage that looks like a PUBLISH", b"\x3f" + bytes(200), reason="contradicts itself"),
    Case("broker restarted in the middle", broker_restarted, "rejoin", settings=("autosave_on_changes true",)),
]
