"""Several credentials, of which the broker may accept only some: tried in order. Loaded only where there are several.

Must stay true: nothing that came by a command can lock the owner out: the flashed credential stays, and none is
forgotten before the broker has accepted a newer one.
"""

from binascii import crc32

from dormouse.codec import encode, load
from dormouse.errors import ConfigError

_TRIALS = 4  # credentials held at once, the flashed one apart
_SPACE = 4096  # characters of all of them: a certificate and its key have some 800


class Credentials:
    """Those that the broker may want, the newest first; the flashed one comes last, and stays. Each is one text: a
    password, or what `tls.Security` shows.

    None is forgotten before the broker has accepted a newer one. They are in the file `credentials`, with the CRC of
    the flashed one: another one there makes them void.
    """

    def __init__(self, storage, first):
        self._storage = storage
        self._first = first
        self._crc = crc32((first or "").encode())
        name = "credentials"
        try:
            said = load(storage.read(name), name)
            self.all = (said["held"] if said.get("crc") == self._crc else []) + [first]
        except (ConfigError, KeyError, TypeError):  # flash was damaged
            self.all = [first]
        self.at = 0  # the one whose turn it is
        self._left = len(self.all)

    def another(self, e, cert, alone):
        """The broker may have refused the one whose turn it is: has another connection a chance after the error `e`?
        `cert`: TLS shows them, as certificate or shared key; `alone`: CONNECT goes by itself then.
        """
        if len(self.all) < 2 or (e.stage != "connack" and not (cert and e.stage == "tls")):
            return False
        if isinstance(e, ConfigError) or (cert and not e.silent):  # a certificate is refused by an alert, or by closing
            return self.refused()
        return alone  # the refusal may have been lost

    def refused(self):
        """The broker refuses the one whose turn it is. Is there another to try?"""
        self.at = (self.at + 1) % len(self.all)
        self._left -= 1
        return self._left > 0

    def accepted(self):
        """The broker has accepted it: the newest makes those before it superfluous."""
        self._left = len(self.all)  # for the next connection of this wake
        if self.at == 0 and self._left > 2:
            self._hold(self.all[:1])

    def add(self, credential):
        """Try this one first from the next wake on. Says how it stands: has this connection been made with it?"""
        if credential not in self.all:
            if not self._first:
                raise ConfigError("no credential to change")
            if len(self.all) > _TRIALS or len("".join(self.all)) + len(credential) > _SPACE:
                raise ConfigError("too many credentials on trial, or too long")
            self._hold([credential] + self.all[:-1])
            self.at += 1
        return "in use" if credential == self.all[self.at] else "on trial"

    def _hold(self, credentials):
        self._storage.replace("credentials", encode({"crc": self._crc, "held": credentials}))
        self.all = credentials + [self._first]
        self._left = len(self.all)
