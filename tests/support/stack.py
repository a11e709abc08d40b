"""What a wake takes of a Pico W's C stack, reckoned from the frames that it nests: sys.setprofile sees each on CPython.

A frame of bytecode takes the same of the stack wherever it stands; what C takes below the last one depends on what that
calls. The figures are of MicroPython 1.28 on an emulated RP2040 (`make pico`). The deepest interrupt is Wi-Fi's with a
question of multicast DNS that is answered: 1640 bytes by the firmware's code, 128 more where a name in it points to
others. It comes at the deepest point in one run of many; `make pico` has the same limit for the stack itself.

    python -m support.stack FOLDER        one wake of the device in FOLDER; prints what it took, as JSON
"""

import json
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

SIZE = 8192  # bytes of stack; Python stops 256 before its end
LIMIT = 5632  # … that a wake may take: what is left is for interrupts, and for what is not known yet
HANDLER = SIZE - 256 - 3072  # … at which a handler begins, at most: 3 KiB are its own
BASE = 192  # … below the first frame
FRAME = 220  # … of each
_STARTS = 2  # frames that only a board has: main.py, and `run` of ports/boot.py, which calls Agent.run
_INTERRUPT = 1770  # … in an interrupt
_HANDSHAKE = 2512  # … below the last frame, in TLS's handshake
_LWIP, _READS, _CHANGES = 450, 1030, 1330  # … in lwIP, and in littlefs, which reads or changes flash
_LEAF = 150  # … elsewhere
_READERS = {"storage.py": ("chunks", "_stat")}  # what goes to flash itself, by the agent's file
_WRITERS = {
    "storage.py": ("replace", "remove", "_call"),
    "update.py": ("_folders", "_empty"),
    "guard.py": ("write", "back"),
}
_ELSEWHERE = ("cpython_tls.py", "posix.py")  # modules that no board has


class Deepest(NamedTuple):
    """The deepest point of a wake: bytes of stack, and the functions that led there."""

    bytes: int
    frames: list[str]


def _counted(frame: FrameType | None, folders: tuple[str, ...]) -> Iterable[FrameType]:
    while frame:
        if frame.f_code.co_filename.startswith(folders) and not frame.f_code.co_filename.endswith(_ELSEWHERE):
            yield frame
        frame = frame.f_back


def _leaf(last: FrameType) -> int:
    """Bytes of stack below this frame."""
    file, name = Path(last.f_code.co_filename).name, last.f_code.co_name
    if file == "link.py" and name == "flush" and last.f_locals["self"].shaking:
        return _HANDSHAKE
    if name in _WRITERS.get(file, ()):
        return _CHANGES
    if name in _READERS.get(file, ()):
        return _READS
    return _LWIP if file == "link.py" else _LEAF


class Meter:
    """Counts while it is set as profile function. `folders`: where a device's code lies, its program's too."""

    def __init__(self, app: str, *folders: str) -> None:
        self._app = app
        self._folders = folders
        self.deepest = Deepest(0, [])
        self.handler = Deepest(0, [])

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(self._folders):
            return
        if "_sync" in (frame.f_code.co_name, frame.f_back and frame.f_back.f_code.co_name):
            return  # of a folder, which a board has not
        counted = list(_counted(frame, self._folders))
        if not counted:
            return
        nested = BASE + FRAME * (len(counted) + _STARTS)
        if nested + _HANDSHAKE + _INTERRUPT > min(self.deepest.bytes, self.handler.bytes):
            names = [f"{Path(each.f_code.co_filename).name}:{each.f_code.co_name}" for each in counted[::-1]]
            self.deepest = max(self.deepest, Deepest(nested + _leaf(counted[0]) + _INTERRUPT, names))
            if names[-1].startswith(self._app + ":"):
                self.handler = max(self.handler, Deepest(nested, names))


def main(folder: str) -> None:
    """One wake, measured."""

    from dormouse.agent import Agent
    from dormouse.guard import Slots
    from dormouse.ports.posix import Port

    class Quiet(Port):
        def emit(self, line: str) -> None:
            pass

    sys.path.insert(0, folder)
    slots = Slots(f"{folder}/") if Path(folder, "a").is_dir() else None
    paths = [find_spec(name) for name in ("dormouse", "umqtt")]
    folders = [place for spec in paths if spec for place in spec.submodule_search_locations or ()]
    meter = Meter("app.py", *folders, folder)
    sys.setprofile(meter)
    failure = Agent(Quiet(folder, slots)).run("app")
    sys.setprofile(None)
    print(json.dumps({"deepest": meter.deepest, "handler": meter.handler, "failure": failure and failure.reason}))


if __name__ == "__main__":
    main(sys.argv[1])
