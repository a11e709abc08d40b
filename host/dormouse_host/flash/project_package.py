"""device/package.json, by which `mpremote mip install` finds the agent's sources.

Must stay true: it lists every module that a board may need and no other platform's port.

    python -m dormouse_host.flash.project_package        writes it anew
"""

import json
import sys
from pathlib import Path

from dormouse import protocol
from dormouse_host.agent.process import agent_folder

_ELSEWHERE = ("ports/posix.py",)


def text() -> str:
    """What stands in the file."""
    root = agent_folder()
    names = sorted(str(path.relative_to(root / "dormouse")) for path in (root / "dormouse").rglob("*.py"))
    urls = [[f"dormouse/{name}", f"dormouse/{name}"] for name in names if name not in _ELSEWHERE]
    package = {"version": protocol.VERSION, "deps": [["umqtt.simple", "latest"]], "urls": urls}
    lines = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in package.items())
    return "{\n" + lines.replace("], [", "],\n    [") + "\n}\n"


def main() -> int:
    """Write it."""
    path = Path(agent_folder()) / "package.json"
    path.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
