"""The cases: what is done to broker, relay, ledger and devices while commands go down and answers come up.

Must stay true: every case that the issue of the proof names is here under a name that a person would give it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proofs.endtoend import cases_memory, cases_network
from proofs.endtoend.world import World

STOCK = ("set_tcp_nodelay true",)  # mosquitto saves its sessions every 30 minutes, that is never
NARROW = (*STOCK, "max_queued_messages 50")


@dataclass(frozen=True)
class Case:
    """`how` goes to World; `postgresql`: its ledger is there."""

    run: Callable[[World], None]
    how: dict[str, Any] = field(default_factory=dict)
    postgresql: bool = False


CASES = {
    "quiet": Case(cases_network.quiet),
    "broker killed": Case(cases_network.broker_killed),
    "broker without its data": Case(cases_network.broker_forgot, {"settings": STOCK}),
    "broker with old data": Case(cases_network.broker_old),
    "report late": Case(cases_network.report_late, {"devices": 2}),
    "queue overflow down": Case(cases_network.overflow_down, {"settings": NARROW, "devices": 1}),
    "queue overflow up": Case(cases_network.overflow_up, {"settings": NARROW}),
    "relay killed": Case(cases_network.relay_killed),
    "device cut": Case(cases_memory.device_cut),
    "device wiped": Case(cases_memory.device_wiped, {"settings": NARROW}),
    "ledger restored": Case(cases_memory.ledger_restored),
    "ledger copied": Case(cases_memory.ledger_copied),
    "disk full": Case(cases_memory.disk_full, {"small_disk": True}),
    "two relays": Case(cases_network.two_relays, {"relays": ("one", "two")}, postgresql=True),
    "clock wrong": Case(cases_memory.clock_wrong),
    "all at once": Case(cases_network.all_at_once, {"settings": (*NARROW, "autosave_interval 1")}),
}
