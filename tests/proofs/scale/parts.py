"""Where the relay's CPU goes: `python -m proofs.scale --profile`, by samples of its own process (sampler.py)."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from proofs.scale import run
from proofs.scale.plant import Settings

_PARTS = (  # the first of whose signs a function's file and name have one
    ("database", ("default.py do_", "sqlite3", "/psycopg")),
    ("JSON", ("/json/", "messages.py load", "messages.py dump")),
    ("SQLAlchemy", ("/sqlalchemy/",)),
    ("MQTT", ("/paho/", "/broker/client.py", "/relay/connection.py")),
    ("ledger", ("/dormouse_host/ledger/", "/dormouse/")),
    ("relay", ("/dormouse_host/relay/",)),
)


def measure(count: int, each: int, say: Callable[[str], object], folder: Path) -> None:
    """Say what part of the relay's CPU is whose, and its dearest functions."""
    path = folder / "samples.json"
    figures = run.measure(count, each, Settings(constants=[f"samples={path}"]))
    seen: dict[str, int] = json.loads(path.read_text())
    total = sum(seen.values())
    say(
        f"{count} devices, {figures.commands} commands; {figures.each(figures.used.relay) * 1000:.2f} ms of CPU for one"
    )
    for name, samples in parts(seen).most_common():
        say(f"  {name}: {100 * samples / total:.0f} %")
    say(f"the dearest functions, of {total} samples:")
    for name, samples in Counter(seen).most_common(12):
        say(f"  {100 * samples / total:.1f} % {'/'.join(name.split('/')[-2:])}")


def parts(seen: dict[str, int]) -> Counter[str]:
    """Samples by part."""
    found: Counter[str] = Counter()
    for name, samples in seen.items():
        fits = (part for part, signs in _PARTS if any(sign in name for sign in signs))
        found[next(fits, "the rest of Python")] += samples
    return found
