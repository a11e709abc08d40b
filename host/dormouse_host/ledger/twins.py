"""Two boards that use one id, told apart from one whose flash was wiped: a wiped board never returns to its old state.

A report of a state that was left is not believed; its board is asked in that state (inbound.py). If it answers, the
states take turns among the reports. If the other board always wakes in between, it takes the question each time and
answers that it is in another state: then the questions tell. One alone may be of a late report. Only the last wakes
count, so that it is forgotten after the mend.
"""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import Connection, and_, func, select

from dormouse_host.ledger import schema
from dormouse_host.ledger.inbound import REPORT
from dormouse_host.ledger.rows import commands

_WAKES = 10  # the last ones
_QUESTIONS = 2  # in a state that was left
_MOST = 1000  # devices that have left a state, of which the first are looked at
reports, left = schema.reports.c, schema.states_left.c


def find(connection: Connection, device: str | None = None) -> dict[str, list[str]]:
    """Device -> the states that take turns, the latest first; of one device or of all."""
    changed = select(left.device).distinct().order_by(left.device).limit(_MOST)
    if device is not None:
        changed = changed.where(left.device == device)
    found = {}
    for name in connection.execute(changed).scalars().all():
        last = select(reports.state, reports.at).where(reports.device == name)
        wakes = connection.execute(last.order_by(reports.at.desc(), reports.wake.desc()).limit(_WAKES)).all()
        states = [state for state, _ in wakes]
        turns = taking_turns(states)
        if not turns and (asked := _asked(connection, name, wakes[-1][1] if len(wakes) == _WAKES else 0.0)):
            turns = [*states[:1], *asked]
        if turns:
            found[name] = turns
    return found


def taking_turns(states: Sequence[str]) -> list[str]:
    """The different states, where one of them comes again after another; else nothing."""
    turns = [state for state, _ in groupby(states)]
    different = list(dict.fromkeys(turns))
    return different if len(turns) > len(different) else []


def _asked(connection: Connection, device: str, since: float) -> list[str]:
    """The states that were left and were asked in again and again after that, and after `since`."""
    of_state = and_(left.device == commands.device, left.state == commands.state)
    query = select(commands.state).join(schema.states_left, of_state).group_by(commands.state)
    query = query.where(commands.device == device, commands.do == REPORT)
    query = query.where(commands.entered >= left.at, commands.entered >= since)
    return list(connection.execute(query.having(func.count() >= _QUESTIONS)).scalars())
