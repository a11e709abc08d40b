"""The agent on a virtual board, as the tests of the boards' ports put it there: mpremote, then a reset.

Must stay true: what lies on the board is what `dormouse flash` would put there; nothing of the agent is replaced.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dormouse_host.agent import mpy, toolchain
from dormouse_host.agent.log import Event, parse
from dormouse_host.agent.mpy import compile_file
from dormouse_host.virtual.board import VirtualBoard

APP = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)

@command("work", limit=12, s=int)
def work(wake, s):
    import time
    wake.log("working")
    time.sleep(s)  # and not wake.hold: nothing feeds but what the limit allows
"""
MAIN = "import dormouse\ndormouse.run('app')\n"
GUARDED = "import guard\nguard.run('app')\n"  # as a flash has it, so that a damaged agent is still started


def install(
    board: VirtualBoard,
    folder: Path,
    broker: str,
    app: str = APP,
    main: str = MAIN,
    also: tuple[tuple[str, str], ...] = (),
    **config: object,
) -> int:
    """Put agent, app and configuration on the board and reset it. Returns how much its console had said by then.

    `also`: further Wi-Fis with their passwords.
    """
    folder.mkdir(exist_ok=True)
    for name, data in mpy.agent_files(board.kind.port).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    compile_file(toolchain.umqtt_folder() / "umqtt" / "simple.py", folder / "lib" / "umqtt" / "simple.mpy")
    (folder / "guard.mpy").write_bytes(mpy.guard())
    (folder / "app.py").write_text(app)
    (folder / "main.py").write_text(main)
    values = {"id": "dev", "broker": broker, "ssid": "virtual", "clock": "none", "connect_every": 60, **config}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "secrets.json").write_text(json.dumps({"wifi_password": "virtual-password", "wifi": also}))
    names = [str(path) for path in sorted(folder.iterdir())]
    said = len(board.console)
    board.mpremote("cp", "-r", *names, ":", "+", "reset")
    return said


def put(board: VirtualBoard, folder: Path, name: str, text: str, where: str = "") -> None:
    """One more file, over a prompt that is there."""
    (folder / name).write_text(text)
    board.mpremote("resume", "cp", str(folder / name), f":{where}{name}")


def told(board: VirtualBoard, after: int = 0) -> list[Event]:
    """The events of the device's log, from a position of its console on."""
    lines = board.console[after:].splitlines()
    found = (parse(line[max(line.find("dormouse "), 0) :]) for line in lines)  # the first may follow mpremote's talk
    return [event for event in found if event]


def fields(board: VirtualBoard, name: str, after: int = 0) -> list[dict[str, Any]]:
    """Of each event of that name."""
    return [event.fields for event in told(board, after) if event.name == name]


def prompt_answers(board: VirtualBoard) -> bool:
    """Does the unmodified mpremote get the prompt, and leave things as they are?"""
    argv = [sys.executable, "-m", "mpremote", "connect", board.port, "resume", "exec", "print(6 * 7)"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() == "42"
