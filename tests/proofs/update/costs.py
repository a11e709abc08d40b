"""What an update of 20 KB costs: round trips and bytes of a process at 200 ms, erases and heap of virtual boards.

Must stay true: the wake with the chunks is compared with the one before it, of the same device. Erases are those of all
boots from the order to the one that ends the update: of the program alone by the sweep's device, and with the agent,
which a board copies from slot to slot, on virtual boards, less those of as many wakes without an update.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from dormouse_host.broker.local import Mosquitto
from dormouse_host.lab.bench.proxy import Proxy
from dormouse_host.virtual.board import VirtualBoard
from dormouse_host.virtual.device import VirtualDevice
from dormouse_host.virtual.images import Images
from proofs.unruly.program import BOARDS
from proofs.update import sweep
from proofs.update.releases import OLD, SETTINGS, Bench
from support.device_folder import Device, DeviceInterpreter, Host
from support.needs import need_mosquitto
from support.updating import Sender, install, program

SIZE = 20480  # bytes of program
TRIPS = 3  # more than in a wake without, at most
ERASES = 6  # for 16 KB of it, at most
_EACH_WAY = 0.1  # s
_BLOCK = 16384
_LINES = "".join(f"value_{n} = {n * n}\n" for n in range(2000))
TEXT = OLD.replace('"old"', '"new"') + _LINES[: _LINES.rfind("\n", 0, SIZE - len(OLD)) + 1]


def over_the_network() -> dict[str, Any]:
    """`bare` and `loaded`: the end of a wake without chunks and of the one with all of them, as the device says it."""
    with (
        tempfile.TemporaryDirectory(prefix="dormouse-cost-") as folder,
        Mosquitto(need_mosquitto()) as broker,
        Proxy((broker.address.host, broker.address.port), _EACH_WAY) as proxy,
        Host(broker.address) as host,
    ):
        url = f"mqtt://127.0.0.1:{proxy.port}"
        device = Device(Path(folder) / "device", DeviceInterpreter("micropython"), url, budget=60)
        (device.folder / "app.py").unlink()
        install(device.folder, program(OLD))
        device.wake()
        sender = Sender(host, host.wait("up/wake")["state"])
        release = program(TEXT)
        sender.step(release, "begin")
        bare = device.wake().one("asleep")
        chunks = sender.chunks(release)
        loaded = device.wake().one("asleep")
        arrived = (device.folder / "b" / "app.py").read_text() == TEXT
    return {"chunks": chunks, "bare": bare, "loaded": loaded, "arrived": arrived}


def of_the_program(size: int) -> dict[str, int]:
    """Erases of each kind of flash for the whole update, where nothing but a program of that size is in it."""
    with sweep.Bench(old=program(OLD), new=program(OLD + "#" * (size - len(OLD)))) as bench:
        lives = {kind: bench.live(progsize) for kind, progsize in sweep.PROGSIZES.items()}
        assert not any(life.faults for life in lives.values())
        return {kind: sum(int(boot.told("ops")[1]) for boot in life.boots) for kind, life in lives.items()}


def on_flash(kind: str, folder: Path) -> dict[str, Any]:
    """`erases`, `programs`, `wakes`, `heap`: the least that was free, and that of the wakes without, in bytes."""
    app = folder / "old" / "app.py"
    app.parent.mkdir(parents=True)
    app.write_text(OLD)
    with VirtualDevice(kind, folder / "device", app, images=Images(folder), settings=SETTINGS) as device:
        bench = Bench(device, folder / "new")
        board = device.board
        assert isinstance(board, VirtualBoard)
        bench.wake()  # the first one after a flash is no wake like the others

        def spent() -> tuple[int, int, int]:
            wakes = list(device.fleet.export("wakes"))
            return *board.flash_cost, len(wakes)

        def least(since: int) -> int:
            return min(int(wake["free"]) for wake in list(device.fleet.export("wakes"))[since:] if wake.get("free"))

        begin, began = spent(), time.monotonic()
        update = bench.order(bench.release(TEXT))
        bench.until(update, "succeeded", "failed")
        middle, took = spent(), time.monotonic() - began
        status = bench.status(update)
        for _ in range(middle[2] - begin[2]):
            bench.wake()
        end = spent()
        return {
            "status": status,
            "wakes": middle[2] - begin[2],
            "erases": middle[0] - begin[0] - (end[0] - middle[0]),
            "programs": middle[1] - begin[1] - (end[1] - middle[1]),
            "heap": least(begin[2] - (end[2])),
            "without": least(middle[2] - end[2]),
            "seconds": took,
        }


def run(say: Any) -> list[str]:
    """What is above its limit. `say` gets the lines of the table."""
    faults = []
    net = over_the_network()
    bare, loaded = net["bare"], net["loaded"]
    say(
        f"{len(TEXT)} bytes of program in {net['chunks']} chunks at {2000 * _EACH_WAY:.0f} ms a round trip: "
        f"{loaded['turns']} round trips, {bare['turns']} without; {loaded['bytes_down']} bytes down, "
        f"{loaded['bytes_up']} up, without {bare['bytes_down']} and {bare['bytes_up']}; awake {loaded['ms']} ms, "
        f"without {bare['ms']}"
    )
    if not net["arrived"]:
        faults.append("network: not all of it came in one wake")
    if loaded["turns"] > bare["turns"] + TRIPS:
        faults.append(f"network: {loaded['turns']} round trips, {bare['turns']} without the chunks")
    small, large = of_the_program(SIZE), of_the_program(SIZE + 2 * _BLOCK)
    for kind, erases in small.items():
        each = (large[kind] - erases) / 2
        say(f"{kind}, the program alone: {erases} erases in the whole update, and {each:.1f} for each further 16 KB")
        if each > ERASES:
            faults.append(f"{kind}: {each:.1f} erases for 16 KB")
    with tempfile.TemporaryDirectory(prefix="dormouse-cost-") as folder:
        for kind in BOARDS:
            cost = on_flash(kind, Path(folder) / kind)
            say(
                f"{kind}: {cost['erases']} erases and {cost['programs']} programs more than in as many wakes without; "
                f"{cost['wakes']} wakes; heap free at least {cost['heap']} bytes, without {cost['without']}"
            )
            if cost["status"][0] != "succeeded":
                faults.append(f"{kind}: {' '.join(cost['status'])}")
    return faults
