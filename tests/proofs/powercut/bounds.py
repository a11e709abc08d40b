"""What a wake costs: erases, programs and bytes of flash, time at typical NOR timings, years of life; and memory.

Must stay true: the figures are of whole wakes of the real agent on real littlefs, from boot to sleep, averaged over
consecutive wakes of one device so that compaction and littlefs' own housekeeping are in them.

    python -m proofs.powercut.bounds       the table of `make flash-cost`
"""

from dataclasses import dataclass

from proofs.powercut.bench import BLOCKS, Bench, Wake
from proofs.powercut.sweep import new_bench

CYCLES = 100_000  # erases that a block of the flash survives, by its data sheet
WAKES_A_DAY = 24 * 4  # one every 15 minutes
SIZES = ((BLOCKS, "here"), (212, "Pico W"), (512, "an ESP32 with 4 MiB"))  # blocks of 4 KiB
LIFE = 2000  # wakes, so that littlefs moves its directory a few times
GROWTH = 2  # KiB of memory that 1000 queued commands may take beyond what 10 take
_LEAST, _MOST = 40, 320  # KiB of heap between which the smallest is looked for
_SETTINGS = "set:budget:60 set:total:120"  # 1000 commands are no matter of seconds here
ROWS = ((0, 1, 200), (1, 1, 300), (1, 10, 60), (10, 1, 100), (10, 10, 40), (100, 1, 20))  # commands, records, wakes


@dataclass(frozen=True)
class Cost:
    """Means of `wakes` wakes, each with so many commands and records; `worst`: erases of the worst of them."""

    commands: int
    records: int
    wakes: int
    erases: float
    worst: int
    programs: float
    size: float  # bytes programmed
    ms: float  # at typical times: boards/virtual/norflash.py
    marks: float  # small files rewritten in place
    wear: tuple[int, ...]  # erases of each block in all of these wakes

    @property
    def each(self) -> float:
        """Erases for each command."""
        return self.erases / max(1, self.commands)

    def years(self, blocks: int = BLOCKS) -> float:
        """Until so many blocks are worn at one such wake every 15 minutes, with littlefs levelling over all of them."""
        return CYCLES * blocks / max(self.erases * WAKES_A_DAY, 1e-9) / 365

    @property
    def unevenness(self) -> float:
        """How many times more often than the mean the most used block was erased."""
        return max(self.wear) * len(self.wear) / max(1, sum(self.wear))


def cost(bench: Bench, commands: int, records: int, wakes: int) -> Cost:
    """Measure that many wakes of a device. All records but one come from wakes before it that only sample."""
    _new_device(bench)
    sums = [0.0] * 5
    wear = [0] * BLOCKS
    worst = 0
    for _ in range(wakes):
        _queue(bench, commands)
        lived = [bench.boot("timer", _SETTINGS) for _ in range(records - 1)] + [bench.boot("pin", _SETTINGS)]
        figures = [sum(column) for column in zip(*map(_figures, lived), strict=True)]
        sums = [a + b for a, b in zip(sums, figures, strict=True)]
        worst = max(worst, round(figures[0]))
        for wake in lived:
            wear = [a + int(b) for a, b in zip(wear, wake.told("wear")[0], strict=True)]
        if not _all_succeeded(bench):
            raise RuntimeError("\n".join(lived[-1].lines))
    erases, programs, size, ms, marks = (total / wakes for total in sums)
    return Cost(commands, records, wakes, erases, worst, programs, size, ms, marks, tuple(wear))


def _new_device(bench: Bench) -> None:
    """One that has been awake before, so that its folder and its reserve are there."""
    bench.begin("new")
    bench.boot("pin", _SETTINGS)


def _queue(bench: Bench, commands: int) -> None:
    """New commands for the device, and no more of the old ones."""
    relay = bench.relay
    before = max(relay.entries, default=0)
    relay.entries.clear()
    for number in range(before + 1, before + commands + 1):
        relay.publish(relay.command(number, "once"))


