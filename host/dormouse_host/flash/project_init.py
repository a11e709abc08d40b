"""A new project's folder: a program, its settings, and what git leaves alone.

Must stay true: a file that is there is never touched; what is written works as it stands, once Wi-Fi and broker are
filled in; the settings, for passwords go there, are their owner's alone.
"""

from pathlib import Path

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

SETTINGS = """# Settings of this project. It holds passwords: keep it out of git.

# The broker as the boards reach it, so never localhost. `dormouse broker run --lan` starts one and says where.
broker = "mqtt://192.168.1.10"

# root = "dormouse"     # first levels of every topic
# db = "ledger.db"      # the ledger of `dormouse send`; else a file of this user's

[wifi]
ssid = ""
# password = ""         # or WIFI_PASSWORD in the environment

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
"""

IGNORED = "/dormouse.toml\n/devices/\n/secrets.json\n*.db\n__pycache__/\n"


def init(folder: Path) -> list[str]:
    """Make what is missing of a project in `folder`; the names of what was made. HostError when it can't be written."""
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text, mode in (
            ("app.py", APP, files.PUBLIC),
            ("dormouse.toml", SETTINGS, files.PRIVATE),
            (".gitignore", IGNORED, files.PUBLIC),
        ):
            path = folder / name
            if not path.exists():
                files.write(path, text, mode)
                made.append(name)
    except OSError as error:
        raise HostError(f"{error.filename or folder}: {error.strerror}") from None
    return made
