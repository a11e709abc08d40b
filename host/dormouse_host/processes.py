"""Child processes that end with us, however we end.

Must stay true: a child is gone when `stop` returns; and when this process is killed without a chance to say so,
the kernel kills the child (Linux; elsewhere only an orderly end takes the children along).
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL: mosquitto saves its sessions, on a busy machine, too


def _leash() -> list[str]:
    """What stands before a command so that the kernel ends it with its parent: util-linux, in every Debian."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def start(
    argv: Sequence[str], *, output: int | IO[bytes], env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `argv` with stdout and stderr going to `output`.

    Its own session keeps the terminal's Ctrl-C from it: we end it in our order. Call from the main thread only,
    because the kernel takes the end of the starting thread for the parent's.
    """
    return subprocess.Popen(
        [*_leash(), *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End `child`: politely, after ten seconds by force. No error where it has ended already."""
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
