"""Bugs that the sweep must find: each a line of the agent that is changed for the worse."""

import shutil
from pathlib import Path

from dormouse_host.agent import toolchain

Bug = tuple[str, str, str]  # file, the line, and what it becomes
PLANTED: dict[str, Bug] = {
    "the mark before the manifest": (
        "update.py",
        '        self._idle.replace("release", iter(lines))\n',
        '        self._mark(TRIAL, self.slots.other())\n        self._idle.replace("release", iter(lines))\n',
    ),
    "a mark that is written in place": (
        "guard.py",
        '            with open(name + "~", "w") as file:\n',
        '            with open(name, "w"):\n                pass\n            with open(name + "~", "w") as file:\n',
    ),
    "the phase before what it is of": (
        "update.py",
        "            self._save()\n            self._mark(SENDING)\n",
        "            self._mark(SENDING)\n            self._save()\n",
    ),
}

TWICE = "a chunk that comes twice is written twice"  # what a cut connection finds, and no cut of the power
TRANSFER: dict[str, Bug] = {
    TWICE: ("update.py", "or (file, at) != (self.file, self.at):", "or file != self.file:"),
}


def plant(name: str, folder: Path) -> Path:
    """A copy of the agent with that bug. Returns the folder that contains it."""
    file, good, bad = {**PLANTED, **TRANSFER}[name]
    shutil.copytree(toolchain.agent_folder() / "dormouse", folder / "dormouse")
    path = folder / "dormouse" / file
    text = path.read_text()
    if text.count(good) != 1:
        raise RuntimeError(f"{name}: the line is not in {file} any more")
    path.write_text(text.replace(good, bad))
    return folder
