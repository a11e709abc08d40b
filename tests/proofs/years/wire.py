"""The judge of what is said on the wire: nobody claims an acknowledgement that was not given, nor gives one too early.

Must stay true: it shares no code with agent, relay or ledger; it reads their JSON, and the ledger by SQL of its own.
"""

import json
from collections.abc import Iterable
from typing import Any

from proofs.years.broker import Message
from proofs.years.oracle import Broken


class Wire:
    """`ask(sql, arguments)` reads the ledger."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask
        self._taken: dict[tuple[str, str], int] = {}  # by device and state, the highest telemetry number at the broker
        self._published: set[tuple[str, bytes]] = set()

    def said(self, device: str, topic: str, payload: bytes) -> None:
        """What a device publishes has reached the broker."""
        leaf = topic.rpartition("/")[2]
        if leaf == "telemetry":
            batch = json.loads(payload)
            key = device, batch["state"]
            self._taken[key] = max(self._taken.get(key, 0), batch["records"][-1][0])
        elif leaf in ("wake", "end"):
            said = json.loads(payload)
            end = said if leaf == "end" else said.get("end")
            taken = self._taken.get((device, end["state"]), 0) if end else 0
            if end and end["acked"] > taken:
                raise Broken(f"1: {device} takes {end['acked']} records for confirmed, of which the broker has {taken}")

    def published(self, topic: str, payload: bytes, quiet: bool) -> None:
        """A relay publishes. `quiet`: no fault has happened yet."""
        is_chunk = topic.endswith("/down/file")  # which does no harm twice, and goes again with another order
        if quiet and not is_chunk and b'"exp":' not in payload and (topic, payload) in self._published:
            raise Broken(f"2: published twice, and no fault has happened: {topic} {payload[:80]!r}")
        self._published.add((topic, payload))

    def stored(self, messages: Iterable[Message]) -> None:
        """A relay is gone, and these are what it has acknowledged."""
        for message in messages:
            _, device, _, leaf = message.topic.split("/")
            if leaf != "telemetry":
                continue
            batch = json.loads(message.payload)
            numbers = [number for number, *_ in batch["records"]]
            some = ",".join(str(number) for number in numbers)
            there = "SELECT count(*) FROM telemetry WHERE device = ? AND state = ? AND number IN"
            missing = len(set(numbers)) - self._ask(f"{there} ({some})", (device, batch["state"]))[0][0]
            # given up when the flash was wiped, and come late
            gone = "SELECT coalesce(sum(dropped), 0) FROM telemetry_streams WHERE device = ? AND state = ?"
            if missing and missing > self._ask(gone, (device, batch["state"]))[0][0]:
                raise Broken(f"1: records {some} of {device} were acknowledged, and are not in the ledger")
