"""Detection of another client under this relay's name at the broker.

A relay gives up for a session that is taken over again and again, and for nothing else: no error of a ledger, no broker
that restarts and no network that breaks counts. The relay that was there first goes on.
"""

import select
import socket

from dormouse_host.address import BrokerAddress

SETTLED = 5.0  # seconds after which a connection is nobody else's
_TIMES = 3  # connections in a row that were taken over
_WITHIN = 6.0  # seconds to open the witness
_LAST = 1.0  # seconds by which a broker that ends may close it later than the relay's connection


class Rival:
    """Judges the connections of one relay, one after the other.

    Not every broker says that a session was taken over. So from the second time on a witness is opened beside the
    connection, bare TCP without a word of MQTT: where the broker or the network ends, that ends too.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._first = False  # has this relay ever had the session to itself?
        self._witness: socket.socket | None = None
        self.times = 0  # connections in a row that ended as if they had been taken over

    def connected(self) -> None:
        """The relay has a connection."""
        if self.times:
            try:
                self._witness = socket.create_connection((self._address.host, self._address.port), _WITHIN)
            except OSError:
                self._witness = None

    def wins(self, held: float, *, cut: bool) -> bool:
        """The connection is over after `held` seconds, less than 0 where there was none; `cut`: the broker closed it
        and gave no other reason than a takeover. Is it certain now that another client wants the session?
        """
        witness, self._witness = self._witness, None
        self._first = self._first or held > SETTLED
        taken = cut and held >= 0 and not self._first and (self.times == 0 or _is_open(witness))
        self.times = self.times + 1 if taken else 0
        if witness:
            witness.close()
        return self.times >= _TIMES


def _is_open(witness: socket.socket | None) -> bool:
    """A broker has nothing to say to who has said nothing: what can be read is the end."""
    return witness is not None and not select.select([witness], [], [], _LAST)[0]
