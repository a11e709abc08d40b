"""`dormouse init`: a project that works as it stands, on a virtual device at once and on a board with its Wi-Fi's name.

Existing files stay as they are. What may hold a secret is in the project's .gitignore before it exists.
"""

import re
from pathlib import Path

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host import files
from dormouse_host.errors import HostError

APP = '''"""The device's program: commands and readings. It touches no hardware at import."""

from dormouse import command, telemetry


def safe_state():
    """Runs first at every boot, before Wi-Fi: put every pin where it can do no harm."""


@command("blink", limit=10, times=int)
def blink(wake, times):
    """`dormouse send DEVICE blink times=3`: a stand-in for what your device does."""
    for _ in range(times):
        wake.hold(0.2)  # waits, feeds the watchdog, respects the limit
    return {"blinked": times}


@telemetry(every=900)
def climate(wake):
    """One reading at a sample, at most every 15 minutes."""
    return {"vbat": wake.battery()}
'''

SETTINGS = """# Settings of this project. It may hold passwords: keep it out of git.

# The broker. Boards need this machine's address here instead: `dormouse broker run --lan` prints it.
broker = "mqtt://127.0.0.1"
db = "ledger.db"        # the ledger, this project's database of devices and commands
# root = "dormouse"     # first levels of every topic
# What the broker does otherwise than mosquitto: `dormouse broker check URL --keep` writes it here.

[wifi]                  # of the boards; `dormouse flash` asks for it while it is empty
ssid = ""
# password = ""         # or WIFI_PASSWORD in the environment
# also = [{ssid = "barn", password = ""}]  # others, in the order in which they are preferred

# [mqtt]                # what the devices log in with
# user = ""
# password = ""         # or MQTT_PASSWORD

[app]
main = "app.py"
# files = ["sensor.py"]                           # further files, under the same path on the board
# packages = ["aioble", "github:org/repository"]  # as mpremote mip takes them

[device]                # keys of config.json for every device
connect_every = 900     # s between two wakes that connect
# sample_every = 300    # s between two readings

# [devices.greenhouse]  # and for one: dormouse flash greenhouse
# board = "RPI_PICO_W"
# port = "/dev/ttyACM0"
# connect_every = 3600
# address = "192.168.1.50/24"
# gateway = "192.168.1.1"

# [alerts]              # the relay tells what is wrong: docs/desk.md; an empty table is enough
# notify = ["ntfy://ntfy.example/greenhouse"]     # Apprise's URLs
# quiet = "22:00-07:00"
# battery = 3.3         # V

# [homeassistant]       # the relay tells Home Assistant of every device
"""

TEST = '''"""The program on a virtual board: real MicroPython, broker and ledger. Run `pytest` in this project."""


def test_blink_says_how_often_it_blinked(virtual_device):
    device = virtual_device("RPI_PICO_W", "../app.py")  # the path is relative to this file
    done = device.run("blink", times=3)  # sends the command, and wakes the device until it has run
    assert done.value == {"blinked": 3}
'''

README = """# {name}

The program of a device that sleeps, for Dormouse. `app.py` is the program, `dormouse.toml` has the settings.

## Run it without a board

In this folder, the first two each in a terminal of its own:

    dormouse broker run        # the broker, where commands wait for the device
    dormouse relay             # carries commands to the broker, and results back
    dormouse agent run app.py --device {name} --state state    # one wake of the device: it reports, then sleeps
    dormouse send {name} blink times=3                         # prints the command's id
    dormouse agent run app.py --device {name} --state state    # the next wake runs it
    dormouse status

In the place of `agent run`, a virtual board, which wakes by itself; its 15 minutes of sleep pass in 15 seconds:

    dormouse board run RPI_PICO_W --dir build/board --app app.py --device {name} --speed 60

## On a board

1. `dormouse broker run --lan` prints this machine's address: write it to `broker` in `dormouse.toml`.
2. `dormouse flash {name} --board RPI_PICO_W`, or `ESP32_GENERIC`, …; it asks for the Wi-Fi's name and password.

Then `dormouse relay` and `dormouse send` as above; the board wakes by itself.
`dormouse doctor` helps where no port is found.

## Tests

    pip install pytest && pytest

They flash the program onto a virtual board: real MicroPython, a broker of its own, no hardware. mosquitto must be
installed. `dormouse.toml` is not in git, since it may hold passwords: in a fresh clone `dormouse init .` makes one.
Where its `[app]` names further files, tests elsewhere need it: put it into git, and its passwords into the environment
as WIFI_PASSWORD and MQTT_PASSWORD.
"""

PYTEST = """\
# This folder is pytest's, also inside of a repository that has settings of its own.
[pytest]
testpaths = tests
"""

IGNORED = """\
# may hold secrets
/dormouse.toml
/devices/
/broker/
secrets.json
*.key
*.env
passwd

# made by running
/build/
*.db
*.db-*
state/
__pycache__/
.pytest_cache/
.venv/
"""


def init(folder: Path) -> list[str]:
    """Create the missing files of a project in `folder`. Returns their names. HostError where that is impossible.

    Settings, which may hold passwords, are readable by their owner only.
    """
    made = []
    try:
        for path, text, mode in (
            (".gitignore", IGNORED, files.PUBLIC),
            ("app.py", APP, files.PUBLIC),
            ("dormouse.toml", SETTINGS, files.PRIVATE),
            ("README.md", README.format(name=_device(folder.resolve().name)), files.PUBLIC),
            ("pytest.ini", PYTEST, files.PUBLIC),
            ("tests/test_app.py", TEST, files.PUBLIC),
        ):
            place = folder / path
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                files.write(place, text, mode)
                made.append(path)
    except OSError as error:
        raise HostError(f"{error.filename or folder}: {error.strerror}") from None
    return made


def _device(name: str) -> str:
    """The folder's name where it can be a device's, else one that can."""
    try:
        checked: str = protocol.check_device_id(name)
    except ConfigError:
        return "greenhouse"
    return checked


def remember_wifi(folder: Path, ssid: str, password: str) -> bool:
    """Write a Wi-Fi to the settings that `init` made. False where those are no longer as made, and so stay as they are.

    HostError where the file cannot be written.
    """
    path = folder / "dormouse.toml"
    found = files.find(path)
    text = "" if found is None else found.decode(errors="replace")
    if not all(quotable(value) for value in (ssid, password)) or text.count('\nssid = ""\n') != 1:
        return False
    text = text.replace('\nssid = ""\n', f'\nssid = "{ssid}"\n')
    if password:
        line = re.compile(r'^# password = ""(?= +# or WIFI_PASSWORD)', re.MULTILINE)
        text, changed = line.subn(lambda _: f'password = "{password}"', text, 1)
        if not changed:
            return False
    files.write(path, text)
    return True


def quotable(value: str) -> bool:
    """Can this stand between quotes in TOML as it is?"""
    return value.isprintable() and not set(value) & {'"', "\\"}
