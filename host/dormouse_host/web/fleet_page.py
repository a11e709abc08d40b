"""The first page: all devices, filtered and sorted on the server, a page of them at a time, live."""

import asyncio
from dataclasses import replace
from functools import partial

from nicegui import ui

from dormouse_host.web import table
from dormouse_host.web.frame import Frame, button, show
from dormouse_host.web.table import COLUMNS, ROWS, Asked

_ONLY = {"": "All", "overdue": "Overdue", "faults": "With faults", "pending": "Pending"}


class FleetPage:
    """The table and its controls."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.hub = frame, frame.hub
        self.asked = Asked()
        with frame.content(), ui.element("div").classes("card"):
            with ui.element("div").classes("bar"):
                with ui.element("h1"):
                    self.title = ui.label("Fleet")
                search = ui.input(placeholder="Filter: id, group, version  ( / )", on_change=self._search)
                search.props('dense outlined clearable debounce=200 input-class="search" aria-label="Filter"')
                search.props("data-search")
                self.group = ui.select([""], value="", label="Group", on_change=self._choose_group)
                self.group.props("dense outlined options-dense").style("min-width: 9rem")
                self.only = {name: button(text, partial(self._choose, name)) for name, text in _ONLY.items()}
            with ui.element("div").classes("wide"), ui.element("table").classes("desk cards"):
                with ui.element("thead"), ui.element("tr"):
                    self.heads = {name: self._head(name, text) for name, text in COLUMNS.items()}
                self.body = show(tag="tbody")
            with ui.element("div").classes("bar").style("margin-top: .6rem"):
                self.back = button("← Earlier", lambda: self._turn(-1))
                self.forth = button("Later →", lambda: self._turn(1))
                self.place = ui.label().classes("dim")
        frame.live(self.draw)

    def _head(self, name: str, text: str) -> ui.element:
        head = ui.element("th").props('scope="col"')
        with head, ui.element("button").props('type="button"').on("click", lambda _: self._sort(name)):
            ui.label(text)
        return head

    async def draw(self) -> None:
        """The rows as they are now."""
        now = self.hub.fleet.clock()
        rows, count, self.asked = table.choose(self.hub.glances, self.asked, now)
        volts = await asyncio.to_thread(self.hub.batteries, rows)
        self.body.set_content(table.html(rows, volts, now))
        self.title.set_text(f"Fleet: {len(self.hub.glances)} device{'' if len(self.hub.glances) == 1 else 's'}")
        first = self.asked.page * ROWS
        self.place.set_text(f"{first + 1} to {first + len(rows)} of {count}" if rows else "")
        self._enable(self.back, self.asked.page > 0)
        self._enable(self.forth, first + len(rows) < count)
        for name, head in self.heads.items():
            order = ("descending" if self.asked.down else "ascending") if name == self.asked.by else "none"
            head.props(f'aria-sort="{order}"')
        for name, each in self.only.items():
            each.props(f'aria-pressed="{"true" if name == self.asked.only else "false"}"')
        groups = {"": "All groups", **{name: name for name in self.hub.groups}}
        if self.group.options != groups:
            self.group.set_options(groups, value=self.asked.group if self.asked.group in groups else "")

    @staticmethod
    def _enable(made: ui.element, on: bool) -> None:
        made.props(remove="disabled") if on else made.props("disabled")

    async def _ask(self, asked: Asked) -> None:
        self.asked = asked
        await self.frame.again()

    async def _search(self, event: object) -> None:
        await self._ask(replace(self.asked, words=str(getattr(event, "value", "") or "")[:100], page=0))

    async def _choose_group(self, event: object) -> None:
        await self._ask(replace(self.asked, group=str(getattr(event, "value", "") or ""), page=0))

    async def _choose(self, name: str) -> None:
        await self._ask(replace(self.asked, only=name, page=0))

    async def _sort(self, name: str) -> None:
        down = not self.asked.down if name == self.asked.by else False
        await self._ask(replace(self.asked, by=name, down=down, page=0))

    async def _turn(self, step: int) -> None:
        await self._ask(replace(self.asked, page=self.asked.page + step))
