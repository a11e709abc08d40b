"""What changes of a device's configuration: settings that commands change, and credentials on trial.

Must stay true: nothing that came by a command can lock the owner out: what no wake could finish with is undone, and
the flashed credential stays; a file here that is damaged raises ConfigError naming it.
"""

import json
from binascii import crc32

from dormouse.errors import ConfigError, ProtocolError
from dormouse.payloads import check_shape, encode

_TRIALS = 4  # credentials held at once, the flashed one apart
_SPACE = 4096  # characters of all of them: a certificate and its key have some 800


class Overlay:
    """Keys that commands have changed: kept ones, and those on trial until a wake has finished with them.

    `kept` and `trial` are files in the agent's folder; the trial's first byte says whether a wake has connected with
    it. `undone`: the keys of a trial that no wake could finish with, or None.
    """

    def __init__(self, storage):
        self._storage = storage
        self.kept = load(storage.read("kept"), "kept settings")
        self.undone = None
        self.trial = self._waiting()
        if storage.read("trial") and not self.trial:
            self.undone = sorted(load(storage.read("trial")[1:], "settings on trial"))
            storage.remove("trial")

    def _waiting(self):
        data = self._storage.read("trial")
        return load(data[1:], "settings on trial") if data and data[:1] == b"0" else {}

    def over(self, values):
        """`values` of config.json with what is kept and what is on trial over them."""
        full = dict(values)
        full.update(self.kept)
        full.update(self.trial)
        return full

    def keep(self, values):
        """Keep these from now on."""
        self.kept.update(values)
        self._storage.replace("kept", encode(self.kept))

    def put_on_trial(self, values):
        """The next wake that connects does it with these, and keeps them if it finishes."""
        full = self._waiting()
        full.update(values)
        self._storage.replace("trial", b"0" + encode(full))

    def begin(self):
        """A wake is going to connect with what is on trial."""
        if self.trial:
            self._storage.replace("trial", b"1" + encode(self.trial))

    def finished(self):
        """A wake has finished with what was on trial."""
        if self.trial:
            self.keep(self.trial)
            self.trial = {}
            if not self._waiting():  # unless this wake has put others there
                self._storage.remove("trial")


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
        said = load(storage.read("credentials"), "credentials")
        self.all = (said["held"] if said.get("crc") == self._crc else []) + [first]
        self.at = 0  # the one whose turn it is
        self._left = len(self.all)

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


def load(text, what):
    """The JSON object in `text` (bytes or None); `what` names the file in an error."""
    if text is None:
        return {}
    try:
        check_shape(text)  # MicroPython takes half a file
        values = json.loads(text)
    except (ProtocolError, ValueError, UnicodeError):
        raise ConfigError("%s is not JSON" % what)
    if not isinstance(values, dict):
        raise ConfigError("%s is not a JSON object" % what)
    return values
