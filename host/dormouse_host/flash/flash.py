"""Flashing: from a project's folder to a board's first wake.

Everything that can be refused is refused before a byte is sent. A second flash of the same sends nothing. An
interrupted flash leaves a device that works, and running it again finishes it. Files that are not ours stay.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dormouse_host import figures
from dormouse_host.address import is_loopback, lan_addresses
from dormouse_host.errors import HostError
from dormouse_host.flash import before, first_wake, owned, slots
from dormouse_host.flash.board import Who, hand_back, hashes, hidden_by, identify, look, lying_in_rom, put
from dormouse_host.flash.files import STATE, collect, differing, digest, new_state, outside, umqtt
from dormouse_host.flash.kinds import Board
from dormouse_host.flash.ports import Place, check_free
from dormouse_host.flash.project import DeviceFiles, Project
from dormouse_host.flash.wire import LostBoard, Refused, Wire, catch
from dormouse_host.release import Release

_TRIES = 3  # attempts at a board that vanishes in the middle
_NAMED = 8  # sent files that are named; more are only counted
_SETTLE = 45  # seconds of a first wake beside its budget: boot, rescue window, a slow join

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to flash: `device` is its checked configuration, `app` the program if it is not the project's.

    `wait`: seconds to wait for a sleeping or busy board; `watch`: wait for the first wake; `agree`: asked before a
    person's files are replaced; `named`: settings of the command line; `new_device`: the board may become another.
    `patience`: times as long as a board may take for its answers and for that wake. `broker`: host and port at which
    this machine reaches the device's broker, where that is not its own address.
    """

    project: Project
    board: Board
    place: Place
    device: DeviceFiles
    app: Path | None = None
    wait: float = 60
    watch: bool = True
    agree: owned.Agree = field(default=lambda names: False)
    named: frozenset[str] = frozenset()
    new_device: bool = False
    patience: float = 1
    broker: tuple[str, int] | None = None


@dataclass
class Flashed:
    """The outcome. `written`: paths that were sent; `state`: the new state name, None where there was one."""

    who: Who
    written: list[str] = field(default_factory=list)
    state: str | None = None
    wake: first_wake.FirstWake | None = None


def flash(request: Request, say: Say) -> Flashed:
    """Flash the board. HostError when that fails; a failed first wake is in the result."""
    check_broker(request.place, request.device)
    for doubt in figures.settings(request.device.full):
        say(doubt)
    before.check_network(request.device)
    check_free(request.place)
    request = replace(request, device=before.anchored(request.device, say, request.broker))
    release = collect(request.project, request.board, request.app)
    done, wire = _copy(request, release, say)
    try:
        hand_back(wire)
    except LostBoard:  # it has reset itself, and may have vanished
        wire.close()
        open_wire = None
    else:
        open_wire = wire
    if not request.watch:
        if open_wire:
            open_wire.close()
        return done
    seconds = (request.device.full["budget"] + _SETTLE) * request.patience
    say(f"waiting for the first wake, at most {seconds:.0f} s")
    done.wake = first_wake.watch(request.place, open_wire, seconds, say)
    if flat := figures.battery(done.wake.asleep.get("battery")):
        say(flat)
    return done


def check_broker(place: Place, device: DeviceFiles) -> None:
    """HostError when the broker's address means the board itself."""
    host = device.full["host"]
    if is_loopback(host) and not place.virtual:
        mine = lan_addresses()
        hint = f"this machine is {' or '.join(mine)}" if mine else "this machine has no address in the network"
        do = "write the broker's address to broker in dormouse.toml; dormouse broker run --lan starts one here"
        raise HostError(f"broker {host}: on a board this is the board itself; {hint}: {do}", 2)


def _copy(request: Request, release: Release, say: Say) -> tuple[Flashed, Wire]:
    """Catch the board and copy the release, again where it vanishes in the middle. The wire stays open."""
    trouble = ""
    for again in range(_TRIES):
        wire = _caught(request, say, afresh=again > 0)
        try:
            return _bring(wire, request, release, say), wire
        except Refused as error:
            wire.close()
            raise HostError(f"error on the board: {error}") from None
        except LostBoard as error:
            wire.close()
            trouble = str(error)
            say(f"the board was lost ({trouble}); trying again")
        except BaseException:
            wire.close()
            raise
    raise HostError(f"the board was lost {_TRIES} times while files were sent ({trouble}): run this again", 1)


