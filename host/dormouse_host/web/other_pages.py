"""Alerts, groups, and rollouts with the updates: what there is, live, and what may be done with it."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from nicegui import ui

from dormouse_host.desk.charts import shown
from dormouse_host.fleet import AlertView, RolloutView, UpdateView
from dormouse_host.terminal import safe
from dormouse_host.web.frame import Frame, button, show, tell
from dormouse_host.web.live import asked
from dormouse_host.web.parts import table
from dormouse_host.web.send_form import SendForm
from dormouse_host.web.table import moment

_ORDERS = {
    "running": {"approve": "Approve the next wave", "abort": "Abort"},
    "stopped": {"resume": "Resume", "abort": "Abort"},
}
_BAD = ("failed", "rejected", "interrupted", "unknown", "cancelled", "expired")
_UPDATES = 100
_ALERTS, _PAST = 200, 30 * 86400  # alerts that are shown, and seconds since which they closed


class AlertsPage:
    """The alerts that are open, and those that have closed."""

    def __init__(self, frame: Frame) -> None:
        self.hub = frame.hub
        with frame.content(), ui.element("div").classes("card"):
            with ui.element("h1"):
                ui.label("Alerts")
            self.list = show()
        frame.live(self.draw)

    async def draw(self) -> None:
        """The alerts as they are now, the open ones first."""
        found, wrong = await asked(self.hub.fleet.alerts, self.hub.fleet.clock() - _PAST)
        if wrong is None:
            ordered = sorted(found, key=lambda each: each.closed is not None)
            self.list.set_content(_alerts(ordered[:_ALERTS]))


class GroupsPage:
    """The groups; a command for one; and the devices of one."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.hub = frame, frame.hub
        self.members: dict[str, list[str]] = {}
        with frame.content():
            with ui.element("div").classes("card"):
                with ui.element("h1"):
                    ui.label("Groups")
                self.list = show()
            if not self.hub.actions.read_only:
                with ui.element("div").classes("two"):
                    with ui.element("div").classes("card"):
                        _heading("Send a command to a group")
                        self.target = ui.select([], label="Group", on_change=self._offer).props("outlined dense")
                        self.form: SendForm | None = SendForm(
                            frame, lambda: self.members.get(self.target.value or "", []), frame.again
                        )
                    with ui.element("div").classes("card"), ui.element("div").classes("form"):
                        _heading("Set the devices of a group")
                        self.name = ui.input(label="Group").props("outlined dense")
                        self.ids = ui.textarea(label="Devices, apart by spaces; none dissolves it").props(
                            "outlined dense"
                        )
                        button("Save", self._save, "strong")
            else:
                self.form = None
        frame.live(self.draw)

    async def draw(self) -> None:
        """The groups as they are now."""
        found: dict[str, list[str]] = {}
        for each in self.hub.glances:
            for name in each.groups:
                found.setdefault(name, []).append(each.id)
        self.members = dict(sorted(found.items()))
        rows = "".join(
            f"<tr><td>{shown(name)}</td><td>{len(ids)}</td><td class=dim>{shown(_few(ids))}</td></tr>"
            for name, ids in self.members.items()
        )
        empty = '<p class="dim">No groups yet.</p>'
        self.list.set_content(table(rows, "Group", "Devices", "") if rows else empty)
        if self.form:
            names = list(self.members)
            if self.target.options != names:
                self.target.set_options(names, value=self.target.value if self.target.value in names else None)
            if self.target.value is None and names:
                self.target.set_value(names[0])

    async def _offer(self, _: object) -> None:
        ids = self.members.get(self.target.value or "", [])
        if ids and self.form:
            found, wrong = await asked(self.hub.fleet.understood, ids[0])
            if wrong is None:
                self.form.offer(found, known=False)

    async def _save(self) -> None:
        ids = str(self.ids.value or "").split()
        _, wrong = await asked(self.hub.actions.set_group, str(self.name.value or "").strip(), ids)
        done = f"{self.name.value} has {len(set(ids))} devices" if ids else f"{self.name.value} is dissolved"
        tell(wrong or done, good=wrong is None)
        await self.frame.again()


