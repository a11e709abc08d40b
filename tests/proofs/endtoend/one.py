"""One run in a process of its own, as `python -m proofs.endtoend` starts it: several can wait at the same time.

python -m proofs.endtoend.one CASE SEED SIZE [URL]     prints what it came to as one line of JSON
"""

import json
import signal
import sys
from contextlib import redirect_stdout

from proofs.endtoend.runs import run


def main(case: str, seed: str, size: str, url: str | None = None) -> None:
    """Run it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with redirect_stdout(sys.stderr):
        outcome = run(case, int(seed), float(size), url=url)
    print(json.dumps({"line": outcome.line, "verdict": vars(outcome.verdict)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
