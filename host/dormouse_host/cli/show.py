"""How commands, batches, devices and settings are printed: as text, or as JSON with --json.

Text from devices is escaped by terminal.py.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dormouse_host import figures
from dormouse_host.terminal import json_line, line, safe, span, table, warn, when

if TYPE_CHECKING:
    from dormouse_host.fleet import CommandView, DeviceView, RolloutView, Setting, Strangers, UpdateView

_MARKS = {"succeeded": "█", None: "·", "cancelled": "-", "expired": "-"} | dict.fromkeys(
    ("failed", "rejected", "interrupted", "unknown"), "✗"
)
_TOLD = ("overdue", "failed", "rejected", "interrupted", "unknown", "cancelled", "expired")  # a line for each of these
_WIDTH = 60  # devices on one line of the picture
_STRANGERS = 5  # ids that are named on a terminal


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def due(view: "DeviceView", now: float) -> str:
    """When a device wakes next, as far as it has said."""
    if view.revoked:
        return "revoked"
    if view.next_due is None:
        return "?"
    late = view.late(now)
    return f"{_word(view, now)} {span(late)}" if late else f"in {span(view.next_due - now)}"


def _word(view: "DeviceView", now: float) -> str:
    """For a device that was due: it may miss some wakes, as `status --overdue` counts them."""
    return "overdue" if view.overdue(now) else "late"


def expected(view: "DeviceView", now: float) -> str:
    """When a device wakes next, as a sentence."""
    if view.seen is None:
        return "the device has never connected"
    if view.next_due is None:
        return "its next wake is unknown"
    late = view.late(now)
    return f"{_word(view, now)} by {span(late)}" if late else f"next wake expected in {span(view.next_due - now)}"


def seen(view: "DeviceView", now: float) -> str:
    """When a device was last heard."""
    return "never" if view.seen is None else f"{span(max(0.0, now - view.seen))} ago"


def command(view: "CommandView", *, json: bool, history: bool = True) -> None:
    """Print a command; without its history it is one line."""
    if json:
        fields = dict(vars(view))
        fields["events"] = [{"at": at, "status": status, "why": why} for at, status, why in view.events]
        json_line(fields)
        return
    status = view.status + (f", to be {view.void}" if view.void and not view.final else "")
    line(f"{view.name} {status}: {view.device} {view.do} {_compact(view.args) if view.args else ''}".rstrip())
    if not history:
        return
    if view.value is not None:
        line(f"  value  {_compact(view.value)}")
    if view.why:
        line(f"  why    {view.why}")
    for at, status, why in view.events:
        line(f"  {when(at)}  {status}" + (f" ({why})" if why else ""))


def batch(views: "Sequence[CommandView]", *, json: bool) -> None:
    """Print the commands of a batch: how many of each status, then those that did not succeed, those that wait, and
    the others.
    """
    ordered = sorted(views, key=lambda view: 2 if view.status == "succeeded" else 1 - view.final)
    if json:
        for view in ordered:
            command(view, json=True)
        return
    failed = Counter(view.status for view in views if view.final)
    waiting = sum(not view.final for view in views)
    counts = [f"{count} {status}" for status, count in failed.most_common()] + (
        [f"{waiting} waiting"] if waiting else []
    )
    line(f"{views[0].batch}: {views[0].do} for {len(views)} devices: {', '.join(counts)}")
    texts = [[safe(view.device), view.name, view.status, safe(_outcome(view))] for view in ordered]
    table(("device", "id", "status", "result"), texts)


def _outcome(view: "CommandView") -> str:
    return view.why or ("" if view.value is None else _compact(view.value))


def standing(view: "UpdateView") -> str:
    """How an update stands: `sending 14 of 37 KB`, `failed: rolled back: …`."""
    text = view.status
    if view.status == "sending":
        text += f" {view.sent // 1024} of {-(-view.total // 1024)} KB"
    return f"{text}: {view.why}" if view.why else text


def update(view: "UpdateView", *, json: bool, history: bool = True) -> None:
    """Print an update with its history."""
    if json:
        fields = asdict(view)
        events = [{"at": at, "status": status, "why": why} for at, status, why in fields.pop("events")]
        json_line({"id": fields.pop("name"), **fields, **({"events": events} if history else {})})
        return
    line(f"{view.name} {view.device} {standing(view)}")
    for at, status, why in view.events:
        line(f"  {when(at)}  {status}" + (f" ({why})" if why else ""))


def kept(updates: "Sequence[UpdateView]") -> str | None:
    """The release that the newest of a device's updates to succeed has brought."""
    return next((each.release for each in updates if each.status == "succeeded"), None)


