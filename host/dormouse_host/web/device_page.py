"""A device: how it is, its life as a swim-lane that can be zoomed, its charts, its commands live, and a form."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from nicegui import ui

from dormouse_host.desk import lanes
from dormouse_host.desk.charts import DAY, HOUR, MINUTE, Scale, duration, shown
from dormouse_host.fleet import CommandView
from dormouse_host.terminal import safe
from dormouse_host.web import parts
from dormouse_host.web.frame import Frame, button, show, tell
from dormouse_host.web.live import asked
from dormouse_host.web.send_form import SendForm

SPANS = {"1 min": MINUTE, "1 h": HOUR, "6 h": 6 * HOUR, "1 d": DAY, "1 w": 7 * DAY, "1 mo": 30 * DAY, "1 y": 365 * DAY}
_FINAL, _LINES, _ALL = 30, 60, 10 * 365 * DAY
_FINE = 200  # of a span: it is drawn anew once the present has gone on by so small a part
_STEP = 0.5  # of the span, that an arrow moves


class DevicePage:
    """One device. Its clock is that of the machine on which the page runs."""

    def __init__(self, frame: Frame, device: str) -> None:
        self.frame, self.hub, self.device = frame, frame.hub, device
        self.zone = None  # this machine's
        self.span = float(DAY)
        self.end: float | None = None  # None: it follows the present
        self._open: list[Any] = []
        self._mark: Any = None
        self._drawn = 0.0  # up to when; 0: draw it anew, whether there is news or not
        with frame.content():
            with ui.element("div").classes("card"):
                with ui.element("h1"):
                    ui.label(safe(device))
                self.facts = show()
            with ui.element("div").classes("card"):
                self._life()
            with ui.element("div").classes("two"):
                with ui.element("div").classes("card"):
                    self._heading("Commands")
                    self.open = ui.element("div").classes("form waiting").props('aria-live="polite"')
                    self.final = show()
                with ui.element("div"):
                    if not self.hub.actions.read_only:
                        with ui.element("div").classes("card"):
                            self._heading("Send a command")
                            self.form: SendForm | None = SendForm(frame, lambda: [device], self._again)
                    else:
                        self.form = None
            with ui.element("div").classes("card"):
                self._heading("Charts")
                self.charts = show()
            with ui.element("div").classes("two"):
                for name in ("settings", "log"):
                    with ui.element("div").classes("card"):
                        self._heading({"settings": "Settings and updates", "log": "What happened last"}[name])
                        setattr(self, name, show())
        frame.live(self.draw, always=True)

    settings: ui.html
    log: ui.html

    @staticmethod
    def _heading(text: str) -> None:
        with ui.element("h2"):
            ui.label(text)

    def _life(self) -> None:
        self._heading("Its life")
        with ui.element("div").classes("bar").props('role="group" aria-label="Span"'):
            button("◀", lambda: self._move(-_STEP)).props('aria-label="Earlier"')
            button("▶", lambda: self._move(_STEP)).props('aria-label="Later"')
            button("−", lambda: self._zoom(2.0)).props('aria-label="Zoom out"')
            button("+", lambda: self._zoom(0.5)).props('aria-label="Zoom in"')
            self.spans = {name: button(name, partial(self._show, each)) for name, each in SPANS.items()}
            button("All", self._show_all)
            self.now = button("Now", self._follow)
        box = ui.element("div").classes("lanes-box").props('tabindex="0" aria-label="The life of this device"')
        wanted = ["offsetX", "deltaY", "target.clientWidth", "ctrlKey"]
        box.on(
            "wheel.ctrl.prevent",
            lambda event: self._zoom(2.0 if event.args["deltaY"] > 0 else 0.5),
            wanted,
            throttle=0.2,
        )
        for key, act in self._keys().items():
            box.on(f"keydown.{key}.prevent", lambda _, act=act: act())
        with box:
            self.lanes = show()
        self.ways = ui.label().classes("ways")

    def _keys(self) -> dict[str, Callable[[], Any]]:
        return {
            "left": lambda: self._move(-_STEP),
            "right": lambda: self._move(_STEP),
            "up": lambda: self._zoom(0.5),
            "down": lambda: self._zoom(2.0),
        }

    async def _again(self) -> None:
        self._drawn = 0.0
        await self.frame.again()

    # ---- the span

    async def _show(self, span: float) -> None:
        self.span = float(span)
        await self._again()

    async def _show_all(self) -> None:
        first = await asyncio.to_thread(self.hub.fleet.oldest, self.device)
        now = self.hub.fleet.clock()
        self.span, self.end = max(float(MINUTE), (now - (first or now)) * 1.02), None
        await self._again()

    async def _follow(self) -> None:
        self.end = None
        await self._again()

    async def _move(self, part: float) -> None:
        now = self.hub.fleet.clock()
        end = (self.end or now) + part * self.span
        self.end = None if end >= now else end
        await self._again()

    async def _zoom(self, times: float) -> None:
        span = min(max(self.span * times, float(MINUTE)), float(_ALL))
        if self.end is not None:  # around the middle
            self.end += (span - self.span) / 2
        self.span = span
        await self._again()

    # ---- what is drawn

    async def draw(self) -> None:
        """All of it, as it is now."""
        until = self.end or self.hub.fleet.clock()
        mark, _ = await asked(self.hub.fleet.mark, self.device)
        if self._drawn and mark == self._mark and abs(until - self._drawn) < self.span / _FINE:
            return
        found, wrong = await asked(self._read, until - self.span, until)
        if wrong is not None:
            self.facts.set_content(f'<p class="word-bad">{shown(wrong)}</p>')
            return
        self._mark, self._drawn = mark, until
        view, understood, life, commands, settings, updates, log = found
        now = self.hub.fleet.clock()
        self.facts.set_content(parts.facts(view, life, now))
        self.lanes.set_content(lanes.picture(life, self.zone))
        told = "" if life.whole else " More than is drawn: the oldest of it is left out."
        start, stop = (
            datetime.fromtimestamp(at, self.zone).strftime("%Y-%m-%d %H:%M:%S") for at in (life.since, until)
        )
        self.ways.set_text(
            f"{start} to {stop}, {duration(self.span)}. Arrow keys move and zoom, Ctrl and wheel zoom.{told}"
        )
        for name, each in self.spans.items():
            each.props(f'aria-pressed="{"true" if SPANS[name] == self.span else "false"}"')
        self.now.props(f'aria-pressed="{"true" if self.end is None else "false"}"')
        self.charts.set_content(parts.drawn(life, Scale(life.since, life.until), self.zone))
        self._show_commands(commands)
        self.settings.set_content(parts.settings(settings[1]) + parts.updates(updates))
        self.log.set_content(f'<div class="log" tabindex="0" aria-label="Log">{parts.log(log, self.zone)}</div>')
        if self.form:
            self.form.offer(understood, known=view.catalogue is not None)

    def _read(self, since: float, until: float) -> tuple[Any, ...]:
        fleet, device = self.hub.fleet, self.device
        (view,) = fleet.status(device)
        return (
            view,
            fleet.understood(device),
            fleet.life(device, since, until),
            fleet.latest(device, 100),
            fleet.settings(device),
            fleet.updates(device, final=True)[:5],
            fleet.log(device, _LINES),
        )

    def _show_commands(self, commands: Sequence[CommandView]) -> None:
        """The open ones each with its way so far and a button, the final ones as a table."""
        still = [each for each in commands if not each.final]
        if still != self._open:
            self._open = still
            self.open.clear()
            with self.open:
                for each in still:
                    with ui.element("div").classes("bar"):
                        show(parts.command(each))
                        if not self.hub.actions.read_only and not each.void:
                            button("Cancel", partial(self._cancel, each.name))
        self.final.set_content(parts.final([each for each in commands if each.final][:_FINAL], bool(still)))

    async def _cancel(self, name: str) -> None:
        found, wrong = await asked(self.hub.actions.cancel, name)
        if wrong is None and found.final:
            tell(f"{name} is {found.status}")
        elif wrong is None:
            tell(f"{name} is to be cancelled at the next wake")
        else:
            tell(wrong, good=False)
        await self._again()
