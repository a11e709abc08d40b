"""The frame of every page: its head, the links, the sign of trouble, dark or light; and the few elements they share.

Must stay true: what is given to `show` was made harmless before; every other text goes into the page as text.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from nicegui import ui

from dormouse_host.terminal import safe
from dormouse_host.web.gate import SIGN_OUT
from dormouse_host.web.live import LOOK, Hub

LINKS = {"/": "Fleet", "/alerts": "Alerts", "/groups": "Groups", "/rollouts": "Rollouts and updates"}
DARK = "dormouse_dark"  # a cookie: `dark`, `light`, or nothing where the system decides
_TURN = """(() => { const next = {"": "dark", dark: "light", light: ""};
  const now = (document.cookie.match(/dormouse_dark=(\\w*)/) || ["", ""])[1];
  document.cookie = `dormouse_dark=${next[now]}; path=/; max-age=31536000; samesite=strict`;
  return next[now]; })()"""


def _text(name: str) -> str:
    return files("dormouse_host.web").joinpath(name).read_text()


class Frame:
    """A page under way."""

    def __init__(self, hub: Hub, here: str, title: str, dark: str, *, guarded: bool) -> None:
        """`dark`: what the cookie says; `guarded`: one signs in to this page."""
        self.hub = hub
        charts = files("dormouse_host.desk").joinpath("charts.css").read_text()
        ui.page_title(f"{safe(title)} · Dormouse")
        ui.add_css(_text("style.css") + charts)
        ui.add_body_html(f"<script>{_text('page.js')}</script>")
        self._dark = ui.dark_mode({"dark": True, "light": False}.get(dark))
        self._trouble = ui.element("div").classes("trouble").props('role="alert"')
        with ui.element("header").classes("desk"):
            with ui.element("b"):
                ui.label("Dormouse")
            with ui.element("nav").classes("bar").props('aria-label="Pages"'):
                for path, name in LINKS.items():
                    made = ui.link(name, path).props('aria-current="page"' if path == here else "")
                    if path == "/alerts":
                        self._alerts = made
            ui.element("span").classes("space")
            self._relays = ui.label().classes("dim")
            if hub.actions.read_only:
                ui.label("read-only").classes("flag")
            button("Dark or light", self._turn)
            if guarded:
                with ui.element("form").props(f'method="post" action="{SIGN_OUT}"').classes("plain"):
                    show('<button class="plain">Sign out</button>')
        self._seen = -1
        self._busy = self._always = False
        self._draw: Callable[[], Awaitable[None]] | None = None

    @contextmanager
    def content(self) -> Iterator[None]:
        """The page's own part."""
        with ui.element("div").classes("page"):
            yield

    def live(self, draw: Callable[[], Awaitable[None]], *, always: bool = False) -> None:
        """Draw it now, and anew whenever there is news; `always`: at each look, and it is for `draw` to find out."""
        self._draw, self._always = draw, always
        ui.timer(LOOK, self._look)

    async def again(self) -> None:
        """Draw it anew, whether there is news or not."""
        self._seen = -1
        await self._look()

    async def _look(self) -> None:
        if self._busy or self._draw is None or (self._seen == self.hub.version and not self._always):
            return
        self._busy = True
        try:
            self._seen = self.hub.version
            self._say(self.hub.wrong)
            count = len(self.hub.alerts)
            self._alerts.set_text(f"{LINKS['/alerts']} ({count})" if count else LINKS["/alerts"])
            alive = self.hub.relays
            self._relays.set_text(f"{alive} relay{'' if alive == 1 else 's'} at work" if alive else "no relay at work")
            await self._draw()
        finally:
            self._busy = False

    def _say(self, wrong: str | None) -> None:
        self._trouble.clear()
        if wrong:
            with self._trouble:
                ui.label(f"What is shown is old: {safe(wrong)}")

    async def _turn(self) -> None:
        chosen = await ui.run_javascript(_TURN)
        self._dark.set_value({"dark": True, "light": False}.get(chosen))


def button(text: str, act: Callable[[], Any], more: str = "") -> ui.element:
    """A button that the keyboard reaches."""
    made = ui.element("button").classes(f"plain {more}").props('type="button"').on("click", lambda _: act())
    with made:
        ui.label(text)
    return made


def show(html: str = "", tag: str = "div") -> ui.html:
    """HTML whose texts were made harmless before."""
    return ui.html(html, sanitize=False, tag=tag)


def tell(text: str, *, good: bool = True) -> None:
    """A line for a moment, as text."""
    ui.notify(safe(text), type="positive" if good else "negative", position="bottom", close_button=True, timeout=8000)
