"""Many light devices in one process: `python -m proofs.scale.light_devices BROKER FIRST LAST`.

A light device keeps the protocol and nothing on flash: it connects with its session, subscribes, reports, sends a
fence, takes each command once, answers it, ends with its windows, and forgets nothing of that while this process lives.
Must stay true: its wake is over only when the broker has confirmed report, fence and answers, and the fence has come
back.

A line on stdin is one wake of every device; its answer is a line of JSON: `failed`, the wakes that did not end well;
`done`, the commands that were taken so far, and `twice`, those that came more than once; `cpu`, seconds so far.
"""

import asyncio
import json
import sys
import time
from binascii import crc32
from collections import Counter

from dormouse import protocol
from dormouse_host.address import parse
from proofs.scale.devices import NAME
from proofs.years import mqtt

AT_ONCE = 40  # devices that are awake at a time
WITHIN = 60.0  # s for one wake
STATE = "s1"
_FENCE = b"f"
_DONE = protocol.STATUSES.index(protocol.SUCCEEDED)


class Light:
    """One device."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wakes = 0
        self.seen: dict[str, Counter[int]] = {}  # ledger's name -> number -> how often it came

    async def wake(self, host: str, port: int) -> None:
        """One wake, from CONNECT to DISCONNECT."""
        self.wakes += 1
        reader, writer = await asyncio.open_connection(host, port)
        try:
            await self._talk(reader, writer)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        report = {"wake": self.wakes, "state": STATE, "next": 900, "limit": protocol.PAYLOAD_LIMIT}
        writer.write(_connect(self.name) + _subscribe(self._topic("down/#")))
        writer.write(self._publish(protocol.WAKE, report, 2, retain=True))
        writer.write(mqtt.publish(self._topic(protocol.FENCE), _FENCE, 1, 3, retain=False, dup=False))
        owed, fence, present = {2, 3}, False, False
        answers: list[dict[str, object]] = []
        buffer = bytearray()
        while owed or not fence:
            data = await reader.read(65536)
            if not data:
                raise ConnectionError("the broker has closed")
            buffer += data
            for first, body in mqtt.packets(buffer):
                kind = first & 0xF0
                if kind == 0x20:
                    present = bool(body[0] & 1)
                elif kind == 0x40:
                    owed.discard(int.from_bytes(body[:2], "big"))
                elif kind == 0x30:
                    topic, at = mqtt.text(body, 0)
                    writer.write(mqtt.packet(0x40, body[at : at + 2]))
                    if topic.endswith(protocol.FENCE.encode()):
                        fence = True
                    else:
                        answers.append(self._do(body[at + 2 :]))
            if fence and answers:
                for number in range(0, len(answers), 8):
                    writer.write(self._publish(protocol.RESULT, answers[number : number + 8], 10 + number))
                    owed.add(10 + number)
                answers = []
        writer.write(self._publish(protocol.END, self._end(present), 0) + b"\xe0\0")
        await writer.drain()

    def _do(self, payload: bytes) -> dict[str, object]:
        """Its answer to a command."""
        command = json.loads(payload)["id"]
        _, ledger, number = protocol.split_id(command)
        self.seen.setdefault(ledger, Counter())[number] += 1
        return {"id": command, "status": protocol.SUCCEEDED, "crc": crc32(payload), "value": {"n": number}}

    def _end(self, present: bool) -> dict[str, object]:
        windows = {}
        for ledger, numbers in self.seen.items():
            high = max(numbers)
            codes = [_DONE if high - at in numbers else 0 for at in range(min(high, protocol.WINDOW))]
            windows[ledger] = [high, protocol.pack_window(codes)]
        head = {"wake": self.wakes, "state": STATE, "present": present, "drained": True, "acked": 0}
        return {**head, "windows": windows}

    def _publish(self, leaf: str, value: object, mid: int, *, retain: bool = False) -> bytes:
        payload = json.dumps(value, separators=(",", ":")).encode()
        return mqtt.publish(self._topic(leaf), payload, 1 if mid else 0, mid, retain=retain, dup=False)

    def _topic(self, leaf: str) -> str:
        return str(protocol.topic(protocol.ROOT, self.name, leaf))


def _connect(name: str) -> bytes:
    """CONNECT of MQTT 3.1.1 with clean_session=False."""
    return mqtt.packet(0x10, b"\0\x04MQTT\x04\0\0\x3c" + len(name).to_bytes(2, "big") + name.encode())


def _subscribe(topic: str) -> bytes:
    return mqtt.packet(0x82, b"\0\x01" + len(topic).to_bytes(2, "big") + topic.encode() + b"\x01")


async def wake_all(devices: list[Light], host: str, port: int) -> int:
    """One wake of each, some at a time. Returns how many failed."""
    waiting = iter(devices)
    failed = 0

    async def work() -> None:
        nonlocal failed
        for device in waiting:
            try:
                await asyncio.wait_for(device.wake(host, port), WITHIN)
            except (OSError, TimeoutError) as error:
                failed += 1
                print(f"{device.name}: {error!r}", file=sys.stderr)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return failed


def serve(url: str, first: int, last: int) -> None:
    """Wake devices number `first` to `last` - 1 for each line of stdin."""
    broker = parse(url, {})
    devices = [Light(NAME % at) for at in range(first, last)]
    _say(devices, 0)
    for _ in sys.stdin:
        _say(devices, asyncio.run(wake_all(devices, broker.host, broker.port)))


def _say(devices: list[Light], failed: int) -> None:
    every = [times for device in devices for numbers in device.seen.values() for times in numbers.values()]
    said = {
        "failed": failed,
        "done": len(every),
        "twice": sum(times > 1 for times in every),
        "cpu": time.process_time(),
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
