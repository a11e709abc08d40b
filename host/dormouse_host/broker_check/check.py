"""Tests any broker: does it keep what sleeping devices need, and whom does it accept?

Every probe has an end, and one that fails does not keep the others from running, unless nothing can work without what
it looks for. Sessions and retained messages that
the probes made are removed afterwards.
"""

from collections.abc import Callable, Iterator
from typing import Any

from dormouse_host.broker_check import basics, kept, queue, rights
from dormouse_host.broker_check.findings import SEVERITY, Case, Row
from dormouse_host.broker_check.probe import NoAnswer
from dormouse_host.errors import HostError

PROBES: tuple[Callable[[Case], Iterator[Row]], ...] = (
    queue.versions,
    rights.encryption,
    basics.qos1,
    basics.topics,
    basics.live,
    queue.queue,
    queue.window,
    queue.depth,
    queue.depth_up,
    kept.qos0,
    kept.message_expiry,
    kept.retained,
    kept.restart,
    kept.asleep,
    rights.anonymous,
    rights.rights,
    rights.takeover,
)
_NEEDED = ("qos1", "topics")  # without these there is nothing to test


def check(case: Case) -> Iterator[Row]:
    """Run all probes, row by row. HostError where the broker refuses the host."""
    try:
        with case.client(mqtt5=False) as client:
            client.connect().close()
    except NoAnswer as error:
        raise HostError(f"broker {case.host}: {error}", 2 if error.refused else 1) from None
    try:
        for probe in PROBES:
            try:
                for row in probe(case):
                    yield row
                    if row.key in _NEEDED and row.grade == "broken":
                        return
            except NoAnswer as error:
                name = probe.__name__.replace("_", "-")
                yield Row(name, (probe.__doc__ or name).rstrip("."), str(error), "broken", "it stopped answering")
    finally:
        case.clean_up()


def severity(rows: list[Row]) -> int:
    """The exit code for these rows: 0, 3 for warnings, 4 for broken promises."""
    return max((SEVERITY.get(row.grade, 0) for row in rows), default=0)


def settings(rows: list[Row]) -> dict[str, Any]:
    """Keys of the broker's profile that these rows ask for."""
    return {key: value for row in rows for key, value in row.profile.items()}
