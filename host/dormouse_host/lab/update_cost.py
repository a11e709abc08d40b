"""What an update over the air would take, before it is ordered: files, bytes, wakes, and the charge of the battery."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dormouse_host.errors import HostError
from dormouse_host.flash.kinds import Board
from dormouse_host.lab import energy
from dormouse_host.ledger.updates import BATCH
from dormouse_host.release import BLOCK, CHUNK, Release

_ERASE = 0.05  # s for a block, and
_PROGRAM = 0.0005  # s for a page of 256 bytes: typical of a W25Q32JV, as boards/virtual/norflash.py has them
_ORDER = 1  # wake before those with chunks; the commit comes with the last of them


@dataclass(frozen=True)
class UpdateCost:
    """`files`: (name, bytes, `new`, `changed`, `same` or `gone`, or "" where the ledger did not send what runs).

    `size`: bytes to send, at most; `wakes` until the release is on trial; `mah`: what it takes beyond the wakes that
    there would be anyway, None where the device has reported no finished wake, or is no board.
    """

    files: tuple[tuple[str, int, str], ...]
    size: int
    wakes: int
    mah: float | None


def of(release: Release, running: str | None, board: Board | None, wakes: Iterable[dict[str, Any]]) -> UpdateCost:
    """`running`: the manifest of what the device runs, if known; `wakes`: its newest wake reports."""
    now = _lines(running) if running is not None else None
    files = []
    size = len(release.manifest)
    held = {digest for _, digest in now.values()} if now else set()
    for name, (length, digest) in _lines(release.manifest.decode()).items():
        mark = "" if now is None else "new" if name not in now else "same" if now[name][1] == digest else "changed"
        files.append((name, length, mark))
        size += 0 if digest in held else length
    files += [(name, 0, "gone") for name in now or () if name not in release.files and not _kept(release, name)]
    chunks = -(-size // CHUNK)
    return UpdateCost(tuple(files), size, -(-chunks // BATCH) + _ORDER, _mah(size, board, wakes))


def _kept(release: Release, name: str) -> bool:
    return any(name.startswith(prefix) for prefix in release.keep)


def _lines(manifest: str) -> dict[str, tuple[int, str]]:
    """name -> (bytes, digest) of a manifest's files."""
    found = {}
    for line in manifest.splitlines()[1:]:
        size, digest, name = line.split(" ", 2)
        found[name] = (int(size), digest)
    return found


def _mah(size: int, board: Board | None, wakes: Iterable[dict[str, Any]]) -> float | None:
    """One wake more, that of the trial, and the flash of the whole release, with the radio on."""
    if board is None:
        return None
    try:
        ma = {state: found[0] for state, found in energy.currents(board, ()).items()}
        told = energy.reported(wakes)
    except HostError:
        return None
    spent, _ = energy.computing(board.times, {}, boot=told["boot"])
    written = -(-size // BLOCK) * _ERASE + -(-size // 256) * _PROGRAM
    trial = energy.of_wake(ma, spent, join=told["join"], online=told["online"], flash=written, sent=told["sent"])
    return trial.mas / 3600
