"""What went wrong in the program: loaded only once something has.

Must stay true: however deep a traceback is, its innermost frames are kept in bounded memory.
"""

import io
import json
import sys

_FRAMES = 3
_LINE = 240  # characters of a traceback's line
_REASONS = 480  # characters of reasons that a report repeats of readings


class _Traceback(io.IOBase):
    """Takes in a traceback that is printed, and keeps its innermost frames, the innermost first."""

    def __init__(self):
        self.frames = []
        self.depth = 0
        self.line = ""

    def write(self, data):
        text = data if isinstance(data, str) else bytes(data).decode()
        for line in text.split("\n")[:-1]:
            self._end(self.line + line)
            self.line = ""
        self.line = (self.line + text[text.rfind("\n") + 1 :])[:_LINE]
        return len(data)

    def _end(self, line):
        if line[:8] == '  File "':
            name, _, rest = line[8:].partition('", line ')
            if name[:1] != "<":  # CPython's own import
                self.depth += 1
                self.frames.insert(0, name.split("/")[-1] + ":" + rest.replace(", in", " in"))
                del self.frames[_FRAMES:]


def place(error):
    """File, line and function of the innermost frames, the innermost first; without the outermost of all, which is that
    of the agent's function that caught `error`.
    """
    trace = _Traceback()
    sys.print_exception(error, trace)  # type: ignore[attr-defined]
    return ", ".join(trace.frames[: trace.depth - 1])


def failed_readings(text, wake):
    """Of the readings and values that the wakes after this one have lost, by the log's `text`, why each was: a dict, or
    None.
    """
    found, size = {}, 0
    for line in text.split("\n"):
        number, _, event = line.partition(" ")
        if '"telemetry"' in event and number.isdigit() and int(number) > wake:
            try:
                fields = json.loads(event[event.find("{") :])
                name, why = str(fields["stage"]), str(fields["why"])
            except (ValueError, KeyError):
                continue  # cut off, or the program's own
            found[name] = why[: max(0, _REASONS - size)]
            size += len(name) + len(why)
    return found or None