def _caught(request: Request, say: Say, *, afresh: bool) -> Wire:
    place = request.place
    asleep = "asleep, its port is gone" if request.board.usb.vanishes else "asleep or busy"

    def waiting(left: float) -> None:
        say(f"waiting for {place}: {asleep}; {left:.0f} s left, or press its reset button now")

    try:
        return catch(place, request.wait, waiting, afresh=afresh, patience=request.patience)
    except LostBoard as error:
        raise HostError(f"{place}: not caught in {request.wait:.0f} s ({error}); run dormouse doctor", 4) from None


def _bring(wire: Wire, request: Request, release: Release, say: Say) -> Flashed:
    """Compare the files and send those that differ."""
    done = Flashed(identify(wire, request.board))
    say(f"found {done.who}")
    before.firmware(request.device, done.who.version)
    wipe = before.identity(wire, request.device.full["id"], new_device=request.new_device)
    before.broker(request.device, say, request.broker)
    marker = f"{STATE}/cmd"
    there = slots.look(wire)
    found = look(wire, [marker])
    settled: dict[str, bytes] = {}
    if not wipe:
        lines, settled = before.replaced(wire, request.device.config, set(request.named))
        for line in lines:
            say(line)
    if in_rom := lying_in_rom(wire, release.files):
        say("the agent is in the board's ROM")
        release = replace(release, files={n: data for n, data in release.files.items() if n not in in_rom}, agent=None)
    inside = slots.contents(release)
    keeps = there.releases.get(there.running) == release.digest and slots.is_whole(wire, there.running, inside)
    slot = there.running if keeps else there.idle
    files = {f"{slot}/{name}": data for name, data in inside.items()} | outside(request.device)
    new: dict[str, bytes] = {}
    if not found.umqtt:
        new.update(umqtt())
    if found.hashes[marker] is None or wipe:
        done.state, state = new_state()
        new.update(state)
    hashed = hashes(wire, files)
    if not keeps or wipe:
        new[slots.MARK] = slots.mark(slot)
    different = {name: files[name] for name in differing(files, hashed)}
    if not different and not new and not settled:
        say("nothing changed")
        return done
    theirs = {name: hashed.get(name) for name in different} | hashes(wire, hidden_by(different))
    if there.running:
        theirs = {name: value for name, value in theirs.items() if not name.startswith(("a/", "b/"))}
    mine = owned.persons(wire, theirs, flashed_before=found.hashes[marker] is not None)
    mine += [] if keeps else slots.edited(wire, there.running)
    kept = owned.keep(wire, mine, request.agree)
    free = found.free
    copied: set[str] = set()
    if not keeps:
        copied = slots.prepare(wire, slot, there.running, inside)
        free = look(wire, []).free
    old = owned.left(wire, files) if not there.running else []
    last = {name: new.pop(name) for name in (slots.MARK,) if name in new}
    sending = {**settled, **new, **different, **last}  # settings that are replaced go first: see before.replaced
    done.written = [name.removeprefix(f"{slot}/") for name in sending if name not in copied]
    done.written = [name for name in done.written if name not in (slots.MARK, slots.MANIFEST)]
    size = sum(len(data) for name, data in sending.items() if name not in copied)
    say(f"{len(done.written)} of {len({*files, *new})} files differ, {size} bytes")
    for name, copy in kept.items():
        say(f"keeping your {name} as {copy}")
    written = owned.record({name: digest(data) for name, data in files.items()})
    whole = {**sending, owned.RECORD: written}  # the record last: an interrupted flash leaves that of before
    put(wire, whole, free, kept, wipe=wipe)
    slots.remove(wire, old)
    if len(done.written) <= _NAMED:
        say(f"sent {', '.join(done.written)}")
    return done
