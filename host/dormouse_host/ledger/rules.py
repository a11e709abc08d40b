"""What a command's life obeys: which may be published, which is missing, what an answer or an end record means.

Must stay true: pure decisions on rows, with no database, clock or network; each is a rule of docs/design.md and of
the model that was tried with seeded faults. A window settles nothing, it only makes the host ask; what the host sent
and no answer settled is never called cancelled or expired by the host alone.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dormouse import codec, protocol

QUEUED, PUBLISHING, SENT, DELIVERED = "queued", "publishing", "sent", "delivered"
FINAL = (*protocol.FINAL, protocol.UNKNOWN)
FORGET = "forget_ledger"
FORGOTTEN = "its ledger is forgotten"  # why a device refuses a command of a name that it has forgotten


@dataclass(slots=True)
class Row:
    """One command. The columns are explained in schema.py; the second half is what a rule may change."""

    key: int
    name: str
    device: str
    ledger: str
    number: int
    do: str
    args: str | None
    expires: int | None
    after: str | None
    state: str | None = None
    status: str = QUEUED
    provisional: bool = False
    never_published: bool = False
    claimed: int = 0
    relay: str | None = None
    session: str | None = None
    puback: int = 0
    wake: int = -1
    republish: bool = False
    void: str | None = None
    published: int = 0
    value: str | None = None
    why: str | None = None
    settled: float | None = None

    @property
    def final(self) -> bool:
        """Is there nothing left to wait for?"""
        return self.status in FINAL

    @property
    def waits(self) -> bool:
        """Is there something to publish, as far as this row alone is concerned?"""
        return not self.final and (self.republish or not self.claimed)


@dataclass(frozen=True)
class Window:
    """What a device remembers of one ledger: the highest number, and the statuses from there downward."""

    high: int
    statuses: tuple[str | None, ...]

    def status(self, number: int) -> str | None:
        """None: never seen, or not in the window any more."""
        at = self.high - number
        return self.statuses[at] if 0 <= at < len(self.statuses) else None


@dataclass(frozen=True)
class End:
    """An end record."""

    wake: int
    state: str
    present: bool
    drained: bool
    fence_dead: bool
    acked: int
    windows: dict[str, Window] = field(default_factory=dict)
    update: dict[str, Any] | None = None  # how the update of this device stands


@dataclass(frozen=True)
class Heard:
    """What was heard of a state when an end record is judged.

    `reports`: the seqs of its reports up to the end record's wake; `began`: that of the report of this very wake,
    None where it never came.
    """

    reports: tuple[int, ...]
    began: int | None


def wire_id(row: Row, state: str) -> str:
    """`<state>-<ledger>.<number>`."""
    return f"{state}-{row.ledger}.{row.number}"


def payload(row: Row, state: str, void: str | None) -> bytes:
    """The bytes of a command, or of its tombstone: always the same for the same row, and never those of another: an
    older copy of this ledger gives the same number again.
    """
    head = b'{"id":"%s","u":"%s"' % (wire_id(row, state).encode(), row.name.encode())
    if void:
        return head + b',"void":"%s"}' % void.encode()
    body = b',"do":%s' % codec.encode(row.do)
    if row.args is not None:
        body += b',"args":' + row.args.encode()
    if row.expires is not None:
        body += b',"exp":%d' % row.expires
    return head + body + b"}"


def ours(row: Row, state: str, crc: int) -> bool:
    """Is this the CRC-32 of bytes that this ledger sends for this command?"""
    return any(crc32(payload(row, state, void)) == crc for void in (None, protocol.CANCELLED, protocol.EXPIRED))


def withdraw(row: Row, why: str) -> None:
    """Cancel it, or let it expire: at once while it was never published, else by a tombstone."""
    if row.final:
        return
    if not row.claimed:
        row.status, row.provisional, row.never_published = why, True, True
    elif not row.void:
        row.void, row.republish = why, True


def publishable(rows: Iterable[Row], settled: frozenset[str] | set[str], window: int) -> Iterator[Row]:
    """Of a device's open rows, in their order, those that may go now. `settled`: names of what others wait for."""
    lowest: dict[str, int] = {}
    rows = [row for row in rows if not row.final]
    for row in rows:
        lowest[row.ledger] = min(lowest.get(row.ledger, row.number), row.number)
    for row in rows:
        if not row.waits:
            continue
        if row.do != FORGET and row.number - lowest[row.ledger] >= window:
            continue
        if row.after and not row.claimed and row.after not in settled:
            continue
        yield row