def _queue_from_four(bench: Bench, commands: int) -> None:
    """As _queue, for a new device: no ledger has more than 256 numbers open."""
    relay, each = bench.relay, -(-commands // 4)
    for number in range(1, commands + 1):
        ledger = (number - 1) // each
        relay.publish(relay.command(number, "once", f"led{ledger}", ledger * each))


def _all_succeeded(bench: Bench) -> bool:
    return all(e.settled and e.settled["status"] == "succeeded" for e in bench.relay.entries.values())


def _figures(wake: Wake) -> list[float]:
    """Erases, programs, bytes, ms and rewritten marks of one wake."""
    if wake.status:
        raise RuntimeError("\n".join(wake.lines))
    return [float(word) for word in wake.told("cost")[0]]


def memory(bench: Bench, commands: int) -> int:
    """Bytes in use at most, the harness's own part included, while a wake deals with that many queued commands."""
    _new_device(bench)
    _queue_from_four(bench, commands)
    wake = bench.boot("pin", f"{_SETTINGS} measure:")
    if wake.status or not _all_succeeded(bench):
        raise RuntimeError("\n".join(wake.lines))
    return int(wake.told("memory")[0][0])


def smallest_heap(bench: Bench, commands: int) -> int:
    """KiB of heap, the harness's own part included, with which a wake gets through that many queued commands."""
    least, most = _LEAST, _MOST
    while most - least > 1:
        middle = (least + most) // 2
        if passes(bench, commands, middle):
            most = middle
        else:
            least = middle
    return most


def passes(bench: Bench, commands: int, heap: int) -> bool:
    """Does a wake with `heap` KiB, the harness's own part included, get through that many queued commands?"""
    bench.heap_of(f"{_MOST}k")
    _new_device(bench)
    _queue_from_four(bench, commands)
    return bench.heap_of(f"{heap}k") and bench.boot("pin", _SETTINGS).status == 0 and _all_succeeded(bench)


def table(costs: list[Cost]) -> str:
    """The figures for people."""
    lines = ["commands records  wakes | erases (worst) each command  marks  programs   bytes     ms"]
    for c in costs:
        lines.append(
            f"{c.commands:8} {c.records:7} {c.wakes:6} | {c.erases:6.2f} {c.worst:7} {c.each:12.3f} {c.marks:6.1f}"
            f" {c.programs:9.1f} {c.size:7.0f} {c.ms:6.1f}"
        )
    return "\n".join(lines)


def life(c: Cost) -> str:
    """How long flash lasts, for people."""
    worn = " or ".join(f"{c.years(blocks):.0f} years ({blocks} blocks, {name})" for blocks, name in SIZES)
    return (
        f"{c.commands} command and {c.records} record every 15 minutes: {c.erases * WAKES_A_DAY:.0f} erases a day; "
        f"{CYCLES} cycles a block last {worn}, levelled evenly.\n"
        f"Seen in {c.wakes} wakes on {BLOCKS} blocks: the most used block had {c.unevenness:.1f} times the mean; "
        f"were it the same one for ever, it would last {c.years() / c.unevenness:.0f} years."
    )


def main() -> None:
    """Measure and print."""
    with new_bench() as bench:
        say("means of whole wakes, boot to sleep; ms: at 50 ms an erase and 0.5 ms a page")
        say(table([cost(bench, *row) for row in ROWS]))
        say(life(cost(bench, 1, 1, LIFE)))
        few, many = (memory(bench, n) // 1024 for n in (10, 1000))
        say(f"memory in use, {bench.bits} bit, the harness included: {few} KiB with 10 commands, {many} KiB with 1000")
        few, many = (smallest_heap(bench, n) for n in (10, 1000))
        say(f"smallest heap, {bench.bits} bit, the harness included: {few} KiB with 10 commands, {many} KiB with 1000")


def say(line: str) -> None:
    """One thing for a person, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
