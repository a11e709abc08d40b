"""Locks are taken in one order, whatever several processes do on one ledger: PostgreSQL finds no deadlock."""

import os

import pytest
from sqlalchemy import update

from dormouse_host.ledger import rows, schema
from proofs import lock_order
from support import sampling

SECONDS = float(os.environ.get("LOCK_ORDER_SECONDS", "0"))  # `make proof ARGS=locks` gives it 60


def test_no_work_deadlocks_with_other_work(postgresql_url):
    seed = sampling.number()
    found = lock_order.run(postgresql_url, seed, SECONDS)
    print(f"seed {seed}: {dict(found.done)}, {dict(found.states)}")
    assert (found.errors, dict(found.states)) == ([], {}), "\n".join([f"seed {seed}", *found.deadlocks])


def backwards() -> None:
    """Plant: one process locks devices from the last to the first."""
    before = rows.in_order
    rows.in_order = lambda connection, column: before(connection, column).desc()


def unordered_followers() -> None:
    """Plant: whoever settles a command waits for its followers' devices, as they come."""
    due = update(schema.devices).where(rows.devices.id.in_(rows._FOLLOWERS)).values(due=True)

    def wake(connection, settled):
        for names in rows.chunks(settled):
            connection.execute(due, {"names": names})

    rows.wake_followers = wake


# Followers' deadlocks are rare: it takes up to forty runs of two seconds to meet one.
FOLLOWERS = (unordered_followers, ("send", "follow", "cancel", "take", "claim"))
PLANTS = [(backwards, ("send", "take", "claim")), pytest.param(*FOLLOWERS, marks=pytest.mark.proof)]


@pytest.mark.parametrize(("plant", "only"), PLANTS)
def test_another_order_is_found(postgresql_url, plant, only):
    """By the work that it concerns. Most deadlocks cost a try and not the work, so it is PostgreSQL that is asked."""
    for seed in range(40):
        found = lock_order.run(postgresql_url, seed, 2, plant, only)
        if found.states["40P01"]:
            assert all("deadlock detected" in error for error in found.errors)
            return
    pytest.fail("no deadlock in forty runs")
