"""A relay in a thread of the test, its device, and what a test asks of the ledger between two wakes."""

import logging
import threading
import time
from typing import Protocol

from sqlalchemy import select

from dormouse import protocol
from dormouse_host import Fleet
from dormouse_host.address import BrokerAddress
from dormouse_host.agent import process
from dormouse_host.ledger import schema
from dormouse_host.ledger.store import Ledger
from dormouse_host.relay.beside import Beside
from dormouse_host.relay.relay import Relay
from support.device_folder import Device, DeviceInterpreter
from support.needs import need_micropython
from support.waiting import WITHIN, until


class HasAddress(Protocol):
    """A broker, or what stands in front of one."""

    @property
    def address(self) -> BrokerAddress:
        """Where to connect to."""


class Running(logging.Handler):
    """A relay in a thread. `events` are the names of its own log lines."""

    def __init__(
        self,
        db: str,
        broker: HasAddress,
        name: str = "test",
        waiting: int = protocol.WINDOW,
        beside: Beside | None = None,
    ) -> None:
        super().__init__()
        self.events: list[str] = []
        logger = logging.getLogger("dormouse.relay")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        self.relay = Relay(Ledger(db), broker.address, "dormouse", name, waiting=waiting, beside=beside)
        self.thread = threading.Thread(target=self.relay.run, daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread.ident:  # all relays of this process share the logger
            self.events.append(record.getMessage())

    def __enter__(self):
        self.thread.start()
        until(lambda: "connected" in self.events)
        return self

    def __exit__(self, *_):
        self.relay.stop()
        self.thread.join(WITHIN)
        assert not self.thread.is_alive()
        logging.getLogger("dormouse.relay").removeHandler(self)


def make_device(tmp_path, broker, kind: process.Kind = "micropython", **how) -> Device:
    if kind == "micropython":
        need_micropython()
    return Device(tmp_path / "dev", DeviceInterpreter(kind), broker.address.url, **how)


def greet(fleet: Fleet, device: Device) -> None:
    """A first wake: the ledger knows the device's state, the broker keeps a session."""
    device.wake()
    until(lambda: fleet.status("dev")[0].state and len(list(fleet.export("wakes"))) == 1)
    until(lambda: ends(fleet) == 1)


def ends(fleet: Fleet) -> int:
    """End records that are stored."""
    with fleet.ledger.database.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM ends").scalar() or 0


def wake(fleet: Fleet, device: Device) -> list[str]:
    """One wake, and its own end record stored: not that of an earlier one. What the device did in it."""
    began = time.time()
    ran = device.wake()
    assert ran.code == 0, ran.output

    def told() -> bool:
        with fleet.ledger.database.reading() as connection:
            its = (schema.ends.c.wake == ran.one("boot")["wake"], schema.ends.c.at >= began)
            return connection.execute(select(schema.ends.c.wake).where(*its)).first() is not None

    until(told)
    return ran.said


def say(fleet: Fleet, *texts: str, **how) -> list[str]:
    return [fleet.send("dev", "say", {"text": text}, **how).name for text in texts]


def published(fleet: Fleet) -> bool:
    """Has the broker what there is for the devices?"""
    with fleet.ledger.database.reading() as connection:
        waiting = schema.commands.c.status.in_(("queued", "publishing"))
        return not (
            connection.execute(select(schema.commands.c.name).where(waiting)).first()
            or connection.execute(select(schema.devices.c.id).where(schema.devices.c.due)).first()
        )


def until_sent(fleet: Fleet, names: list[str]) -> None:
    until(lambda: all(fleet.result(name).status not in ("queued", "publishing") for name in names))


def statuses(fleet: Fleet, names: list[str]) -> list[str]:
    return [fleet.result(name).status for name in names]
