"""A mosquitto started from a folder that `dormouse broker init` made, and the clients of a test.

Must stay true: the broker reads the very files that the command wrote; it is gone with the `with` block.
"""

import contextlib
import signal
import socket
import ssl
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.broker import access, folder, setup
from dormouse_host.broker.folder import BrokerFolder
from dormouse_host.broker.local import HOST, LocalBroker, free_port
from support.needs import need_mosquitto


def make(path: Path, names: tuple[str, ...] = (HOST, "localhost"), **how) -> BrokerFolder:
    """A folder for this machine; pytest's folders are root's alone, so its mosquitto stays root."""
    return setup.init(path, names, port=free_port(), cert_port=free_port(), user="root", **how)


def by_certificate(made: BrokerFolder, cert: bytes, key: bytes) -> ssl.SSLSocket:
    """A connection with this certificate and key, both in DER, that keeps the session; OSError where it is refused."""
    form = PrivateFormat.TraditionalOpenSSL
    pem = load_der_private_key(key, None).private_bytes(Encoding.PEM, form, NoEncryption())
    context = ssl.create_default_context(cafile=made.ca)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + x509.load_der_x509_certificate(cert).public_bytes(Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    plain = socket.create_connection((HOST, made.ports[1]), 30)
    secure = context.wrap_socket(plain, server_hostname=HOST)
    secure.sendall(b"\x10\x0f\x00\x04MQTT\x04\x00\x00\x3c\x00\x03any")
    answer = secure.recv(4)
    if len(answer) < 4 or answer[0] != 0x20 or answer[3]:
        secure.close()
        raise ConnectionRefusedError(f"refused: {answer!r}")
    return secure


def lets_in(made: BrokerFolder, cert: bytes, key: bytes) -> bool:
    """Does the broker take this certificate?"""
    try:
        by_certificate(made, cert, key).close()
    except OSError:
        return False
    return True


class MadeBroker(LocalBroker):
    """`mosquitto -c FOLDER/mosquitto.conf`."""

    _listening = ""  # its log says nothing of how it goes
    name = "mosquitto"

    def __init__(self, made: BrokerFolder) -> None:
        super().__init__()
        self.made = made
        self._port = made.ports[0]
        self._program = need_mosquitto()

    def _argv(self, port: int) -> list[str]:
        return [str(self._program), "-c", str(self.made.configuration)]

    def _serves(self) -> bool:
        deadline = time.monotonic() + self._start_within
        while self._child and self._child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), 1):
                written = (self.made.broker / "mosquitto.pid").read_text() == str(self._child.pid)
                if written and folder.handles(self._child.pid):  # what `reload` looks for
                    return True
            time.sleep(0.01)
        return False

    def kill(self) -> None:
        """As a power cut does."""
        assert self._child
        self._child.kill()
        self._child.wait()
        self._child = None

    def reload(self) -> None:
        """Read passwords, rights and revoked certificates again."""
        assert self._child
        self._child.send_signal(signal.SIGHUP)

    def of_relay(self, name: str = "main") -> BrokerAddress:
        """The address with the relay's credential, as its environment file has it."""
        said = access.read_environment(self.made.relay_file(name).read_text())
        return parse(said["DORMOUSE_BROKER"], said)
