"""The stack of a virtual board is its interpreter's: what boards/virtual/README.md says of it, and what a program meets
that calls too deeply.

The agent's own depth is reckoned by tests/device/test_stack.py, and measured on the real firmware by `make pico`.
"""

import shlex
import signal
import subprocess

import pytest

from dormouse_host.agent import toolchain
from support.needs import need_micropython, need_mosquitto
from support.virtual_boards import run

DEEP = """
def deep(n):
    global reached
    reached = n
    deep(n + 1)

try:
    deep(1)
except RuntimeError as e:
    print(reached, e)
"""
APP = """
from dormouse import command

def deep(n):
    return deep(n + 1) + 1

@command("descend")
def descend(wake):
    return {"depth": deep(0)}
"""


def test_calls_nested_too_deeply_raise_on_the_board_later_than_on_a_real_one(make):
    """About 130 of them where a Pico W has stack for 36; the prompt answers as before."""
    board = make("RPI_PICO_W")
    reached, words = run(board, DEEP).split(maxsplit=1)
    assert words == "maximum recursion depth exceeded"
    assert 100 < int(reached) < (150 if need_micropython().bits == 32 else 250)
    assert run(board, "print(6 * 7)") == "42"


@pytest.mark.parametrize(("kib", "ends"), [(64, 0), (32, -signal.SIGSEGV)])
def test_interpreter_takes_no_limit_of_its_stack_from_outside(tmp_path, kib, ends):
    """Under `ulimit -s` Python does not raise earlier, but crashes. A newer interpreter may do better."""
    need_micropython()
    found = toolchain.require_micropython()
    (tmp_path / "deep.py").write_text(DEEP)
    argv = [str(found.path), str(tmp_path / "deep.py")]
    limited = f"ulimit -c 0; ulimit -s {kib * found.bits // 32}; exec {shlex.join(argv)}"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ends
    assert ("maximum recursion depth exceeded" in done.stdout) == (ends == 0)


@pytest.mark.timeout(400)
def test_handler_that_calls_itself_without_end_fails_and_the_wake_goes_on(tmp_path, virtual_device):
    """It costs its own command alone."""
    need_micropython()
    need_mosquitto()
    (tmp_path / "app.py").write_text(APP)
    device = virtual_device("RPI_PICO_W", tmp_path / "app.py")
    first, second = device.send("descend"), device.send("ping")
    done = device.settle(first)
    assert (done.status, device.fleet.wait(second, 10).status) == ("failed", "succeeded")
    assert done.why.startswith("RuntimeError: maximum recursion depth exceeded at app.py:5 in deep")
