"""Worlds that broke a promise once, as short as they could be made; each is a test (test_years.py)."""

from proofs.years.plan import Plan

_TRAITS = {"reorder": False, "puback_first": False, "acl": False, "window": 20, "queue": 1000}
_SETTINGS = {"connect_every": 900}

WORLDS = {
    # A program that is left out for a while cost the commands that the device had accepted before: rejected for good.
    "accepted, then left out": Plan(
        2,
        0.1,
        1,
        1,
        _TRAITS,
        _SETTINGS,
        [
            (1000.0, "order", 0, "hang", None, False),
            (1000.0, "order", 0, "do", None, False),
            (1000.1, "order", 0, "again", None, False),
            (1901.0, "prog", 0, "import hangs", 5000),
        ],
    ),
    # Handlers that hung in two wakes in a row were held against the import: hours without the program.
    "two handlers that hang": Plan(
        2,
        0.1,
        1,
        1,
        _TRAITS,
        _SETTINGS,
        [(1000.0, "order", 0, "hang", None, False) for _ in range(7)] + [(1000.0, "order", 0, "do", None, False)],
    ),
    # What a full inbox had to send kept its commands from running: the wake ended, and where nothing of that was
    # confirmed so did all others.
    "an inbox that is full, and results that are not sent": Plan(
        2, 0.1, 1, 1, {**_TRAITS, "window": 200}, _SETTINGS, [(1000.0, "order", 0, "do", None, False)] * 241
    ),
}
