"""A mosquitto for trying things out, with the settings that sleeping devices need.

Must stay true: what a device or the relay is owed outlives an orderly end and, but for the last second, a kill; its
folder belongs to one running broker at a time, because it is named after the port; only who asked for it is heard
outside this machine.
"""

import socket
from collections.abc import Callable
from pathlib import Path

from dormouse_host import files
from dormouse_host.address import own_addresses
from dormouse_host.agent import toolchain
from dormouse_host.broker.local import HOST, Mosquitto
from dormouse_host.errors import HostError

SETTINGS = (
    "autosave_interval 1",  # seconds; the stock 1800 lose sessions and acknowledged messages when it is killed
    "max_queued_messages 10000",  # for each sleeper; what comes above it is acknowledged and dropped
    "set_tcp_nodelay true",  # or Nagle's algorithm costs a wake about one round trip more
    "log_timestamp_format %Y-%m-%dT%H:%M:%S",
)
_NO_PROGRAM = "mosquitto is not installed: apt-get install mosquitto"


def folder_for(port: int) -> Path:
    """Where the broker on that port keeps its sessions."""
    import platformdirs

    return platformdirs.user_data_path("dormouse", appauthor=False) / f"broker-{port}"


class TrialBroker(Mosquitto):
    """mosquitto on `port`, for this machine only or for its network; anyone who reaches it may do anything."""

    def __init__(self, port: int, *, lan: bool) -> None:
        """HostError where there is no mosquitto, the port is taken or the folder can't be made."""
        program = toolchain.mosquitto()
        if program is None:
            raise HostError(_NO_PROGRAM)
        folder = folder_for(port)
        _require_free(port, None if lan else HOST)
        super().__init__(program, SETTINGS, folder=files.folder(folder), port=port, host=None if lan else HOST)
        self._lan = lan

    @property
    def urls(self) -> list[str]:
        """What a device's `config.json` or DORMOUSE_BROKER may say."""
        return [f"mqtt://{ip}:{self._port}" for ip in (own_addresses() if self._lan else [HOST])]

    def serve(self, stopped: Callable[[float], bool]) -> None:
        """Until `stopped`, which waits for so many seconds, says so. HostError where the broker ends by itself."""
        while not stopped(0.2):
            if self._child is None or self._child.poll() is not None:
                raise HostError(f"{self.name} ended: {self._last_words()}")


def _require_free(port: int, host: str | None) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "", port))
        except OSError as error:
            raise HostError(f"port {port}: {error.strerror}; choose another --port") from None
