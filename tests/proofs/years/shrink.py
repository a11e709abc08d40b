"""The shortest schedule that still breaks the same promise."""

import time
from collections.abc import Callable

from proofs.years.plan import DAY, Plan


def shrink(plan: Plan, broken: str, at: float, play: Callable[[Plan], str | None], seconds: float) -> tuple[Plan, str]:
    """Leave out what the failure does not need, for so long at most. `at`: the second of the failure; `play` says what
    a plan breaks. Returns the plan and what it breaks.
    """
    until = time.process_time() + seconds
    kind = broken[0]

    def fails(smaller: Plan) -> bool:
        nonlocal plan, broken
        found = play(smaller)
        if found and found[0] == kind:
            plan, broken = smaller, found
            return True
        return False

    fails(plan._replace(acts=[act for act in plan.acts if act[0] <= at], days=min(plan.days, at / DAY + 0.01)))
    size = (len(plan.acts) + 1) // 2
    while size and time.process_time() < until:
        place, hit = 0, False
        while place < len(plan.acts) and time.process_time() < until:
            if fails(plan._replace(acts=plan.acts[:place] + plan.acts[place + size :])):
                hit = True
            else:
                place += size
        size = size if hit and size == 1 else size // 2
    if plan.relays > 1 and time.process_time() < until:
        fails(plan._replace(relays=1))
    if plan.devices > 1 and time.process_time() < until:
        fails(plan._replace(devices=1))
    for trait in ("reorder", "puback_first", "acl"):
        if plan.traits[trait] and time.process_time() < until:
            fails(plan._replace(traits={**plan.traits, trait: False}))
    return plan, broken
