"""TLS for the link: what the broker must prove before the first byte of MQTT goes out.

Must stay true: certificate and host name are checked against the configured CA, always and with no way round; where
the clock is not known the dates alone are not, and the wake report says so. With a key that both share (`psk`) no
certificate is enough, since no CA is loaded then. Loaded for `mqtts://` only.
"""

from binascii import a2b_base64, b2a_base64, unhexlify

import tls

from dormouse.errors import ConfigError, LinkError

_DATE = b"\x17\x0d"  # UTCTime of 13 bytes, YYMMDDhhmmssZ, in DER


class Security:
    """The checks for the broker of `config`; files and the clock are the port's. ConfigError for a missing file."""

    def __init__(self, config, port):
        self.port = port
        self.config = config
        self.begins = self.ca = b""
        self.again = True
        if config["ca"]:
            self.ca = self._file("ca")
        self.own = None  # certificate and key in base64, a space between them, where the broker wants one; or a key
        if config["cert"]:
            self.own = " ".join(b2a_base64(self._file(key)).decode().strip() for key in ("cert", "key"))
        if port.time() is None:
            self._date(self.ca, 0)
            self._pretend()

    def _file(self, key):
        name = self.config[key]
        data = self.port.file(name)
        if data is None:
            raise ConfigError("%s: the file %s is missing" % (key, name), "tls")
        return data

    def context(self, own):
        """What a connection is made with that shows `own`. ConfigError where that is not what TLS can read."""
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        try:
            if self.config["psk"]:
                for name, value in (("psk_identity", self.config["id"]), ("psk_key", unhexlify(own or "-"))):
                    setattr(context, name, value)  # of MicroPython 1.29, which no stubs know
                return context
            context.load_verify_locations(self.ca)
            if own:
                cert, _, key = own.partition(" ")
                context.load_cert_chain(a2b_base64(cert), a2b_base64(key))
        except (AttributeError, OSError, ValueError):
            raise ConfigError("ca, cert or key is not in DER, or no psk here", "tls")
        context.verify_callback = self._date
        return context

    def wrap(self, sock):
        """The stream over a connected, non-blocking socket; its handshake is part of the first write."""
        try:
            context = self.context(self.own)
            self.port.shaking(True)
            return context.wrap_socket(sock, server_hostname=self.config["host"], do_handshake_on_connect=False)
        except (MemoryError, OSError) as e:  # its buffers lie in the heap of a board
            raise LinkError(str(e), "tls")

    def _date(self, der, depth):
        """Remember the latest day on which a certificate of the chain begins to be valid. Called with each of them."""
        rest = bytes(der)
        while rest:
            _, _, rest = rest.partition(_DATE)
            if rest[:12].isdigit():
                self.begins = max(self.begins, rest[:12])
                break
        return 0

    def retry(self):
        """Is a handshake that failed worth a second one, because only the dates can have been in its way?"""
        again, self.again = self.again, False
        return again and self.port.time() is None and self._pretend()

    def _pretend(self):
        """Have dates compared with a day on which all certificates seen are valid."""
        begins = self.begins
        if not begins:
            return False
        year, month, day, hour, minute, second = (int(begins[i : i + 2]) for i in range(0, 12, 2))
        return self.port.pretend((2000 + year, month, day, 0, hour, minute, second, 0))
