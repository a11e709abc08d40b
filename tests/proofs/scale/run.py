"""One measurement: commands from the ledger to sleeping devices and back, and telemetry into the ledger.

Must stay true: a run that is not whole (a command without its one effect, a wake that failed, a record missing) is an
error and not a figure.
"""

import time
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormouse import codec, protocol
from dormouse_host.ledger.entry import Order
from proofs.scale.plant import Plant, Settings, Used, peak

_WAKES = 4  # after which every command is done
_PER_COMMAND = 0.05  # seconds that one may take before a run counts as stuck, and
_AT_LEAST = 60.0  # what a run may take in any case


class Broken(Exception):
    """A run that is not whole."""


@dataclass(frozen=True)
class Figures:
    """One size. Seconds, unless said otherwise; MB of 10^6 bytes."""

    devices: int
    commands: int
    entering: float
    first: Used  # the first wake of every device
    sending: Used  # ledger to PUBACK
    confirming: Used  # wakes, until the last answer is stored
    peak: float  # MB of the relay
    broker_peak: float  # MB
    size: float  # MB of the ledger
    published: int

    @property
    def seconds(self) -> float:
        """From the first command's entry to the last one's answer."""
        return self.entering + self.sending.seconds + self.confirming.seconds

    @property
    def used(self) -> Used:
        """From the first command's way to the broker to the last one's answer."""
        return self.sending + self.confirming

    def each(self, amount: float) -> float:
        """One command's part."""
        return amount / self.commands


def measure(count: int, each: int, settings: Settings | None = None) -> Figures:
    """`each` commands for each of `count` sleeping devices."""
    with Plant(count, settings) as plant:
        plant.start_relay()
        plant.start_devices()
        with plant.measured() as first:
            greet(plant)
        before = plant.megabytes()
        entering, sending, confirming = there_and_back(plant, range(each))
        figures = Figures(
            count,
            count * each,
            entering,
            first[0],
            sending,
            confirming,
            peak(plant.relay.pid) if plant.relay else 0,
            peak(plant.broker.pid) if plant.broker.pid else 0,
            plant.megabytes() - before,
            plant.scalar("SELECT sum(published) FROM commands WHERE do = 'say'"),
        )
        check(plant, count * each)
        return figures


def greet(plant: Plant) -> None:
    """A first wake of all: now the host asks each device what it can do; the answer comes with the next."""
    _wake(plant)
    plant.until(lambda: plant.scalar("SELECT count(*) FROM ends") == plant.count, _limit(plant, 1))
    plant.until(lambda: not _left(plant, "'queued', 'publishing'"), _limit(plant, 1))


def there_and_back(plant: Plant, numbers: range) -> tuple[float, Used, Used]:
    """A command with each of these numbers for every device, until all are answered. Seconds of their entry, and what
    it took from the ledger to PUBACK and from there to the last answer.
    """
    before, limit = plant.effects, _limit(plant, len(numbers))
    orders = [Order(name, "say", f'{{"n":{n}}}') for n in numbers for name in plant.names]
    began = time.monotonic()
    plant.fleet.ledger.enter(orders)
    entering = time.monotonic() - began
    with plant.measured() as sending:
        plant.until(lambda: not _left(plant, "'queued', 'publishing'"), limit)
    with plant.measured() as confirming:
        for _ in range(_WAKES):
            _wake(plant)
            if plant.effects - before == len(orders):
                break
        plant.until(lambda: not _left(plant, "'sent', 'delivered'"), limit)
    return entering, sending[0], confirming[0]


def _limit(plant: Plant, each: int) -> float:
    """Seconds that so many commands for every device may take."""
    return _AT_LEAST + _PER_COMMAND * plant.count * each


def _left(plant: Plant, statuses: str) -> bool:
    query = f"SELECT 1 FROM commands WHERE open AND status IN ({statuses}) ORDER BY key DESC LIMIT 1"
    return plant.scalar(query) is not None


def _wake(plant: Plant) -> None:
    if failed := plant.wake_all():
        raise Broken(f"{failed} wakes failed")


def check(plant: Plant, commands: int) -> None:
    """Broken where not each of so many commands had its one effect and its answer."""
    done = plant.scalar("SELECT count(*) FROM commands WHERE do = 'say' AND status = 'succeeded'")
    if done != commands:
        raise Broken(f"of {commands} commands {done} are known to have succeeded")
    if (plant.effects, plant.twice) != (commands, 0):
        raise Broken(f"of {commands} commands {plant.effects} took effect, {plant.twice} of them twice")


@dataclass(frozen=True)
class Ingested:
    """Telemetry that waited at the broker for the relay. `used` runs from its start until the last record's storage."""

    records: int
    batches: int
    used: Used


def ingest(count: int, batches: int, settings: Settings | None = None) -> Ingested:
    """`batches` of 1 KiB from each of `count` devices."""
    with Plant(count, settings) as plant:
        plant.start_relay()  # so that the broker keeps a session for it
        plant.stop_relay()
        each = _publish(plant, batches)
        records = each * count
        with plant.measured() as used:
            plant.start_relay()
            last = f"SELECT 1 FROM telemetry WHERE device = '{plant.names[-1]}' AND state = 's1' AND number = {each}"
            plant.until(lambda: plant.scalar(last) is not None, _AT_LEAST + records / 1000)
        if (stored := plant.scalar("SELECT count(*) FROM telemetry")) != records:
            raise Broken(f"{records} records were sent and {stored} stored")
        return Ingested(records, batches * count, used[0])


def _publish(plant: Plant, batches: int) -> int:
    """Batches as the agent makes them. Returns how many records each device sent."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "scale-devices")
    client.max_inflight_messages_set(1000)
    client.connect(plant.broker.address.host, plant.broker.address.port)
    client.loop_start()
    waiting, number = [], 0
    for _ in range(batches):
        records: list[list[Any]] = []
        while len(codec.encode({"state": "s1", "records": records})) < 1000:
            number += 1
            records.append([number, 1_790_000_000 + number, {"vbat": 3.71, "temp": 21.5}])
        for name in plant.names:
            topic = protocol.topic(protocol.ROOT, name, protocol.TELEMETRY)
            waiting.append(client.publish(topic, codec.encode({"state": "s1", "records": records}), 1))
    for sent in waiting:
        sent.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    return number
