"""`dormouse demo`: a persistent session in three phases, with a real broker, a real publisher and a real device.

Must stay true: every number of the closing table was counted in this run; the broker that we started is stopped, and
a foreign one is left as it was found, however the demo ends.
"""

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from dormouse_host.address import BrokerAddress, parse
from dormouse_host.agent import process, toolchain
from dormouse_host.broker.local import Embedded, LocalBroker, Mosquitto
from dormouse_host.errors import HostError
from dormouse_host.lab.demo_device import DemoDevice
from dormouse_host.lab.demo_outcome import Outcome, Variant
from dormouse_host.lab.demo_run import Run
from dormouse_host.terminal import Console

_VARIANTS = (Variant(clean=False, qos=1), Variant(clean=True, qos=1), Variant(clean=False, qos=0))
_WAIT = 2.0  # seconds between the last publish and the wake
_CONTRAST_WAIT = 0.5  # the same in the runs that are not told: long enough for QoS 0 to be on its way
_HEAD = ("clean_session", "QoS", "arrived", "session_present", "proven by", "round trips", "ms awake")


@dataclass(frozen=True)
class Options:
    """What the command line asks for. `device` is `micropython`, `cpython`, or None for the best there is."""

    url: str | None = None
    messages: int = 3
    variant: Variant = _VARIANTS[0]
    device: process.Kind | None = None
    budget: float = 8


def run(
    options: Options,
    environment: Mapping[str, str],
    console: Console,
    on_end: Callable[[list[Outcome]], object] = lambda outcomes: None,
) -> None:
    """Run the demo; `on_end` is told how it came out. HostError, code 1, unless every message arrived exactly once and
    in order.
    """
    foreign = parse(options.url, environment) if options.url else None
    if foreign and foreign.tls:
        raise HostError("the demo's device has no CA to check a broker by: try mqtt://", 2)
    kind, interpreter = _interpreter(options.device)
    with _broker(foreign) as (address, broker), tempfile.TemporaryDirectory(prefix="dormouse-demo-") as folder:
        console.line(f"Broker: {broker}")
        console.line(f"Device: {interpreter}")
        made = f"demo-{token_hex(3)}"

        def prepare(variant: Variant, device_id: str, console: Console) -> Run:
            home = Path(folder, device_id)
            home.mkdir()
            command = process.command(kind, home)
            device = DemoDevice(home, device_id, address, command, clean_session=variant.clean)
            return Run(device, address, variant, options.messages, options.budget, console)

        told = prepare(options.variant, made, console)
        contrasts = [variant for variant in _VARIANTS if variant != options.variant]
        others = [prepare(each, f"{made}-{n}", Console(quiet=True)) for n, each in enumerate(contrasts, 1)]
        with _left_as_found([told, *others] if foreign else [], console):
            _tell(told)
            _contrast(others, console)
    console.line()
    outcomes = [each.outcome for each in (told, *others)]
    console.table(_HEAD, [_row(outcome) for outcome in outcomes])
    on_end(outcomes)
    if told.outcome.fault():
        raise HostError(told.outcome.fault())


def _tell(run: Run) -> None:
    """The run that is told step by step."""
    run.subscribe()
    run.send()
    run.wait(_WAIT)
    run.receive()


def _contrast(runs: list[Run], console: Console) -> None:
    """The other variants, side by side and in a line each."""
    console.headline("For contrast, the same with")
    for run in runs:
        run.subscribe()
        run.send()
    runs[-1].wait(_CONTRAST_WAIT)
    for run in runs:
        run.receive()
        console.step(f"{run.outcome.variant}: {run.outcome.count} arrived", done=run.outcome.complete)
        if run.outcome.arrived and not run.outcome.variant.qos:
            console.note("This broker keeps QoS 0 too, which MQTT does not promise (3.1.1, section 4.3.1)")


@contextmanager
def _left_as_found(runs: list[Run], console: Console) -> Iterator[None]:
    """Take off a foreign broker what the runs left there. Where it does not let us, say so and try no further."""
    try:
        yield
    finally:
        try:
            for run in runs:
                run.clean_up()
        except HostError as error:
            console.note(f"A session and a wake report stay behind: {error}")


def _interpreter(wanted: process.Kind | None) -> tuple[process.Kind, str]:
    """What the device's processes run on, and how to call it: MicroPython where there is one, unless `wanted`."""
    if wanted != "cpython":
        found = toolchain.require_micropython() if wanted else toolchain.micropython()
        if found:
            return "micropython", str(found)
    return "cpython", f"CPython {platform.python_version()}"


@contextmanager
def _broker(foreign: BrokerAddress | None) -> Iterator[tuple[BrokerAddress, str]]:
    """The broker's address and what to call it; one of our own, stopped at the end, where none is given."""
    if foreign:
        yield foreign, str(foreign)
        return
    program = toolchain.mosquitto()
    own: LocalBroker = Mosquitto(program) if program else Embedded()
    with own:
        why = "" if program else " because mosquitto is not installed"
        yield own.address, f"{own.name} on {own.address}, started for this run{why}"


def _row(outcome: Outcome) -> tuple[str, ...]:
    present = "?" if outcome.present is None else str(int(outcome.present))
    return (
        str(outcome.variant.clean),
        str(outcome.variant.qos),
        outcome.count,
        present,
        outcome.how if outcome.drained else "nothing",
        str(outcome.turns),
        str(outcome.ms),
    )