class RolloutsPage:
    """The rollouts with what they wait for, and the updates."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.hub = frame, frame.hub
        self._shown: Any = None
        with frame.content():
            with ui.element("div").classes("card"):
                with ui.element("h1"):
                    ui.label("Rollouts")
                self.rollouts = ui.element("div").classes("form")
            with ui.element("div").classes("card"):
                _heading("Updates")
                self.updates = ui.element("div").classes("form")
        frame.live(self.draw)

    async def draw(self) -> None:
        """Both as they are now."""
        found, wrong = await asked(self._read)
        if wrong is not None or found == self._shown:
            return
        self._shown = found
        self.rollouts.clear()
        with self.rollouts:
            for rollout in found[0]:
                self._rollout(rollout)
            if not found[0]:
                ui.label("No rollouts yet.").classes("dim")
        self.updates.clear()
        with self.updates:
            self._list(found[1])

    def _read(self) -> tuple[list[RolloutView], list[UpdateView]]:
        return self.hub.fleet.rollouts(), self.hub.fleet.updates(final=True)[:_UPDATES]

    def _rollout(self, each: RolloutView) -> None:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(each.counts.items()))
        why = f": {each.why}" if each.why else ""
        with ui.element("div").classes("bar"):
            show(
                f"<div><b>{shown(each.what)}</b> <code>{shown(each.name)}</code> {moment(each.entered, '')}<br>"
                f"wave {each.wave} of {each.waves}, {shown(each.status + why)}"
                f"<br><span class=dim>{shown(counts)}</span></div>"
            )
            if not self.hub.actions.read_only:
                orders = dict(_ORDERS.get(each.status, {}))
                if each.status not in ("running", "aborted") and any(member.status in _BAD for member in each.members):
                    orders["retry"] = "Retry what failed, with the same release"
                for order, text in orders.items():
                    button(text, partial(self._change, each.name, order))

    def _list(self, found: Sequence[UpdateView]) -> None:
        for each in found:
            sent = "" if each.final else f"{each.sent // 1024} of {-(-each.total // 1024)} KB"
            with ui.element("div").classes("bar"):
                show(
                    f"<div><b>{shown(each.device)}</b> <code>{shown(each.release)}</code> {shown(each.status)} "
                    f"{moment(each.settled or each.entered, '')} <span class=dim>{sent} "
                    f"{shown((each.why or '')[:200])}</span></div>"
                )
                if not each.final and not self.hub.actions.read_only:
                    button("Cancel", partial(self._cancel, each.name))
        if not found:
            ui.label("No updates yet.").classes("dim")

    async def _change(self, name: str, order: str) -> None:
        _, wrong = await asked(self.hub.actions.change_rollout, name, order)
        tell(wrong or f"{name}: {order}", good=wrong is None)
        await self.frame.again()

    async def _cancel(self, name: str) -> None:
        _, wrong = await asked(self.hub.actions.cancel_update, name)
        tell(wrong or f"{name} is cancelled", good=wrong is None)
        await self.frame.again()


def _alerts(found: Sequence[AlertView]) -> str:
    if not found:
        return '<p class="dim">No alerts in the last 30 days. A relay judges them where dormouse.toml has [alerts].</p>'
    rows = "".join(
        f"<tr><td class=c-device>{_whose(each)}</td><td>{shown(each.kind)}</td>"
        f"<td>{shown(each.text[:300])}{_last(each)}<br>"
        f"<span class=dim>{shown('; '.join(each.failed)[:300])}</span></td>"
        f"<td>{moment(each.opened, '')}</td><td>{_until(each)}</td></tr>"
        for each in found
    )
    listed = table(rows, "Device", "Kind", "What", "Opened", "Closed")
    return f'<div class="wide">{listed}</div>'


def _whose(each: AlertView) -> str:
    return "the fleet" if each.device == "*" else f'<a href="/device/{quote(each.device)}">{shown(each.device)}</a>'


def _last(each: AlertView) -> str:
    """When what the text says was seen, where that was after the alert opened."""
    return f" <span class=dim>last seen</span> {moment(each.last, '')}" if each.last > each.opened else ""


def _until(each: AlertView) -> str:
    if each.closed is None:
        return '<span class="word-bad">open</span>'
    return f"{moment(each.closed, '')} <span class=dim>{shown(each.ending or '')}</span>"


def _heading(text: str) -> None:
    with ui.element("h2"):
        ui.label(text)


def _few(ids: Sequence[str]) -> str:
    return ", ".join(map(safe, ids[:8])) + (f" and {len(ids) - 8} others" if len(ids) > 8 else "")
