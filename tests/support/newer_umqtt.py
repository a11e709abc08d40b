"""A stand-in for umqtt.simple 1.8.0, where only 1.3.4 can be had: 1.3.4 with what differs for whoever calls it.

Must stay true: each difference is a change of 1.3.4's own text, which fails loudly where that text is not there.
"""

from pathlib import Path

from dormouse_host.agent import toolchain

DIFFERENCES = (
    # modules by their present names
    (
        "import usocket as socket\nimport ustruct as struct\nfrom ubinascii import",
        "import socket\nimport struct\nfrom binascii import",
    ),
    # connect() takes a timeout, sets it before it connects (None: no timeout), and closes the socket of before
    (
        "    def connect(self, clean_session=True):\n        self.sock = socket.socket()\n",
        "    def connect(self, clean_session=True, timeout=None):\n"
        "        if self.sock:\n            self.sock.close()\n"
        "        self.sock = socket.socket()\n        self.sock.settimeout(timeout)\n",
    ),
    # `ssl` is an SSLContext
    ("ssl=False, ssl_params={}", "ssl=None, ssl_params={}"),
    (
        "            import ussl\n            self.sock = ussl.wrap_socket(self.sock, **self.ssl_params)\n",
        "            self.sock = self.ssl.wrap_socket(self.sock, server_hostname=self.server)\n",
    ),
    # an empty user is no user
    ("        if self.user is not None:\n", "        if self.user:\n"),
    # SUBSCRIBE goes in one more write
    (
        "        self.sock.write(pkt)\n        self._send_str(topic)\n        self.sock.write(qos.",
        "        self.sock.write(pkt, 2)\n        self.sock.write(pkt[2:])\n"
        "        self._send_str(topic)\n        self.sock.write(qos.",
    ),
    # wait_msg() returns the first byte of a PUBLISH, too
    (
        "        elif op & 6 == 4:\n            assert 0\n",
        "        elif op & 6 == 4:\n            assert 0\n        return op\n",
    ),
)


def make(folder: Path) -> Path:
    """Write it below `folder`, which UMQTT= then names."""
    source = (toolchain.umqtt_1_3_4() / "umqtt" / "simple.py").read_text()
    for old, new in DIFFERENCES:
        if old not in source:
            raise LookupError(f"umqtt.simple 1.3.4 does not say {old!r}")
        source = source.replace(old, new)
    (folder / "umqtt").mkdir(parents=True)
    (folder / "umqtt" / "simple.py").write_text(source)
    return folder
