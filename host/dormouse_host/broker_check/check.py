"""Tests any broker: does it keep what sleeping devices need, and whom does it accept?

Every probe has an end, and one that fails does not keep the others from running. Sessions and retained messages that
the probes made are removed afterwards.
"""

from collections.abc import Callable, Iterator

from dormouse_host.broker_check import kept, queue, rights
from dormouse_host.broker_check.findings import SEVERITY, Case, Row
from dormouse_host.broker_check.probe import NoAnswer
from dormouse_host.errors import HostError

PROBES: tuple[Callable[[Case], Iterator[Row]], ...] = (
    queue.versions,
    rights.encryption,
    queue.queue,
    queue.window,
    queue.depth,
    queue.depth_up,
    kept.qos0,
    kept.message_expiry,
    kept.retained,
    kept.restart,
    rights.anonymous,
    rights.rights,
    rights.takeover,
)


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
                yield from probe(case)
            except NoAnswer as error:
                name = probe.__name__.replace("_", "-")
                yield Row(name, (probe.__doc__ or name).rstrip("."), str(error), "broken", "it stopped answering")
    finally:
        case.clean_up()


def severity(rows: list[Row]) -> int:
    """The exit code for these rows: 0, 3 for warnings, 4 for broken promises."""
    return max((SEVERITY.get(row.grade, 0) for row in rows), default=0)
