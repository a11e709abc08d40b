"""What must be true once a cluster has lost a node and everybody has woken again, and whether it is."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dormouse import protocol

Command = tuple[str, int]  # device, number


def judge(
    sent: Iterable[Command],
    effects: Counter[Command],
    statuses: Mapping[Command, str],
    records: Mapping[str, Sequence[int]],
    wakes: Counter[str],
) -> list[str]:
    """What is wrong, a line each: of commands that were sent, how often each took effect, and what the ledger says of
    it; of each device, which takes one telemetry record a wake, the numbers of those that the ledger has.
    """
    wrong = []
    for command in sorted(sent):
        device, number = command
        if effects[command] != 1:
            wrong.append(f"{device}: command {number} took effect {effects[command]} times")
        if statuses.get(command) != protocol.SUCCEEDED:
            wrong.append(f"{device}: command {number} is {statuses.get(command)} in the ledger")
    wrong += [f"{device}: command {number} was never sent" for device, number in sorted(set(effects) - set(statuses))]
    for device, count in sorted(wakes.items()):
        if sorted(records.get(device, ())) != list(range(1, count + 1)):
            wrong.append(f"{device}: {len(records.get(device, ()))} records of {count} wakes, or others")
    return wrong
