"""Releases for devices that are processes of this machine, and sending them without a ledger."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dormouse_host.release import Release, chunks
from support.device_folder import Device, Host

LEDGER = "test"


def install(folder: Path, release: Release, slot: str = "a") -> None:
    """Put the release into a slot, as a flash does."""
    for name, data in release.files.items():
        path = folder / slot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    lines = release.manifest.partition(b"\n")[2]
    (folder / slot / "release").write_bytes(release.digest.encode() + b"\n" + lines)


def program(text: str, **more: bytes) -> Release:
    """A release with this app.py."""
    return Release({"app.py": text.encode(), **{name.replace("__", "/"): data for name, data in more.items()}})


class Sender:
    """Sends the steps and chunks of an update to the device `dev`. `state` is the device's."""

    def __init__(self, host: Host, state: str, number: int = 0) -> None:
        self.host, self.state, self.number = host, state, number

    def order(self, do: str, **args: Any) -> str:
        """Send a command. Returns its id."""
        self.number += 1
        name = f"{self.state}-{LEDGER}.{self.number}"
        self.host.send(json.dumps({"id": name, "u": f"u{self.number}", "do": do, "args": args}).encode())
        return name

    def step(self, release: Release, step: str, **of: Any) -> str:
        """Send a step of the update as a command. Returns its id."""
        args: dict[str, Any] = {"step": step, "release": release.digest if step == "begin" else release.id}
        if step == "begin":
            args["of"] = {**release.terms(), **of}
        return self.order("update", **args)

    def chunks(self, release: Release, wanted: Iterable[int] | None = None, at: tuple[int, int] = (0, 0)) -> int:
        """Send all chunks from a place on. Returns how many those are."""
        numbers = range(len(release.files) + 1) if wanted is None else [0, *wanted]
        payloads, _ = chunks(release.id, release.contents(), list(numbers), at, 1024, 10000)
        self.host.send(*payloads, leaf="down/file")
        return len(payloads)


def marked(device: Device) -> str:
    """The mark of the guard."""
    return (device.folder / "state" / "slot").read_text()
