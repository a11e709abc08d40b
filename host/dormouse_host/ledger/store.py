"""A ledger: each of its methods is one transaction.

A method that returned has committed; one that raised has changed nothing. The clock is an argument of the constructor;
no method sleeps, but for `prune` between its transactions.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import delete, insert, select, update

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import probes
from dormouse_host.errors import HostError
from dormouse_host.ledger import (
    already,
    entry,
    inbound,
    keys,
    messages,
    outbound,
    pruning,
    rows,
    rules,
    schema,
    strangers,
    telemetry,
    transfer,
)
from dormouse_host.ledger.contention import retried
from dormouse_host.ledger.database import Database, Unstorable
from dormouse_host.ledger.desk import DeskLedger
from dormouse_host.ledger.entry import Order, all_devices, unknown_device, unknown_group
from dormouse_host.ledger.hearing import Hearing
from dormouse_host.ledger.outbound import Ack, Outgoing, RelayView
from dormouse_host.ledger.queries import CommandView, Queries, find_command
from dormouse_host.ledger.sending import Sending
from dormouse_host.ledger.strangers import Strangers

_SHOWN = 80  # characters of a topic's parts in a line of what is wrong
_TURN = 0.1  # seconds that others have at most between two slices of a pruning: as long as the slice took
_HEARD_AT_ONCE = 100  # devices whose open commands are in memory at a time
_AT_ONCE = 100  # devices in one transaction of `restored`: a relay that works on has its turn between two


@dataclass(frozen=True)
class Incoming:
    """One message from a device, as it came."""

    device: str
    leaf: str
    payload: bytes
    retained: bool = False


Legible = tuple[Incoming, messages.Said]


class Ledger(Sending, DeskLedger, Queries):
    """An open ledger. A context manager."""

    def __init__(self, where: str | None = None, clock: Callable[[], float] = time.time, *, make: bool = True) -> None:
        """`where`: a file's path or a URL; without, this user's ledger. `make`: as Database's."""
        self._clock = clock
        self.database = Database(where, make=make)
        super().__init__(self.database.reading)
        self._writing = self.database.writing

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- devices

    @retried
    def add_devices(self, devices: Collection[str]) -> int:
        """Register devices. Returns how many were new."""
        with self._writing() as c:
            new = rows.insert_devices(c, devices, self._clock())
            strangers.forget(c, devices)
            return new

    @retried
    def remove_device(self, device: str) -> None:
        """Forget a device: its open commands are unknown, what came from it stays."""
        with self._writing() as c:
            if rows.lock(c, device) is None:
                raise unknown_device(device, all_devices(c))
            found = rows.load(c, rows.commands.device == device, rows.commands.open)
            changes = rows.Changes(found)
            for row in found:
                rules.settle(row, protocol.UNKNOWN, provisional=True)
                row.why = "its device was removed"
            changes.save(c, self._clock())
            c.execute(delete(schema.groups).where(schema.groups.c.device == device))
            keys.remove(c, device)
            c.execute(delete(schema.states_left).where(schema.states_left.c.device == device))
            c.execute(delete(schema.devices).where(schema.devices.c.id == device))
            strangers.remove(c, device, self._clock())

    @retried
    def set_revoked(self, devices: Collection[str], *, revoked: bool) -> None:
        """The credentials of these devices, of those that are known, were revoked, or are new."""
        with self._writing() as c:
            for some in rows.chunks(rows.lock_all(c, set(devices))):
                at = self._clock() if revoked else None
                c.execute(update(schema.devices).where(schema.devices.c.id.in_(some)).values(revoked=at))

    @retried
    def set_key(self, device: str, key: str | None) -> None:
        """The key (64 hex digits) that this device and the ledger sign with; None: neither signs any more."""
        with self._writing() as c:
            if rows.lock(c, device) is None:
                raise unknown_device(device, all_devices(c))
            keys.remove(c, device) if key is None else keys.put(c, device, key)

    @retried
    def set_group(self, group: str, devices: Sequence[str], *, keep: bool = False) -> None:
        """The devices of a group from now on, `keep`: beside those that it has; none of them dissolves it."""
        with self._writing() as c:
            rows.lock_name(c, f"group {group}")
            before = set(c.execute(select(schema.groups.c.device).where(schema.groups.c.name == group)).scalars())
            missing = set(devices) - rows.lock_all(c, {*devices, *before}).keys()
            if missing:
                raise unknown_device(min(missing), all_devices(c))
            if not devices and not before:
                raise unknown_group(group)
            if not keep:
                c.execute(delete(schema.groups).where(schema.groups.c.name == group))
            new = set(devices) - before if keep else set(devices)
            if new:
                c.execute(insert(schema.groups), [{"name": group, "device": device} for device in new])

    # ---- commands

    @retried
    def enter(self, orders: Sequence[Order], *, create: bool = False, batch: str | None = None) -> list[str]:
        """Enter commands, all or none, if need be with their devices. Returns their names, in the same order. `batch`:
        the name under which they are found together (entry.command_name).
        """
        if not orders:
            return []
        with self._writing() as c:
            devices = {order.device for order in orders}
            if create:
                rows.insert_devices(c, devices, self._clock())
            for after in {order.after for order in orders if order.after}:
                if find_command(c, after) is None:
                    raise HostError(f"no command {after} to wait for", 2)
            names = entry.enter(c, orders, self._clock(), batch)
            if create:
                strangers.forget(c, devices)
            return names

    @retried
    def cancel(self, command: str) -> CommandView:
        """Cancel a command, or have it cancelled by the device; what is settled stays as it is."""
        with self._writing() as c:
            entry.cancel(c, command, self._clock())
            found = find_command(c, command)
        if found is None:
            raise HostError(f"no command {command}", 2)
        return found

    @retried
    def cancel_all(self, names: Sequence[str]) -> None:
        """The same of rows.CHUNK commands at most, all or none."""
        with self._writing() as c:
            entry.cancel_all(c, names, self._clock())

    # ---- the ledger itself

    def back_up(self, target: Path) -> None:
        """A consistent copy in a new file."""
        self.database.back_up(target)

    @retried
    def write_out(self, target: Path) -> Counter[str]:
        """Write all of it to a new file; this ledger takes nothing more. Returns the rows of each table."""
        return transfer.write_out(self.database, target, self._clock())

    def read_in(self, source: Path) -> Counter[str]:
        """Read such a file into this ledger, which is empty. Returns the rows of each table."""
        return transfer.read_in(self.database, source)

    def reopen(self) -> bool:
        """Have it take commands again after `write_out`. Was it written out?"""
        return transfer.reopen(self.database)

    def restored(self) -> tuple[int, int]:
        """This is an older copy: take new names with all devices, some at a time. Returns how many these are, and how
        many commands are unknown by that.
        """
        with self._reading() as c:
            devices = entry.named(c)
        return len(devices), sum(self._restored(devices[at : at + _AT_ONCE]) for at in range(0, len(devices), _AT_ONCE))

    @retried
    def _restored(self, devices: Sequence[str]) -> int:
        with self._writing() as c:
            return entry.restored(c, devices, self._clock())

    def prune(self, before: float, *, dry: bool, on_progress: Callable[[int, int], object]) -> Counter[str]:
        """Delete what is older and of no use any more, a slice at a time. `dry`: only count it."""
        pruned: Counter[str] = Counter(dict.fromkeys(pruning.COUNTED, 0))
        work = pruning.Pruning(before)
        while kind := work.kind:
            with self._reading() as c:
                chosen = work.look(c)
            count = len(chosen)
            if chosen and not dry:
                began = time.monotonic()
                count = self._delete(work, chosen)
                time.sleep(min(_TURN, time.monotonic() - began))
            if kind in pruned:
                pruned[kind] += count
            work.step()
            on_progress(work.done, pruning.STEPS)
        return pruned

    @retried
    def _delete(self, work: pruning.Pruning, chosen: Sequence[Any]) -> int:
        with self._writing() as c:
            return work.delete(c, chosen)

    def relays(self) -> list[RelayView]:
        """The relays that have worked on this ledger and were not stopped in order."""
        with self._reading() as c:
            return outbound.relay_views(c, self._clock())

    @retried
    def forget_relay(self, relay: str) -> None:
        """A relay that will not come back: others may have its devices. HostError where it is alive."""
        with self._writing() as c:
            outbound.forget_relay(c, relay, self._clock())

    # ---- for the relay

    @retried
    def register(self, relay: str) -> str:
        """Be the only live relay of this name. Returns what proves it; HostError where another is."""
        with self._writing() as c:
            return outbound.register(c, relay, self._clock())

    @retried
    def keep_alive(self, relay: str, instance: str) -> bool:
        """A sign of life. False where another relay has taken the name."""
        with self._writing() as c:
            return outbound.keep_alive(c, relay, instance, self._clock())

    @retried
    def release(self, relay: str, instance: str) -> None:
        """This relay ends. Nothing where another has taken its name."""
        with self._writing() as c:
            outbound.release(c, relay, instance)

    def strangers(self) -> Strangers:
        """Ids that have sent something and are no devices."""
        with self._reading() as c:
            return strangers.found(c)

    @retried
    def take(self, incoming: Sequence[Incoming], session: str | None, *, accept_new: bool = True) -> list[str]:
        """Store messages of devices, all in one transaction. Returns what was wrong with what is not legible, and is no
        probe of `dormouse broker check`.

        `accept_new`: ids that are not registered become devices; without it their messages are counted and not stored.
        """
        now = self._clock()
        wrong, legible = [], []
        with self._reading() as c:
            signatures = keys.Signatures(c, {message.device for message in incoming})
        for message in sorted(incoming, key=lambda message: message.device):
            try:
                said = _read(message, signatures)
            except ValueError as error:
                if not probes.is_probe(message.payload):
                    wrong.append(f"{message.device[:_SHOWN]}/{message.leaf[:_SHOWN]}: {error}")
                continue
            if said is None:
                continue
            legible.append((message, said))
            if isinstance(said, messages.Results | messages.Telemetry) and said.wrong:
                wrong.append(f"{message.device}/{message.leaf}: {said.wrong}")
        try:
            new = self._hear(legible, signatures, session, now, accept_new)
        except Unstorable as error:
            if len(legible) == 1:
                message = legible[0][0]
                return [*wrong, f"{message.device}/{message.leaf}: {error}"]
            for one in legible:  # by itself, so that it costs none of the others
                wrong += self.take([one[0]], session, accept_new=accept_new)
            return wrong
        return wrong + [f"{name} is not registered: dormouse devices add {name}" for name in new]

    def _hear(
        self,
        legible: Sequence[Legible],
        signatures: keys.Signatures,
        session: str | None,
        now: float,
        accept_new: bool,
    ) -> list[str]:
        """Store them. Returns the ids of strangers that are named from now on."""
        if not legible:
            return []
        with self._writing() as c:
            names = (message.device for message, _ in legible)
            devices = inbound.known(c, names, signatures.known, len(legible), now, accept_new=accept_new)
            signatures.save(c)
            others = Counter(message.device for message, _ in legible if message.device not in devices)
            new = strangers.count(c, others, now) if others else []
            hearing = Hearing(c, now)
            for some in _by_devices([one for one in legible if one[0].device in devices]):
                hearing.expect((devices[message.device], said) for message, said in some)
                for message, said in some:
                    device = devices[message.device]
                    inbound.hear(hearing, device, said, session, retained=message.retained)
                    device.seq += 1
                telemetry.look_at_tails(hearing, devices)
                hearing.enter(devices)
            hearing.write()
        return new

    def stored(self, incoming: Sequence[Incoming]) -> list[bool | None]:
        """Is each of these messages stored already, so that to `take` it changes nothing? None: that cannot be told."""
        several = [
            (message.device, already.keys_of(message.device, message.leaf, message.payload)) for message in incoming
        ]
        with self._reading() as c:
            return already.stored(c, several)

    @retried
    def claim(self, relay: str, session: str, room: int, window: int = protocol.WINDOW) -> list[Outgoing]:
        """At most `room` commands to publish now, marked as publishing."""
        now = self._clock()
        with self._reading() as c:
            overdue, due = outbound.waiting(c, relay, now)
        if overdue:
            with self._writing() as c:  # by itself: each transaction locks its devices in one order
                outbound.expire(c, now)
        elif not due:
            return []
        with self._writing() as c:
            return outbound.claim(c, relay, session, now, room, window)

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """The broker's PUBACKs, so many in one transaction: again is harmless."""
        for some in rows.chunks(acks):
            self._acknowledged(some)

    @retried
    def _acknowledged(self, acks: Sequence[Ack]) -> None:
        with self._writing() as c:
            outbound.acknowledged(c, acks, self._clock())


def _by_devices(legible: Sequence[Legible]) -> Iterator[list[Legible]]:
    """Messages in the order of their devices, in pieces of so many devices."""
    every = itertools.groupby(legible, key=lambda one: one[0].device)
    while several := [one for _, of_device in itertools.islice(every, _HEARD_AT_ONCE) for one in of_device]:
        yield several


def _read(message: Incoming, signatures: keys.Signatures) -> messages.Said | None:
    """What a message says; None where it is empty, with which one clears what the broker has retained; ValueError where
    it is nothing legible.
    """
    try:
        protocol.check_device_id(message.device)
    except ConfigError as error:
        raise ValueError(error.reason) from None
    if message.leaf not in messages.READ:
        raise ValueError("nothing is known of this topic")
    payload = signatures.checked(message.device, message.leaf, message.payload)
    return messages.READ[message.leaf](payload) if payload else None
