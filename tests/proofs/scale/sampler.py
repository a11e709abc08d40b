"""A process samples itself: which function its CPU is in.

Must stay true: a sample is taken after each few milliseconds of its CPU (as the kernel ticks), wherever it is; it
counts for the innermost function of Python, a built-in one for its caller. While modules are loaded there is none.
"""

import atexit
import json
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY = 0.001  # seconds of CPU; the kernel makes four of it, or ten


def sample_into(path: Path) -> None:
    """Sample this process from now on; the file is there once it has ended."""
    seen: Counter[str] = Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        inner = f"{frame.f_code.co_filename} {frame.f_code.co_name}"
        up: FrameType | None = frame
        while up is not None:
            if up.f_code.co_filename.startswith("<frozen importlib"):
                return
            up = up.f_back
        seen[inner] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    atexit.register(lambda: path.write_text(json.dumps(seen)))
