"""One unruly program: its text on a board and on this machine, and what its device has to say of it.

Must stay true: a program is unruly in one place only, which its row names; everything else in it is as a person would
write it.
"""

from dataclasses import dataclass, field

HEAD = """
from dormouse import command, telemetry

KEEP = []


@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)


@telemetry()
def good(wake):
    return {"good": 1}


def unruly(wake=None):
"""
PLACES = {
    "import": "unruly()\n",
    "safe_state": "def safe_state():\n    unruly()\n",
    "reading": "@telemetry()\ndef bad(wake):\n    return unruly(wake)\n",
    "handler": '@command("go", limit=5)\ndef go(wake):\n    return unruly(wake)\n',
    "repeatable": '@command("go", limit=5, repeatable=True)\ndef go(wake):\n    return unruly(wake)\n',
}
LEFT_OUT = {
    "import": ("import left out",),
    "safe_state": ("safe_state left out",),
    "reading": ("reading bad left out",),
    "handler": ("interrupted",),
    "repeatable": ("interrupted",),
}
BOARDS = ("ESP32_GENERIC", "RPI_PICO_W")
PORTS = (*BOARDS, "posix")


@dataclass(frozen=True)
class Program:
    """`body`: what it does, at `place` (one of PLACES, or "" for a whole program); `posix`: the same on this machine.

    `tells`: words of which one has to be in a wake report or in the result of `go`; () where the device has nothing to
    tell, because nothing was lost; "" where it may. `wakes`: of those that connect, how many it may take. `files`:
    further files beside app.py. `later`: it shows in the wakes after its first, whose end the ping waits for. `ports`:
    where it can be tried; `window`: seconds more that it is awake; `why`: why that, or why not elsewhere.
    """

    name: str
    place: str
    body: str
    tells: tuple[str, ...] = ()
    posix: str = ""
    wakes: int = 3
    files: dict[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = PORTS
    window: float = 0
    later: bool = False
    why: str = ""

    def text(self, port: str) -> str:
        """Its app.py for this port."""
        body = self.posix if port == "posix" and self.posix else self.body
        if not self.place:
            return body
        lines = "".join(f"    {line}\n" if line.strip() else "\n" for line in body.strip("\n").splitlines())
        return f"{HEAD}{lines}\n\n{PLACES[self.place]}"

    @property
    def asks(self) -> bool:
        """Does it take a command to make it unruly?"""
        return self.place in ("handler", "repeatable")


def hangs(name: str, place: str, body: str, posix: str = "", **more) -> Program:
    """A program whose piece never comes back, or ends the wake: the next one names that piece."""
    return Program(name, place, body, LEFT_OUT[place], posix, **more)
