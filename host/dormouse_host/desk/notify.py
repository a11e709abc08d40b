"""Notifications for people, by Apprise.

Must stay true: each URL is a channel of its own, so that one which fails repeats nothing at another; a try has a
deadline; nothing of a URL but its scheme is in an error or a log, because it holds passwords.
"""

import logging
import threading
from typing import Any

from dormouse_host.errors import HostError

WITHIN = 60.0  # seconds for one notification; Apprise's own limits are below that


def scheme(url: str) -> str:
    """What of a URL may be shown."""
    found = url.partition(":")[0]
    return found if found.isalnum() else "?"


class Notifier:
    """One of Apprise's URLs."""

    def __init__(self, url: str, name: str) -> None:
        """HostError where Apprise is missing or the URL is none of its own; `name` is told then."""
        try:
            import apprise
        except ModuleNotFoundError:
            raise HostError("notify needs Apprise: pip install 'dormouse-mqtt[alerts]'", 2) from None
        logger = logging.getLogger("apprise")  # what it writes has URLs in it
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._scheme = scheme(url)
        self._apprise: Any = apprise.Apprise()
        self._at_work: threading.Thread | None = None
        try:
            understood = self._apprise.add(url)
        except Exception:  # whatever a plug-in of Apprise raises for a malformed URL
            understood = False
        if not understood:
            raise HostError(f"{name}: not a URL of Apprise ({self._scheme}://…)", 2)

    def send(self, title: str, text: str, within: float = WITHIN) -> None:
        """Deliver it; HostError where that fails, or takes longer."""
        if self._at_work is not None and self._at_work.is_alive():
            raise HostError(f"notify {self._scheme}: the last try has not ended")
        answer: list[bool] = []

        def work() -> None:
            try:
                answer.append(bool(self._apprise.notify(title=title, body=text)))
            except Exception:  # plug-ins raise what they like; the text may hold the URL
                answer.append(False)

        self._at_work = threading.Thread(target=work, daemon=True)
        self._at_work.start()
        self._at_work.join(within)
        if not answer:
            raise HostError(f"notify {self._scheme}: not delivered within {within:g} s")
        if not answer[0]:
            raise HostError(f"notify {self._scheme}: not delivered")
