"""What a test needs from the machine: MicroPython and mosquitto, the real ones.

Must stay true: in CI (CI=true) what is missing fails the test; elsewhere MicroPython's absence skips it and says
why, and mosquitto's fails it, because `make test` installs it.
"""

import os
from pathlib import Path

import pytest

from dormouse_host.agent import toolchain


def need_micropython() -> toolchain.Interpreter:
    """The interpreter, or the end of this test."""
    try:
        return toolchain.require_micropython()
    except toolchain.NoMicropython as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def need_stubs(port: str) -> Path:
    """The folder with what `port`'s MicroPython has, as type stubs; or the end of this test."""
    folder = toolchain.cache_folder() / f"stubs-{port}"
    if folder.is_dir():
        return folder
    why = f"the board's stubs are missing: make .cache/stubs-{port}"
    if os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def need_mosquitto() -> Path:
    """The broker's program, or the end of this test."""
    return toolchain.mosquitto() or pytest.fail("mosquitto is not installed: apt-get install mosquitto", pytrace=False)
