"""True names in what a board says: a bundled agent has short ones, and so have MicroPython's texts about it."""

from dormouse import protocol
from dormouse_host.agent.log import parse
from dormouse_host.flash import kinds


def explained(text: str, agent: object, firmware: object) -> str:
    """A text from a board, with the agent's true names added.

    `agent` and `firmware` are those of its boot line or wake report. Unchanged where they are of another version, or of
    no board.
    """
    if agent != protocol.VERSION or not any(words in text for words in ("has no attribute", "isn't defined")):
        return text
    from dormouse_host.agent import mpy  # takes long to load

    build = str(firmware).partition(" ")[0]
    for port in {board.port for board in map(kinds.load, kinds.names()) if build.startswith(board.builds)}:
        text = mpy.true_names(port).explained(text)
    return text


class Explainer:
    """Explains a log line by line, with what its last boot line said."""

    def __init__(self) -> None:
        self._boot: tuple[object, object] = None, None

    def __call__(self, line: str) -> str:
        event = parse(line)
        if event and event.name == "boot":
            self._boot = event.fields.get("agent"), event.fields.get("fw")
        return explained(line, *self._boot)
