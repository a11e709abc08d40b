"""The rows for people: one table, the targets, and how much is saved against the better of the two others.

A target is judged by the figures above it, and one that is missed says so.
"""

from collections.abc import Sequence

from rich.table import Table

from dormouse_host.lab.bench.cases import BYTES, GROWTH, HEAP, OURS, SEGMENTS, TARGETS, Row

_COLUMNS = (
    "commands, records",
    "wake",
    "round trips",
    "TCP_NODELAY",
    "until asleep",
    "bytes up",
    "bytes down",
    "segments up",
    "writes",
    "erases",
    "flash ms",
    "heap KiB",
    "in ROMFS",
    "in use KiB",
)


def table(rows: Sequence[Row]) -> Table:
    """All rows; a figure that a wake does not have is a dash."""
    made = Table(*_COLUMNS)
    for row, after in zip(rows, [*rows[1:], rows[-1]], strict=True):
        made.add_row(
            f"{row.commands}, {row.records}",
            row.style,
            f"{row.useful:.1f}",
            "–" if row.eager is None else f"{row.eager:.1f}",
            f"{row.asleep:.1f}",
            *(str(n) for n in (row.up, row.down, row.segments, row.writes)),
            _or_dash(row.erases),
            _or_dash(None if row.flash_ms is None else round(row.flash_ms)),
            _or_dash(row.smallest),
            _or_dash(row.in_place),
            _or_dash(None if row.peak is None else round(row.peak / 1024)),
            end_section=row is rows[-1] or (row.commands, row.records) != (after.commands, after.records),
        )
    return made


def _or_dash(value: int | None) -> str:
    return "–" if value is None else str(value)


def ratios(rows: Sequence[Row]) -> list[str]:
    """For each case: how many times the round trips and the bytes the better of the two scripts takes."""
    told = []
    for case in dict.fromkeys((row.commands, row.records) for row in rows):
        of = {row.style: row for row in rows if (row.commands, row.records) == case}
        others = [of[style] for style in ("plain", "tuned") if style in of]
        if "ours" not in of or not others:
            continue
        ours, useful = of["ours"], min(row.useful for row in others)
        asleep, size = min(row.asleep for row in others), min(row.up + row.down for row in others)
        told.append(
            f"{case[0]} commands, {case[1]} records: the better script takes {useful / ours.useful:.1f} times our "
            f"round trips until the last useful packet and {asleep / ours.asleep:.1f} times until asleep; we take "
            f"{(ours.up + ours.down) / size:.2f} times its bytes"
        )
    return told


def judged(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """Every target with what was measured, and whether it is met."""
    ours = {(row.commands, row.records): row for row in rows if row.style == "ours"}
    bare = [row.up + row.down for row in rows if row.style not in OURS and (row.commands, row.records) == (10, 10)]
    found = []
    for case, most in TARGETS.items():
        if case in ours:
            row = ours[case]
            useful = row.useful if row.eager is None else row.eager  # Nagle's algorithm is the broker's
            found.append((f"{case}: {useful:.2f} round trips, at most {most}", round(useful, 1) <= most))
    if (10, 10) in ours:
        row = ours[10, 10]
        found.append((f"(10, 10): {row.segments} segments up, at most {SEGMENTS}", row.segments <= SEGMENTS))
        if bare:
            share = (row.up + row.down) / min(bare)
            found.append(
                (f"(10, 10): {share:.2f} times the bytes of the bare protocol, at most {BYTES}", share <= BYTES)
            )
    return found + _judged_heaps({case: row.in_place for case, row in ours.items() if row.in_place is not None})


def _judged_heaps(heaps: dict[tuple[int, int], int]) -> list[tuple[str, bool]]:
    found = [
        (f"{case}: a heap of {kib} KiB with the agent in ROMFS, at most {HEAP}", kib <= HEAP)
        for case, kib in heaps.items()
    ]
    if {(10, 10), (1000, 10)} <= set(heaps):
        more = heaps[1000, 10] - heaps[10, 10]
        found.append((f"(1000, 10): {more} KiB more heap than (10, 10), at most {GROWTH}", more <= GROWTH))
    return found
