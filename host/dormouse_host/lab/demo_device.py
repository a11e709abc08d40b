"""The demo's device: a folder like a board's flash, and one process per wake.

The process of a wake is gone when `wake` returns or raises, and is killed when it is silent for longer than a wake may
last. Its log is handed on line by line.
"""

import json
import os
import select
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from dormouse_host import processes
from dormouse_host.address import BrokerAddress
from dormouse_host.agent.log import Event, parse
from dormouse_host.errors import HostError

_APP = Path(__file__).with_name("demo_app.py")
_MARGIN = 6  # seconds of silence beyond its budget after which a process counts as hung; an interpreter starts in one


def _lines(pipe: IO[bytes], patience: float) -> Iterator[str]:
    """The lines from `pipe` until its other end closes. HostError after `patience` seconds of silence."""
    rest = b""
    while select.select([pipe], [], [], patience)[0]:
        data = os.read(pipe.fileno(), 65536)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole if data else [rest]:
            yield line.decode(errors="replace").rstrip("\r")
        if not data:
            return
    raise HostError("the device process hung beyond its budget and was killed")


class DemoDevice:
    """One device with a fixed id. `folder` is its flash and outlives its processes."""

    def __init__(
        self,
        folder: Path,
        device_id: str,
        address: BrokerAddress,
        command: tuple[Sequence[str], Mapping[str, str]],
        **config: object,
    ) -> None:
        """`command` starts one wake (argv, environment); `config` holds further keys of config.json."""
        self.id = device_id
        self._folder = folder
        self._command = command
        self._config = {"id": device_id, "broker": address.url, **config}
        folder.mkdir(exist_ok=True)
        shutil.copyfile(_APP, folder / "app.py")
        if address.user is not None:
            secrets = {"user": address.user, "password": address.password or ""}
            (folder / "secrets.json").write_text(json.dumps(secrets))

    def wake(self, on_event: Callable[[Event], object], *, budget: float, linger: float = 0) -> None:
        """Run one wake and hand on its events. HostError with the device's reason where it did not finish."""
        config = {**self._config, "budget": budget, "linger": linger}
        (self._folder / "config.json").write_text(json.dumps(config))
        argv, env = self._command
        reading, writing = os.pipe()
        with open(reading, "rb", 0) as pipe:
            try:
                child = processes.start(argv, output=writing, env=env)
            finally:
                os.close(writing)
            try:
                reason = self._follow(_lines(pipe, budget + _MARGIN), on_event)
                code = child.wait(_MARGIN)
            finally:
                processes.stop(child)
        if code:
            raise HostError(f"device {self.id}: {reason or f'ended with {code}'}", 2 if code == 2 else 1)

    def _follow(self, lines: Iterator[str], on_event: Callable[[Event], object]) -> str:
        """Hand on the events. Returns its last error, else its last line that is not an event."""
        reason, other = "", ""
        for line in lines:
            event = parse(line)
            if event is None:
                other = line.strip() or other
                continue
            if event.name == "error":
                reason = _reason(event)
            on_event(event)
        return reason or other


def _reason(event: Event) -> str:
    why, stage = event.fields.get("why"), event.fields.get("stage")
    return f"{why} (at {stage})" if stage else f"{why}"
