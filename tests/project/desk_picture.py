"""The picture of the page in README, taken anew: python -m project.desk_picture."""

import tempfile
import time
from pathlib import Path

from support import desk
from support.pages_in_browser import Browser, Web

TARGET = Path(__file__).resolve().parents[2] / "docs" / "desk.png"
HOURS = 40
MOST = 150_000  # bytes


def main() -> None:
    """Make a fleet, show one of its devices, keep what a screen shows."""
    with tempfile.TemporaryDirectory(prefix="dormouse-picture-") as folder:
        where = str(Path(folder) / "ledger.db")
        with desk.lived(where, HOURS, begin=time.time() - HOURS * desk.HOUR - 400) as lived:
            lived.fleet.send("bed-02", "water", {"s": 20})
        with Web(where) as web, Browser() as browser:
            page = browser.new(viewport={"width": 1060, "height": 690})
            page.goto(f"{web.url}device/bed-02")
            page.wait_for_selector("svg.lanes")
            page.get_by_role("button", name="All", exact=True).click()
            page.wait_for_timeout(1500)
            page.screenshot(path=str(TARGET))
    if TARGET.stat().st_size > MOST:
        raise SystemExit(f"{TARGET} has {TARGET.stat().st_size} bytes, more than {MOST}")


if __name__ == "__main__":
    main()
