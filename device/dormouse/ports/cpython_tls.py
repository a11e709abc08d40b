"""MicroPython's module `tls` for CPython: what dormouse/tls.py uses of it, made of CPython's ssl.

Must stay true: it checks what MicroPython's checks and refuses what that refuses; a stream never blocks: where it
would have to wait, it returns None.
"""

import ssl
from base64 import encodebytes

PROTOCOL_TLS_CLIENT = ssl.PROTOCOL_TLS_CLIENT
CERT_REQUIRED = ssl.CERT_REQUIRED
_KEYS = (b"PRIVATE KEY", b"EC PRIVATE KEY", b"RSA PRIVATE KEY")  # PKCS 8, SEC 1, PKCS 1: DER does not say which it is


class SSLContext:
    """A client's: TLS 1.2 and up, certificate and name checked."""

    def __init__(self, protocol):
        self._context = ssl.SSLContext(protocol)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the CA need not be a root
        self.verify_mode = CERT_REQUIRED
        self.psk_identity = None

    @property
    def psk_key(self):
        """The key that `psk_identity` shares with the broker. AttributeError before CPython 3.13."""
        raise AttributeError

    @psk_key.setter
    def psk_key(self, key):
        known = self.psk_identity, key
        getattr(self._context, "set_psk_client_callback")(lambda hint: known)  # noqa: B009 (unknown to mypy for 3.11)

    def load_verify_locations(self, cadata):
        """Trust this CA, in DER."""
        self._context.load_verify_locations(cadata=bytes(cadata))

    def load_cert_chain(self, cert, key):
        """Show this certificate, in DER; `key` is the one that belongs to it. ValueError where they can't be read."""
        import tempfile  # takes a while, and few devices have a certificate

        for kind in _KEYS:
            with tempfile.NamedTemporaryFile() as file:  # OpenSSL reads keys from files alone; 0600
                for what, der in ((b"CERTIFICATE", cert), (kind, key)):
                    file.write(b"-----BEGIN %b-----\n%b-----END %b-----\n" % (what, encodebytes(der), what))
                file.flush()
                try:
                    return self._context.load_cert_chain(file.name)
                except ssl.SSLError:
                    continue
        raise ValueError("invalid cert or key")

    def wrap_socket(self, sock, server_hostname=None, do_handshake_on_connect=True):
        """The stream over a connected, non-blocking socket."""
        self._context.verify_mode = self.verify_mode
        return Stream(
            self._context.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        )


class Stream:
    """A TLS socket as MicroPython has it."""

    def __init__(self, sock):
        self._sock = sock
        self.fileno = sock.fileno
        self.close = sock.close

    def readinto(self, buffer):
        """Bytes read, 0 at the end of the stream, None where none has come."""
        try:
            return self._call(self._sock.recv_into, buffer)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def write(self, data):
        """Bytes taken, None where none could be."""
        return self._call(self._sock.send, data)

    def _call(self, function, data):
        try:
            self._sock.do_handshake()
            return function(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLCertVerificationError as e:
            raise ValueError(e.verify_message) from None
