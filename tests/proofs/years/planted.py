"""Bugs that break one rule of agent, relay or ledger each: every one of them must be found within ten device-years.

Must stay true: a bug is a change of the sources' own text, which fails loudly where that text is no longer there; it is
looked for with the same seeds as the sources as they are, and in a process of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dormouse_host
from dormouse_host.agent import toolchain
from proofs.endtoend import planted as endtoend
from proofs.powercut import planted as powercut
from proofs.update import planted as update

YEARS = 10.0
_TORN = "mark without checksum"  # it takes a file system that tears a small file, which littlefs does not
HOST, DEVICE = "host", "device"


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in the one file of that `side` that says it."""

    side: str
    old: str
    new: str
    having: tuple[str, ...] = ()  # entries of a schedule without which it does no harm: other worlds are passed over


_NEW = {
    "a wake's reports rise no more": Bug(
        HOST, "    newer = said.wake > device.wake if is_present", "    newer = True if is_present"
    ),
    "`after` is not waited for": Bug(
        HOST, "        if row.after and not row.claimed and row.after not in settled:\n", "        if False:\n"
    ),
    "an overdue command is called expired though it went": Bug(
        HOST,
        "    if not row.claimed:\n        row.status, row.provisional, row.never_published = why, True, True\n",
        "    if True:\n        row.status, row.provisional, row.never_published = why, False, True\n",
    ),
    "a restored ledger keeps its names": Bug(
        HOST, '    new = {"name": ledger_name(), "since": now, "why": why}\n', '    new = {"since": now, "why": why}\n'
    ),
    "what the inbox holds is rejected while the program is left out": Bug(
        DEVICE,
        "                if self.left_out and not started",
        "                if False and self.left_out and not started",
    ),
    "a handler that hung is held against the import": Bug(
        DEVICE, "            self.broke = True\n", "            self.broke = False\n"
    ),
    "what a relay died with is never missing": Bug(
        HOST, "    return later >= 2 and row.session != session\n", "    return False\n"
    ),
    "a piece that hung is forgiven at once": Bug(
        DEVICE, "        if 0 < again - self._now <= _FIRST << _DOUBLED:", "        if False:"
    ),
    "the fence is not waited for": Bug(
        DEVICE, '            self.back = "fence" if self.fences == 1 else "second fence"\n', "            pass\n"
    ),
    "a repeatable command is run again for ever": Bug(
        DEVICE,
        "        attempt = self.started[2] + 1 if self.ever_started(index, number) else 1\n",
        "        attempt = 1\n",
    ),
    "whatever was interrupted is run again": Bug(
        DEVICE, "                again = handler and handler.repeatable\n", "                again = handler\n"
    ),
    "a tombstone leaves its command in the inbox": Bug(
        DEVICE,
        "            inbox.finish(w.index, number, command.void)\n",
        "            self._answer(command, command.void, True)\n",
    ),
    "what ended since the journal's last record is run again": Bug(
        DEVICE, "        for index, first, count, code in runs[1:]:\n", "        for index, first, count, code in ():\n"
    ),
    "what is overdue is run": Bug(
        DEVICE, "                if now is not None and exp <= now:\n", "                if False:\n"
    ),
    "a device that fails comes back as soon as ever": Bug(
        DEVICE, "            self._plan(state.failures)\n", "            self._plan(0)\n"
    ),
    "commands of a state that was wiped are taken": Bug(
        DEVICE, "        if command.state != inbox.state:\n", "        if False:\n"
    ),
    "a claim is not written down": Bug(
        HOST, "    row.claimed, row.puback = seq, 0\n", "    row.claimed, row.puback = 0, 0\n"
    ),
    "missing records are not asked for": Bug(
        HOST, "        if gaps:\n            missing", "        if False:\n            missing"
    ),
    "a relay that died keeps its name": Bug(
        HOST, "    return now < until <= now + ALIVE + _AHEAD and not is_dead", "    return not is_dead"
    ),
    "more are out than a device can tell apart": Bug(
        HOST,
        "        if row.do != FORGET and row.number - lowest[row.ledger] >= window:\n            continue\n",
        "",
    ),
    "the last command goes first": Bug(
        HOST,
        "    for row in rows:\n        if not row.waits:\n",
        "    for row in reversed(rows):\n        if not row.waits:\n",
    ),
    "telemetry is confirmed when it is sent": Bug(
        DEVICE,
        "                return self._publish(session, state, entries, (self._confirm, batch))\n",
        "                self.acked = last\n"
        "                return self._publish(session, state, entries, (self._confirm, batch))\n",
    ),
}
_NEW |= {
    "a release on trial counts as kept": Bug(
        HOST,
        "        row.status, row.why = ON_TRIAL, None\n",
        "        _settle(connection, row, protocol.SUCCEEDED, None, now)\n",
        ("update",),
    ),
    "a verdict that comes late is not taken": Bug(
        HOST, '    if not found or "trial" in told:\n', "    if True:\n", ("update", "withdraw")
    ),
    "a rollout goes on after what failed": Bug(
        HOST, "    if count >= row.abort_after:\n", "    if False:\n", ("rollout",)
    ),
    "a wave does not wait for the one before": Bug(
        HOST,
        "    if any(member.status not in rules.FINAL and not member.overdue for member in reached):\n        return\n",
        "",
        ("rollout",),
    ),
}
_HAVING = {
    "PUBACK before flush": ("plain",),
    "window not persisted": ("broker",),
    "acknowledged before it is stored": ("rkill",),
    "settled by the window": ("restore",),
    "settled by an answer to other bytes": ("restore",),
    "a restored ledger keeps its names": ("restore",),
    "a missing tail is not asked for": ("broker", "roff"),
    "missing records are not asked for": ("broker", "roff"),
    "what went with a flash is not counted": ("wipe", "broker"),
    "a number that was done is done again": ("broker",),
    "a wake's reports rise no more": ("broker",),
    "commands of a state that was wiped are taken": ("wipe", "broker"),
    "what a relay died with is never missing": ("rkill",),
    "a relay that died keeps its name": ("die",),
    "telemetry is confirmed when it is sent": ("net",),
    "a device that fails comes back as soon as ever": ("broker",),
    "a piece that hung is forgiven at once": ("prog",),
    "a handler that hung is held against the import": ("prog",),
    "a repeatable command is run again for ever": ("prog",),
    "what is overdue is run": ("clock",),
    "more are out than a device can tell apart": ("flood",),
}


