"""The judge of updates: what runs on a device, and what the ledger says of it.

Must stay true: it shares no code with agent, relay or ledger; it knows what lies in the slot that a board has started,
and reads the ledger by SQL of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proofs.years.oracle import Broken
from proofs.years.releases import BASE, Made

_BOOTS = 3  # of a release that does not run
_OVER = ("stopped", "done", "aborted")


class Updates:
    """`ask(sql, arguments)` reads the ledger."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask
        self._made: dict[str, Made] = {}  # by the ledger's name of it
        self._known: dict[str, set[Made]] = {}  # by device, what was ordered for it
        self._runs: dict[str, tuple[Made, int]] = {}  # by device, and how many boots in a row
        self._ran: set[tuple[str, Made]] = set()
        self._waves: dict[Made, dict[str, int]] = {}  # of a rollout's devices, from 1
        self._seen: set[str] = set()
        self._wiped: set[str] = set()
        self._restored = False

    @property
    def ordered_any(self) -> bool:
        """Has anybody ordered one?"""
        return bool(self._made)

    # ---- what happens

    def ordered(self, devices: Sequence[str], release: str, made: Made) -> None:
        """An update, or a rollout, entered the ledger."""
        self._made[release] = made
        for device in devices:
            self._known.setdefault(device, set()).add(made)

    def rolled_out(self, devices: Sequence[str], waves: Sequence[int], made: Made) -> None:
        """A rollout of a release that nobody orders otherwise."""
        self._waves[made] = {
            device: next(n for n, count in enumerate(waves, 1) if at < count) for at, device in enumerate(devices)
        }

    def wiped(self, device: str) -> None:
        """A device's flash was wiped, and flashed anew."""
        self._wiped.add(device)
        self._runs.pop(device, None)

    def went_back(self) -> None:
        """The ledger is an older copy of itself."""
        self._restored = True
        self._seen.clear()

    def begins(self, device: str, files: Mapping[str, bytes]) -> str:
        """The program of this slot begins. Returns its manner."""
        possible = (BASE, *self._known.get(device, ()))
        made = next((made for made in possible if made.files == files), None)
        if made is None:
            raise Broken(f"3: {device} starts a slot with {sorted(files)}, which is no release")
        before, boots = self._runs.get(device, (made, 0))
        boots = boots + 1 if before == made else 1
        self._runs[device] = made, boots
        self._ran.add((device, made))
        if made.manner and boots > _BOOTS:
            raise Broken(f"3: {device} has started {made} {boots} times")
        if made.manner and self._waves.get(made, {}).get(device, 1) > 1 and not self._restored:
            raise Broken(f"5: {made} has reached {device}, of its wave {self._waves[made][device]}")
        return str(made.manner)

    # ---- what is judged

    def look(self) -> None:
        """What the ledger says of those that are over."""
        if not self._made:
            return
        for name, device, release, status, why in self._ask(
            "SELECT name, device, release, status, why FROM updates WHERE open = 0"
        ):
            if name in self._seen:
                continue
            self._seen.add(name)
            made = self._made[release]
            what = f"the update of {device} to {made} is {status} ({why})"
            if status == "succeeded" and (made.manner or (device, made) not in self._ran):
                raise Broken(f"5: {what}")
            if status == "failed" and not why:
                raise Broken(f"5: {what}: it does not say why")
            if status == "failed" and "is damaged" in why:  # nothing here changes what is on its way
                raise Broken(f"5: {what}")
            unknown = status == "failed" and "knows nothing" in why
            if unknown and not (self._restored or device in self._wiped):
                raise Broken(f"5: {what}")

    def settled(self) -> None:
        """Everything has had its time: each is over, and what the ledger takes for running runs."""
        for name, status in self._ask("SELECT name, status FROM rollouts"):
            if status not in _OVER:
                raise Broken(f"1: rollout {name} is {status} for ever")
        if not self._made:
            return
        self.look()
        for device, status, release in self._ask("SELECT device, status, release FROM updates WHERE open = 1"):
            raise Broken(f"1: the update of {device} to {self._made[release]} is {status} for ever")
        if not self._restored:
            for device in self._known.keys() - self._wiped:
                self._compare(device)

    def _compare(self, device: str) -> None:
        query = (
            'SELECT u.release FROM updates u JOIN update_events e ON e."update" = u.key'
            " WHERE u.device = ? AND u.status = 'succeeded' AND e.status = 'succeeded' ORDER BY e.key DESC"
        )
        kept = self._ask(query, (device,))
        told = self._made[kept[0][0]] if kept else BASE
        runs = self._runs[device][0] if device in self._runs else BASE
        if told != runs:
            raise Broken(f"5: the ledger takes {told} for running on {device}, where {runs} does")
