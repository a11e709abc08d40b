"""What one transaction knows of the devices that it hears: read for all of them at once, and written for all at once.

Must stay true: the devices are locked, so that nobody else changes what is read here; what is asked for is answered by
what the database has and what was noted since; whoever writes by himself does it inside `aside`, before which all that
was noted is written, and after which nothing that was read of that device before is used but to note its changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, Update, bindparam, insert, select, update

from dormouse import protocol
from dormouse_host.ledger import entry, given, messages, rows, schema
from dormouse_host.ledger.entry import Order
from dormouse_host.ledger.messages import Report, Said, Telemetry
from dormouse_host.ledger.rows import Device, Writes, commands, devices
from dormouse_host.ledger.rules import End, Heard, Row, Window

ends, streams, reports = schema.ends.c, schema.telemetry_streams.c, schema.reports.c
numbers, ledger_names = schema.numbers.c, schema.ledger_names.c
# Made once: SQLAlchemy takes longer to build a statement than SQLite to execute it.
_OPEN = rows.query(commands.device.in_(rows.some("names")), commands.open)
_NUMBERED = rows.query(
    commands.device == bindparam("device"),
    commands.ledger == bindparam("ledger"),
    commands.number.in_(rows.some("numbers")),
)
_GIVEN = (
    select(ledger_names.device, ledger_names.name, numbers.number)
    .select_from(
        schema.ledger_names.outerjoin(
            schema.numbers, (numbers.ledger == ledger_names.name) & (numbers.device == ledger_names.device)
        )
    )
    .where(ledger_names.device.in_(rows.some("names")))
)
_HEARD = select(reports.seq).where(
    reports.device == bindparam("device"), reports.state == bindparam("state"), reports.wake == bindparam("wake")
)
_LATEST = 2  # reports before an end record that a rule looks at
_NEW_END = insert(schema.ends)
_REPEATED = (
    update(schema.ends)
    .where(ends.device == bindparam("its_device"), ends.state == bindparam("its_state"))
    .where(ends.wake == bindparam("its_wake"))
    .values(repeated=True)
)


@cache
def _provisional(dialect: str) -> Select[Any]:
    """Commands in given spans of numbers that are final by a guess."""
    device, ledger, low, high = given.columns(dialect, str, str, int, int)
    span = (commands.number > low, commands.number <= high)
    return rows.query(commands.device == device, commands.ledger == ledger, *span, commands.provisional)


@cache
def _ends(dialect: str) -> Select[Any]:
    """Those of given end records that are stored."""
    device, state, wake = given.columns(dialect, str, str, int)
    found = select(ends.device, ends.state, ends.wake, ends.repeated)
    return found.where(ends.device == device, ends.state == state, ends.wake == wake)


@cache
def _streams(dialect: str) -> Select[Any]:
    """How far given streams of telemetry are whole."""
    device, state = given.columns(dialect, str, str)
    found = select(streams.device, streams.state, streams.whole)
    return found.where(streams.device == device, streams.state == state)


@cache
def _before(dialect: str) -> Select[Any]:
    """Given end records, and the seqs of the reports of their states: of that very wake, and of the last up to it."""
    device, state, wake = given.columns(dialect, str, str, int)
    of_state = select(reports.seq).where(reports.device == device, reports.state == state)
    up_to = of_state.where(reports.wake <= wake).order_by(reports.seq.desc()).limit(1)
    latest = (up_to.offset(at).scalar_subquery() for at in range(_LATEST))
    return select(device, state, wake, of_state.where(reports.wake == wake).scalar_subquery(), *latest)


@cache
def _set_device(names: tuple[str, ...]) -> Update:
    """Sets these columns of one device."""
    new: dict[str, BindParameter[Any]] = {name: bindparam(f"new_{name}") for name in names}
    return update(schema.devices).where(devices.id == bindparam("its_id")).values(new)


@dataclass
class _Known:
    """What was read of one device."""

    rows: dict[int, Row] = field(default_factory=dict)  # key -> a command: all that are open, and others
    asked: bool = False  # are those that are open read?
    windows: set[tuple[str, int]] = field(default_factory=set)  # whose provisional commands are among `rows`
    ends: dict[tuple[str, int], bool | None] = field(default_factory=dict)  # repeated? None where it is not stored
    before: dict[tuple[str, int], Heard] = field(default_factory=dict)  # an end record, and the reports before it
    new: list[tuple[str, int, int]] = field(default_factory=list)  # state, wake and seq of reports that came since
    whole: dict[str, int] = field(default_factory=dict)  # state -> up to where its telemetry is
    name: tuple[str, int] | None = None  # the ledger's, and the last number given under it
    named: bool = False  # is `name` read?


class Hearing:
    """The messages of some locked devices, in one transaction at the time `now`."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection, self.now = connection, now
        self.writes = Writes()
        self.orders: list[Order] = []  # commands that the ledger has for them by itself
        self.tails: dict[tuple[str, str], int] = {}  # device and state -> up to where telemetry was acknowledged to it
        self._known: dict[str, _Known] = {}
        self._new_reports: list[dict[str, Any]] = []
        self._new_results: list[dict[str, Any]] = []
        self._new_records: list[dict[str, Any]] = []
        self._new_ends: list[dict[str, Any]] = []
        self._repeated: list[dict[str, Any]] = []
        self._devices: dict[str, dict[str, Any]] = defaultdict(dict)
        self._due: set[str] = set()

    # ---- reading

    def expect(self, said: Iterable[tuple[Device, Said]]) -> None:
        """Read what these messages will ask for, instead of what was read before."""
        known: dict[str, _Known] = {}
        asking, records, telemetry = set(), [], []
        for device, message in said:
            known[device.id] = _Known()
            if isinstance(message, Telemetry):
                telemetry.append((device.id, message.state))
                continue
            asking.add(device.id)
            record = message.end if isinstance(message, Report) else message if isinstance(message, End) else None
            if record:
                records.append((device.id, record))
                if record.acked and isinstance(message, Report):
                    telemetry.append((device.id, record.state))
        self.write()
        self._known = known
        self._read_open(sorted(asking))
        self._read_names(sorted({device for device, record in records if record.windows}))
        self._read_ends((device, record.state, record.wake) for device, record in records)
        self._read_windows(
            (device, ledger, window.high) for device, record in records for ledger, window in record.windows.items()
        )
        self._read_streams(telemetry)

    def _read_open(self, names: Sequence[str]) -> None:
        for device in names:
            self._known[device].asked = True
        if names:
            for row in rows.run(self.connection, _OPEN, names=names):
                self._known[row.device].rows[row.key] = row

    def _read_names(self, names: Sequence[str]) -> None:
        for device in names:
            self._known[device].named = True
        if names:
            for device, name, number in self.connection.execute(_GIVEN, {"names": names}):
                self._known[device].name = name, number or 0

    def _read_ends(self, wanted: Iterable[tuple[str, str, int]]) -> None:
        keys = sorted(set(wanted))
        for device, state, wake in keys:
            self._known[device].ends[state, wake] = None
        if keys:
            query = _ends(self.connection.dialect.name)
            for device, state, wake, repeated in self.connection.execute(query, given.values(keys)):
                self._known[device].ends[state, wake] = repeated

    def _read_windows(self, wanted: Iterable[tuple[str, str, int]]) -> None:
        windows = sorted(set(wanted))
        for device, ledger, high in windows:
            self._known[device].windows.add((ledger, high))
        if windows:
            spans = [(device, ledger, high - protocol.WINDOW, high) for device, ledger, high in windows]
            for row in rows.run(self.connection, _provisional(self.connection.dialect.name), **given.values(spans)):
                self._known[row.device].rows.setdefault(row.key, row)

    def _read_streams(self, wanted: Iterable[tuple[str, str]]) -> None:
        keys = sorted(set(wanted))
        for device, state in keys:
            self._known[device].whole[state] = 0
        if keys:
            query = _streams(self.connection.dialect.name)
            for device, state, whole in self.connection.execute(query, given.values(keys)):
                self._known[device].whole[state] = whole

    def _of(self, device: Device) -> _Known:
        if device.id not in self._known:  # somebody has written by himself
            self.write()
            self._known[device.id] = _Known()
        return self._known[device.id]

    def _rows_of(self, device: Device) -> dict[int, Row]:
        known = self._of(device)
        if not known.asked:
            self._read_open([device.id])
        return known.rows

    def open(self, device: Device) -> list[Row]:
        """Its commands that are not final."""
        return [row for row in self._rows_of(device).values() if not row.final]

    def numbered(self, device: Device, ledger: str, numbers: Iterable[int]) -> dict[int, Row]:
        """Its commands of these numbers, where there are any."""
        known = self._rows_of(device)
        wanted = set(numbers)
        found = {row.number: row for row in known.values() if row.ledger == ledger and row.number in wanted}
        if missing := sorted(wanted - found.keys()):
            of_ledger = {"device": device.id, "ledger": ledger, "numbers": missing}
            for row in rows.run(self.connection, _NUMBERED, **of_ledger):
                found[row.number] = known[row.key] = row
        return found

    def guessed(self, device: Device, ledger: str, window: Window) -> list[Row]:
        """Its commands in this window that are final by a guess."""
        every = self._rows_of(device)
        if (ledger, window.high) not in self._of(device).windows:
            self._read_windows([(device.id, ledger, window.high)])
        low = window.high - protocol.WINDOW
        return [
            row
            for row in every.values()
            if row.provisional and row.final and row.ledger == ledger and low < row.number <= window.high
        ]

    def name(self, device: Device) -> tuple[str, int] | None:
        """The ledger's name for it, and the last number given under that."""
        known = self._of(device)
        if not known.named:
            self._read_names([device.id])
        return known.name

    def ended(self, device: Device, record: End) -> bool | None:
        """Was this end record repeated? None where it is not stored."""
        known = self._of(device).ends
        if (record.state, record.wake) not in known:
            self._read_ends([(device.id, record.state, record.wake)])
        return known[record.state, record.wake]

    def whole(self, device: Device, state: str) -> int:
        """Up to where its telemetry of this state is stored, or counted as dropped."""
        known = self._of(device).whole
        if state not in known:
            self._read_streams([(device.id, state)])
        return known[state]

    def heard(self, device: Device, state: str, wake: int) -> bool:
        """Is the report of this wake stored?"""
        key = {"device": device.id, "state": state, "wake": wake}
        if any(key.items() <= report.items() for report in self._new_reports):
            return True
        return self.connection.execute(_HEARD, key).first() is not None

    def reports(self, device: Device, record: End) -> Heard:
        """The reports of its state before this end record."""
        known = self._of(device)
        if (record.state, record.wake) not in known.before:
            self._read_before()
        found = known.before[record.state, record.wake]
        new = [(wake, seq) for state, wake, seq in known.new if state == record.state and wake <= record.wake]
        seqs = sorted({*found.reports, *(seq for _, seq in new)}, reverse=True)[:_LATEST]
        began = next((seq for wake, seq in new if wake == record.wake), found.began)
        return Heard(tuple(seqs), began)

    def _read_before(self) -> None:
        """For all end records that are known of: mostly nobody asks."""
        keys = [
            (device, *ended)
            for device, known in self._known.items()
            for ended in known.ends
            if ended not in known.before
        ]
        query = _before(self.connection.dialect.name)
        for device, state, wake, began, *latest in self.connection.execute(query, given.values(keys)):
            seqs = tuple(seq for seq in latest if seq is not None)
            self._known[device].before[state, wake] = Heard(seqs, began)

    # ---- noting

    def report(self, device: Device, said: Report) -> None:
        """Store a report."""
        self._of(device).new.append((said.state, said.wake, device.seq))
        key = {"device": device.id, "state": said.state, "wake": said.wake}
        self._new_reports.append({**key, "seq": device.seq, "at": self.now, "report": said.text})

    def results(self, found: Iterable[dict[str, Any]]) -> None:
        """Store answers, each once."""
        self._new_results += found

    def records(self, found: Iterable[dict[str, Any]]) -> None:
        """Store telemetry, each record once."""
        self._new_records += found

    def end(self, device: Device, record: End, *, repeated: bool) -> None:
        """Store an end record, which is not stored yet."""
        self._of(device).ends[record.state, record.wake] = repeated
        windows = {name: window.high for name, window in record.windows.items()}
        said = {"present": record.present, "drained": record.drained, "acked": record.acked, "windows": windows}
        key = {"device": device.id, "state": record.state, "wake": record.wake}
        self._new_ends.append({**key, "at": self.now, "repeated": repeated, "record": messages.dump(said)})

    def repeat(self, device: Device, record: End) -> None:
        """A stored end record has come again in a report."""
        self._of(device).ends[record.state, record.wake] = True
        self._repeated.append({"its_device": device.id, "its_state": record.state, "its_wake": record.wake})

    def set(self, device: Device, columns: Mapping[str, Any]) -> None:
        """Set columns of the device."""
        self._devices[device.id].update(columns)

    def make_due(self, device: Device) -> None:
        """The relay is to look at it."""
        self._due.add(device.id)

    def look(self, device: Device) -> None:
        """The same, if something of it waits to be published: it may go now."""
        if any(row.waits for row in self.open(device)):
            self.make_due(device)

    def asks(self, device: Device, do: str) -> bool:
        """Is a command of this name open for it, or about to be entered?"""
        ordered = any(order.device == device.id and order.do == do for order in self.orders)
        return ordered or any(row.do == do for row in self.open(device))

    # ---- writing

    def enter(self, heard: Mapping[str, Device]) -> None:
        """Enter what was ordered for these devices."""
        orders, self.orders = self.orders, []
        if orders:
            with self.aside(*(heard[order.device] for order in orders)) as connection:
                entry.enter(connection, orders, self.now)

    def write(self) -> None:
        """Write all that was noted."""
        connection = self.connection
        self.writes.save(connection)
        for table, several in (
            (schema.reports, self._new_reports),
            (schema.results, self._new_results),
            (schema.telemetry, self._new_records),
        ):
            if several:
                rows.insert_once(connection, table, several)
                several.clear()
        if self._new_ends:
            connection.execute(_NEW_END, self._new_ends)
        if self._repeated:
            connection.execute(_REPEATED, self._repeated)
        several_devices: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for device, columns in self._devices.items():
            new = {f"new_{name}": value for name, value in columns.items()}
            several_devices[tuple(columns)].append({"its_id": device, **new})
        for names, each in several_devices.items():
            connection.execute(_set_device(names), each)
        rows.make_due(connection, *self._due)
        self._new_ends, self._repeated = [], []
        self._devices.clear()
        self._due.clear()

    @contextmanager
    def aside(self, *several: Device) -> Iterator[Connection]:
        """What is rare, and reads and writes about these devices by itself."""
        self.write()
        yield self.connection
        for device in several:
            self._known.pop(device.id, None)