def bugs() -> dict[str, Bug]:
    """All of them, those of the other suites included."""
    found = {name: Bug(DEVICE, bug.old, bug.new) for name, bug in powercut.BUGS.items() if name != _TORN}
    found.update({name: Bug(bug.side, bug.old, bug.new) for name, bug in endtoend.BUGS.items()})
    changed = {**update.PLANTED, **update.TRANSFER}.items()
    found.update({name: Bug(DEVICE, old, new, ("update",)) for name, (_, old, new) in changed})
    return {name: replace(bug, having=_HAVING.get(name, bug.having)) for name, bug in (found | _NEW).items()}


@contextmanager
def sources_with(bug: Bug) -> Iterator[Path]:
    """A folder with a copy of that side's package that has the bug."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(dormouse_host.__file__).parent if bug.side == HOST else toolchain.agent_folder() / "dormouse"
        copy = Path(folder, source.name)
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        places = [file for file in sorted(copy.rglob("*.py")) if bug.old in file.read_text()]
        if len(places) != 1 or places[0].read_text().count(bug.old) != 1:
            raise LookupError(f"not exactly one place for {bug.old!r}: {places}")
        places[0].write_text(places[0].read_text().replace(bug.old, bug.new))
        yield Path(folder)


def hunt(bug: Bug, seed: int, seconds: float, days: float | None) -> str:
    """What `python -m proofs.years` prints of it, up to the first broken promise."""
    with sources_with(bug) as folder:
        argv = [sys.executable, "-m", "proofs.years", "--first", "--seed", str(seed), "--seconds", str(seconds)]
        argv += ["--years", str(YEARS), "--agent", str(folder if bug.side == DEVICE else toolchain.agent_folder())]
        argv += ["--days", str(days)] if days else []
        argv += ["--having", *bug.having] if bug.having else []
        tests = str(Path(__file__).parents[2])
        host = folder if bug.side == HOST else Path(dormouse_host.__file__).parents[1]
        path = os.pathsep.join([str(host), str(toolchain.agent_folder()), tests])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
        found = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=20 * seconds + 300)
    return (found.stdout + found.stderr[-300:]).strip()
