"""The page as people use it: `dormouse web` in a process of its own, and this machine's Chromium by Playwright.

Must stay true: both end with the `with` block, and what the page wrote to stderr or the browser's console is kept.
"""

import os
import re
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

from dormouse_host.desk import pdf

PICTURES = Path(__file__).resolve().parents[2] / "build" / "pictures"


class Web:
    """A running `dormouse web`. `url` is where it says that it is."""

    def __init__(self, where: str, *options: str, **environment: str) -> None:
        self._argv = [sys.executable, "-m", "dormouse_host.cli", "web", "--port", "0", "--db", where, *options]
        self._environment = {**os.environ, **environment}
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment
        )
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if selector.select(60) else ""
        if not line.startswith("http"):
            self.process.kill()
            raise AssertionError(f"dormouse web did not start: {self.process.communicate()}")
        self.url = line.strip()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> tuple[int, str]:
        """End it as a service manager does. Returns its exit code, and what it wrote to stderr."""
        self.process.terminate()
        try:
            _, said = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        return self.process.returncode, said

    def memory(self) -> float:
        """The most memory that it has had, in MB of 10^6 bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024 / 1e6


class Browser:
    """A Chromium. `page` is one of its pages; `said` what its console and its errors said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.asked: set[str] = set()  # the hosts that were asked for anything

    def __enter__(self) -> Self:
        program = pdf.chromium()
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail("chromium is not installed: apt-get install chromium", pytrace=False)
            pytest.skip("chromium is not installed: apt-get install chromium")
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        self.page = self.new()
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def new(self, **how: Any) -> Any:
        """A page with cookies of its own; `how` as Playwright's new_context takes it."""
        how = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "ignore_https_errors": True, **how}
        page = self._browser.new_context(**how).new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))
        return page


def picture(page: Any, name: str) -> Path:
    """Keep a picture of a page among the test's artefacts."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    time.sleep(0.3)  # what fades in has
    target = PICTURES / f"{name}.png"
    page.screenshot(path=str(target), full_page=True)
    return target
