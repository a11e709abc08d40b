"""The form of a command, made from what the device is known to understand: a field for each argument."""

import json
import shlex
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import ui

from dormouse_host.terminal import safe
from dormouse_host.web.frame import Frame, button, tell
from dormouse_host.web.live import asked

OTHER = "\0other"  # the choice of a name that is not listed; no command is called so
_EXPIRES = {None: "never", 900: "in 15 min", 3600: "in 1 h", 21600: "in 6 h", 86400: "in 1 day", 604800: "in 7 days"}


class SendForm:
    """The form. `devices` are asked for when it is sent; `sent` is called afterwards."""

    def __init__(self, frame: Frame, devices: Callable[[], Sequence[str]], sent: Callable[[], Awaitable[None]]) -> None:
        self.frame, self.devices, self.sent = frame, devices, sent
        self.specs: dict[str, dict[str, Any]] = {}
        self.fields: dict[str, tuple[str, Any, Any]] = {}  # argument: kind, default (None: it has none), field
        with ui.element("form").classes("form").on("submit.prevent", lambda _: self.send()):
            self.choice = ui.select({OTHER: "other …"}, label="Command", on_change=lambda _: self.build())
            self.choice.props('outlined dense options-dense aria-label="Command"')
            self.arguments = ui.element("div").classes("form")
            self.expires = ui.select(_EXPIRES, value=None, label="Expires").props("outlined dense options-dense")
            button("Send", lambda: None, "strong").props('type="submit"')
        self.other: ui.input | None = None
        self.words: ui.input | None = None

    def offer(self, specs: dict[str, dict[str, Any]], *, known: bool) -> None:
        """The commands, each with its arguments; unless they are `known`, another may be typed."""
        if specs == self.specs and self.choice.value is not None:
            return
        self.specs = specs
        options = {name: safe(name) for name in specs} | ({} if known else {OTHER: "other …"})
        kept = self.choice.value if self.choice.value in options else next(iter(options), None)
        self.choice.set_options(options, value=kept)
        self.build()

    def build(self) -> None:
        """The fields of the chosen command."""
        self.arguments.clear()
        self.fields = {}
        self.other = self.words = None
        with self.arguments:
            if self.choice.value == OTHER:
                self.other = ui.input(label="Name").props("outlined dense")
                self.words = ui.input(label="Arguments: key=value …").props("outlined dense")
                return
            for name, declared in self.specs.get(self.choice.value or "", {}).items():
                kind, default = declared if isinstance(declared, list) else (declared, None)
                optional = isinstance(declared, list)
                self.fields[name] = (str(kind), default if optional else None, self._field(name, str(kind), default))

    def _field(self, name: str, kind: str, default: Any) -> Any:
        label = safe(f"{name}: {kind}")[:80]
        if kind == "bool":
            return ui.checkbox(label, value=bool(default))
        text = default if isinstance(default, str) else "" if default is None else json.dumps(default)
        made = ui.input(label=label, value=text).props("outlined dense")
        return made.props("inputmode=numeric") if kind == "int" else made

    def typed(self) -> tuple[str, list[str]]:
        """The command's name, and its arguments as `key=value`; those that are as by default are left out."""
        if self.choice.value == OTHER:
            text = str(self.words.value or "") if self.words else ""
            try:
                return str(self.other.value or "").strip() if self.other else "", shlex.split(text)
            except ValueError:  # a quotation mark alone
                return str(self.other.value or "").strip() if self.other else "", [text]
        words: list[str] = []
        for name, (kind, default, field) in self.fields.items():
            value = field.value
            if kind == "bool":
                if default is None or bool(value) != bool(default):
                    words.append(f"{name}={'true' if value else 'false'}")
                continue
            text = str(value or "") if kind == "str" else str(value or "").strip()
            same = text == (default if isinstance(default, str) else json.dumps(default))
            if default is not None and (same or (text == "" and kind != "str")):
                continue
            words.append(f"{name}={text}")
        return str(self.choice.value or ""), words

    async def send(self) -> None:
        """Enter the command, and say how it is called or why it was refused."""
        do, words = self.typed()
        devices = list(self.devices())
        found, wrong = await asked(self.frame.hub.actions.send, devices, do, words, self.expires.value)
        if wrong is not None:
            tell(wrong, good=False)
            return
        warning = next((each.warning for each in found if each.warning), None)
        name = found[0].batch or found[0].name
        tell(
            f"{name} is stored for {len(found)} device{'' if len(found) == 1 else 's'}"
            + (f"; {warning}" if warning else "")
        )
        await self.sent()
