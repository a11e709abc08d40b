"""A PDF of the report, printed by the Chromium of this machine.

Must stay true: Chromium reads one file, runs no script of it, loads nothing from a network, and is gone afterwards.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dormouse_host.errors import HostError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 300  # seconds


def chromium() -> str | None:
    """The path of this machine's Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def print_pdf(page: Path, target: Path) -> None:
    """Print a page of HTML to a PDF. HostError where there is no Chromium, or where it fails."""
    program = chromium()
    if program is None:
        raise HostError("a PDF is printed by Chromium: apt-get install chromium, or write the report as .html", 2)
    with tempfile.TemporaryDirectory(prefix="dormouse-pdf-") as folder:
        made = Path(folder) / "report.pdf"
        argv = [program, "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions"]
        argv += ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none; the page has no script and loads nothing
        argv += ["--disable-background-networking", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile"]
        argv += [f"--print-to-pdf={made}", page.resolve().as_uri()]
        try:
            ended = subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            raise HostError(f"Chromium printed no PDF within {_PATIENCE} s") from None
        if ended.returncode or not made.exists():
            said = (ended.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise HostError(f"Chromium printed no PDF: {said[:200]}")
        shutil.copyfile(made, target)
