"""Two boards that use one id, told apart from one whose flash was wiped: a wiped board never returns to its old state.

A report of a state that was left is believed only after its board has answered a question in it (inbound.py): a state
that appears again among the reports is another board's. That is looked for in the last wakes only: after the mend it
is forgotten.
"""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import Connection, select

from dormouse_host.ledger import schema

_WAKES = 10  # the last ones, among which a state appears again
_MOST = 1000  # devices that have left a state, of which the first are looked at
reports, left = schema.reports.c, schema.states_left.c


def find(connection: Connection, device: str | None = None) -> dict[str, list[str]]:
    """Device -> the states that took turns, the latest first; of one device or of all."""
    changed = select(left.device).distinct().order_by(left.device).limit(_MOST)
    if device is not None:
        changed = changed.where(left.device == device)
    found = {}
    for name in connection.execute(changed).scalars().all():
        last = select(reports.state).where(reports.device == name).order_by(reports.at.desc(), reports.wake.desc())
        if states := taking_turns(connection.execute(last.limit(_WAKES)).scalars().all()):
            found[name] = states
    return found


def taking_turns(states: Sequence[str]) -> list[str]:
    """The different states, where one of them comes again after another; else nothing."""
    turns = [state for state, _ in groupby(states)]
    different = list(dict.fromkeys(turns))
    return different if len(turns) > len(different) else []
