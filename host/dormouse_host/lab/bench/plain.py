"""A wake as people write it with umqtt.simple alone, for comparison; it runs on MicroPython.

Nothing is made slow on purpose: the calls are in the order of umqtt.simple's own examples, with clean_session=False,
QoS 1 for everything, and a result for each command. The tuned one sends each packet in one write instead of three to
five, and listens for 200 ms of silence instead of two seconds.

    micropython plain.py DEVICE PORT plain|tuned RECORDS      prints `asleep` and its number of socket writes
"""

import json
import select
import socket
import sys
import time
from binascii import crc32

from umqtt import simple

DEVICE, PORT, STYLE, RECORDS = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
QUIET = {"plain": 2000, "tuned": 200}[STYLE]  # ms without a message after which it sleeps
ROOT = b"dormouse/" + DEVICE.encode()


class Counted:
    """The socket; counts its writes, and on request keeps them back until something is read."""

    writes = 0

    def __init__(self, *args):
        self.sock = socket.socket(*args)
        self.kept = b""

    def connect(self, address):
        self.sock.connect(address)

    def write(self, data, size=None):
        data = data if size is None else data[:size]
        if STYLE == "tuned":
            self.kept += data
        else:
            Counted.writes += 1
            self.sock.write(data)

    def flush(self):
        if self.kept:
            Counted.writes += 1
            self.sock.write(self.kept)
            self.kept = b""

    def read(self, size):
        self.flush()
        return self.sock.read(size)

    def setblocking(self, flag):
        self.flush()
        self.sock.setblocking(flag)

    def settimeout(self, seconds):  # umqtt.simple 1.8.0 calls it before it connects
        self.sock.settimeout(seconds)

    def close(self):
        self.flush()
        self.sock.close()


class Sockets:
    """The module `socket` as umqtt.simple uses it."""

    getaddrinfo = socket.getaddrinfo
    socket = Counted


def main():
    """One wake."""
    simple.socket = Sockets
    client = simple.MQTTClient(DEVICE, "127.0.0.1", PORT)
    commands = []
    client.set_callback(lambda topic, payload: commands.append(payload))
    client.connect(clean_session=False)
    client.subscribe(ROOT + b"/down/#", 1)
    for number in range(1, RECORDS + 1):
        record = {"records": [[number, 1795000000 + number, {"t": 21.5, "vbat": 3.91}]]}
        client.publish(ROOT + b"/up/telemetry", json.dumps(record).encode(), qos=1)
    poll = select.poll()
    poll.register(client.sock.sock, select.POLLIN)
    heard = time.ticks_ms()
    while time.ticks_diff(time.ticks_ms(), heard) < QUIET:
        client.sock.flush()
        if poll.poll(20):
            client.wait_msg()
            heard = time.ticks_ms()
        while commands:
            payload = commands.pop(0)
            command = json.loads(payload)
            value = {"ran": command["args"]["s"]}
            result = {"status": "succeeded", "crc": crc32(payload), "id": command["id"], "value": value}
            client.publish(ROOT + b"/up/result", json.dumps([result]).encode(), qos=1)
            heard = time.ticks_ms()
    client.disconnect()
    client.sock.close()
    print("asleep", Counted.writes)


main()
