"""`tls` of a board that takes a board's time for a handshake; the interpreter's own computes faster.

Must stay true: the time passes within the handshake, once, in one piece, when the peer has shown its certificate, as
the board computes then. A program that looks at no certificate has none of it.
"""

import tls as _tls
import vb_machine as _m
import vb_time as _clock

CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = _tls.CERT_NONE, _tls.CERT_OPTIONAL, _tls.CERT_REQUIRED
PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER = _tls.PROTOCOL_TLS_CLIENT, _tls.PROTOCOL_TLS_SERVER


class SSLContext:
    """Hands everything to the interpreter's own."""

    def __init__(self, protocol):
        self._context = _tls.SSLContext(protocol)
        self._context.verify_callback = self._verify
        self.verify_callback = None
        for name in ("get_ciphers", "set_ciphers", "load_cert_chain", "load_verify_locations", "wrap_socket"):
            setattr(self, name, getattr(self._context, name))

    @property
    def verify_mode(self):
        return self._context.verify_mode

    @verify_mode.setter
    def verify_mode(self, mode):
        self._context.verify_mode = mode

    def _verify(self, der, depth):
        if depth == 0:  # the peer's own, the last of its chain
            _clock._busy(_m.facts["times"]["handshake"])
        return self.verify_callback(der, depth) if self.verify_callback else 0