class Passing:
    """Devices, one after the other, and what those that have passed have in common."""

    def __init__(self, views: "Iterable[DeviceView]") -> None:
        self._views = views
        self.any = self.pending = self.faulty = False

    def __iter__(self) -> "Iterator[DeviceView]":
        for view in self._views:
            self.any = True
            self.pending = self.pending or view.pending > 0
            self.faulty = self.faulty or bool(view.faults)
            yield view


def devices_json(views: "Iterable[DeviceView]", now: float, **more: object) -> None:
    """Print devices, one JSON object each, with these fields beside their own."""
    for view in views:
        judged = {"late": view.late(now), "missed": view.missed(now), "overdue": view.overdue(now)}
        json_line({**vars(view), **judged, **more})


HEAD = ("device", "seen", "next wake", "pending", "battery", "rssi", "agent")


def cells(view: "DeviceView", now: float) -> list[str]:
    """A row below HEAD."""
    said = [safe(view.report.get(key, "")) for key in ("battery", "rssi", "agent")]
    return [view.id, seen(view, now), due(view, now), str(view.pending), *said]


def devices(views: "Iterable[DeviceView]", now: float) -> None:
    """Print a table of devices, and a warning for each that lost telemetry, has faults or tells what cannot be."""
    rows: list[tuple[str, ...]] = []
    doubts: list[str] = []
    same: dict[str, str] = {}  # many cells say what others do: each text is there once
    for view in views:
        rows.append(tuple([same.setdefault(cell, cell) for cell in cells(view, now)]))
        doubts += _doubts(view)
    if not rows:
        warn("no devices yet: a device appears at its first wake while a relay runs, or by dormouse devices add DEVICE")
        return
    table(HEAD, rows)
    for doubt in doubts:
        warn(doubt)


def _doubts(view: "DeviceView") -> list[str]:
    lost = [f"{view.id} dropped {view.dropped} telemetry records: its buffer was full"] if view.dropped else []
    wrong = [f"{view.id} {kind} {name}: {why}" for kind, name, why in view.faults]
    return [*lost, *wrong, *(f"{view.id}: {doubt}" for doubt in figures.reported(view.report))]


def overdue(views: "Iterable[DeviceView]", now: float) -> None:
    """Print a table of overdue devices: the wakes that each has missed, and what is known of it."""
    head = ("device", "missed", "seen", "next wake", "pending", "battery", "rssi")
    texts = []
    for view in views:
        name, *others = cells(view, now)
        texts.append([name, str(view.missed(now)), *others[:-1]])
    if texts:
        table(head, texts)
    else:
        line("no device is overdue")


def uncounted(revoked: Sequence[str], never: Sequence[str]) -> None:
    """Warn of devices that are not judged, and name a few of these."""
    for names, what in ((revoked, "revoked, so never overdue"), (never, "never connected, so not known to be overdue")):
        if names:
            some = ", ".join([*names[:_STRANGERS], *(["…"] if len(names) > _STRANGERS else [])])
            warn(f"{len(names)} {what}: {some}")


def twins(found: Mapping[str, Sequence[str]]) -> None:
    """Warn of ids that two boards use."""
    for name, states in found.items():
        what = f"{name}: two boards use this id, the states {' and '.join(states[:2])} take turns"
        warn(f"{what}; give one of them another: dormouse flash NEW-ID --new-device")


def strangers(found: "Strangers") -> None:
    """Warn of messages from unregistered ids, and name a few of these."""
    if found.messages:
        names = [*found.names[:_STRANGERS], *(["…"] if found.more or len(found.names) > _STRANGERS else [])]
        warn(
            f"{found.messages} messages from unregistered ids ({', '.join(names)}): register with dormouse devices add"
        )