def claim(row: Row, seq: int, relay: str, session: str, state: str) -> None:
    """It is about to be published: committed before the first byte leaves. What was published of it before says nothing
    of this publish: it is missing by its own PUBACK, or by its own age.
    """
    row.claimed, row.puback = seq, 0
    row.state = row.state or state
    row.relay, row.session, row.republish = relay, session, False
    row.published += 1
    if row.status == QUEUED:
        row.status = PUBLISHING


def acknowledged(row: Row, times: int, seq: int) -> None:
    """The PUBACK to publish number `times`: not a proof, but what the rule for missing commands counts from."""
    if row.published == times:
        row.puback = seq
    if row.status == PUBLISHING:
        row.status = SENT


def refused(row: Row, times: int) -> None:
    """A PUBACK with an error reason to publish number `times`: not sent, and no connection holds it any more."""
    if row.published == times:
        row.session = None


def settle(row: Row, status: str, *, provisional: bool = False) -> bool:
    """A final status, unless a better one is known. A late answer wins over a guess. Did it change anything?"""
    if row.final and not row.provisional:
        return False
    before = row.status, row.provisional
    row.status, row.provisional = status, provisional
    return before != (status, provisional)


def other_state(row: Row, state: str) -> None:
    """The device has another state now: what was open under the old one nobody will ever learn."""
    if row.state is not None and row.state != state and not row.final:
        settle(row, protocol.UNKNOWN, provisional=True)


def back(row: Row) -> None:
    """The device has the state after all under which this was given up: publish it again, its number is known there."""
    if row.claimed:
        row.status, row.provisional, row.republish, row.why = SENT, False, True, None
    else:
        row.status, row.provisional, row.why = QUEUED, False, None


def restored(row: Row) -> None:
    """The ledger is an older copy of itself, said outright: hours that it does not know of may have published this."""
    if not row.final:
        row.status, row.provisional = protocol.UNKNOWN, True
        row.never_published = row.never_published or not row.claimed


def needs_heard(row: Row, end: End) -> bool:
    """May it be missing by this end record, so that `judge` asks what was heard before?"""
    window = end.windows.get(row.ledger)
    unseen = window is None or window.status(row.number) is None
    return unseen and row.claimed > 0 and not row.final and row.wake < end.wake


def judge(row: Row, end: End, heard: Heard, session: str | None, seq: int) -> None:
    """What an end record says about one command of its state. `session`: the connection of the relay that asks."""
    window = end.windows.get(row.ledger)
    status = window.status(row.number) if window else None
    reopens = row.provisional and (row.claimed or row.never_published)
    if row.wake >= end.wake or (row.final and not reopens):
        return
    if status in protocol.FINAL or (status and row.final):
        if row.final:  # a guess, and the device knows better
            row.status, row.provisional, row.claimed = SENT, False, row.claimed or seq
            row.state = row.state or end.state
        if row.claimed:
            row.wake, row.republish = end.wake, True
    elif status == protocol.OPEN and row.claimed:
        row.status = DELIVERED
    elif status is None and row.claimed and not row.final and _missing(row, end, heard, session):
        row.wake, row.republish = end.wake, True


def _missing(row: Row, end: End, heard: Heard, session: str | None) -> bool:
    since = row.puback or row.claimed
    if not end.present and (heard.began is None or since < heard.began):
        return True
    later = sum(seq > since for seq in heard.reports)
    if row.puback:
        return later >= 1 and (end.drained or end.fence_dead)
    return later >= 2 and row.session != session
