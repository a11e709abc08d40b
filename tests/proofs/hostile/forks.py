"""Wakes under CPython that do not each pay for its start: a process with the agent loaded forks one per wake.

Must stay true: each wake is a process of its own, which ends with it; MicroPython, which starts in no time, needs none
of this.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Self

from dormouse_host.agent import process, toolchain
from dormouse_host.agent.log import parse
from support.device_folder import Ran

_SERVER = """
import json, os, sys
import dormouse.ports.posix  # first, for the names that umqtt.simple imports
import dormouse.connection, dormouse.tls
for line in sys.stdin:
    folder, out = json.loads(line)
    child = os.fork()
    if not child:
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = 70
        try:
            code = dormouse.ports.posix.main(folder)
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """A context manager; `wake` runs one wake of the device in that folder. `agent`: not that of the project."""

    def __init__(self, agent: Path | None = None) -> None:
        self._agent = agent

    def __enter__(self) -> Self:
        argv, environment = process.interpreter("cpython", ["-c", _SERVER], [self._agent or toolchain.agent_folder()])
        environment["DORMOUSE_CAUSE"] = "power"
        self._server = subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def wake(self, folder: Path) -> Ran:
        """Its outcome, as of `Device.wake`."""
        assert self._server.stdin
        assert self._server.stdout
        out = folder / "output"
        began = time.monotonic()
        self._server.stdin.write(json.dumps([str(folder), str(out)]) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        output = out.read_text(errors="replace")
        assert "Traceback" not in output, output
        events = [event for event in map(parse, output.splitlines()) if event]
        return Ran(code, events, output, time.monotonic() - began)