def device(
    view: "DeviceView", understood: Mapping[str, Mapping[str, Any]], updates: "Sequence[UpdateView]", now: float
) -> None:
    """Print all that is known of one device; `updates` are its own, the newest first."""
    said = view.report
    ended = said.get("end") if isinstance(said.get("end"), dict) else {}
    facts = [
        ("seen", f"{seen(view, now)} ({when(view.seen)})" if view.seen else "never"),
        ("next wake", due(view, now)),
        ("pending", view.pending),
        ("battery", said.get("battery")),
        ("rssi", said.get("rssi")),
        ("agent", said.get("agent")),
        ("program", f"release {release}" if (release := kept(updates)) else None),
        *(("update", f"to {each.release}, {standing(each)}") for each in updates if not each.final),
        ("firmware", said.get("fw")),
        ("wake", said.get("wake")),
        ("cause", said.get("cause")),
        ("drained", ended.get("drained") if ended else None),
        *((kind, f"{name}: {why}") for kind, name, why in view.faults),
        ("dropped", view.dropped or None),
        ("payload", f"at most {view.limit} bytes" if view.limit else None),
        ("groups", ", ".join(view.groups) or None),
        ("commands", _signatures(understood) if view.catalogue else "unknown: requested at its next wake"),
    ]
    line(view.id)
    for key, value in facts:
        if value is not None:
            line(f"  {key:<9}  {value}")
    for doubt in figures.reported(said):
        warn(f"{view.id}: {doubt}")


def settings(found: "Sequence[Setting]", *, json: bool) -> None:
    """Print settings, one JSON object each or as a table."""
    if json:
        for each in found:
            json_line(asdict(each))
        return
    texts = [
        [
            safe(each.key),
            safe(_compact(each.value)),
            safe(each.origin) + (_replaced(each.replaced) if each.origin == "command" else ""),
        ]
        for each in found
    ]
    if texts:
        table(("key", "value", "origin"), texts)


def _replaced(value: Any) -> str:
    return f", in place of {'the default' if value is None else safe(_compact(value))}"


def _signatures(understood: Mapping[str, Mapping[str, Any]]) -> str:
    """`water(s:int, note:str="") ping() …`."""
    return " ".join(f"{name}({', '.join(map(_argument, spec.items()))})" for name, spec in understood.items())


def _argument(declared: tuple[str, Any]) -> str:
    name, kind = declared
    return f"{name}:{kind}" if isinstance(kind, str) else f"{name}:{kind[0]}={_compact(kind[1])}"


# ---- rollouts


def rollout(view: "RolloutView", *, json: bool, devices: bool) -> None:
    """Print a rollout, and with `devices` its picture."""
    if json:
        fields = asdict(view)
        json_line({"id": fields.pop("name"), **fields})
        return
    line(sentence(view))
    for text in picture(view) if devices else ():
        line(text)


def sentence(view: "RolloutView") -> str:
    """One line for a rollout."""
    told = ", ".join(f"{count} {status}" for status, count in view.counts.most_common())
    why = f": {view.why}" if view.why else ""
    return f"{view.name} {view.what}, wave {view.wave} of {view.waves}, {view.status}{why}; {told}"


def picture(view: "RolloutView") -> list[str]:
    """A mark for each device, wave by wave; then each that has failed, with why."""
    lines = []
    for wave in range(1, view.waves + 1):
        its = [member for member in view.members if member.wave == wave]
        marks = "".join("?" if member.overdue else _MARKS.get(member.status, "▒") for member in its)
        for at in range(0, len(marks), _WIDTH):
            lines.append(f"  {f'wave {wave}' if at == 0 else '':8} {marks[at : at + _WIDTH]}")
    kinds = Counter(mark for drawn in lines for mark in drawn[11:])
    legend = {"█": "done", "▒": "under way", "✗": "failed", "?": "overdue", "-": "not got", "·": "to come"}
    lines.append("  " + "  ".join(f"{mark} {text}" for mark, text in legend.items() if kinds[mark]))
    told = [(m.device, "overdue" if m.overdue else m.status or "", m.why) for m in view.members]
    lines += [f"  {device}: {what}" + (f": {why}" if why else "") for device, what, why in told if what in _TOLD]
    return lines
