# mypy: ignore-errors
"""What the journal costs on flash: erases, programs, bytes and typical milliseconds, on real littlefs over
the NOR model. Run: micropython tests/proofs/journal/cost.py IMAGE PROGSIZE (32 as on ESP32, 256 as on Pico W)."""

import sys

_ROOT = __file__.rsplit("/", 1)[0] + "/../../.."
sys.path[:0] = [_ROOT + "/boards/virtual", _ROOT + "/device"]
BLOCKS = 64


class Cost:
    def __init__(self, image, progsize):
        import norflash
        import vfs

        from dormouse import journal
        from dormouse.journal import Mark
        from dormouse.ports.storage import Storage

        self.journal = journal
        with open(image, "wb") as f:
            for _ in range(BLOCKS * 4):
                f.write(b"\xa5" * 1024)
        self.flash = norflash.NorFlash(vfs.VfsPosix().open(image, "r+b"), BLOCKS)
        vfs.VfsLfs2.mkfs(self.flash, progsize=progsize)
        vfs.umount("/")
        vfs.mount(vfs.VfsLfs2(self.flash, progsize=progsize), "/")
        self.flash.zero()
        self.storage = Storage("/d")
        self.cmd = journal.Journal(self.storage, "cmd", 16384)
        list(self.cmd.open())
        self.print("first start, reserve included", [self.taken()])
        self.marks = [Mark(self.storage, f"m{i}") for i in range(4)]
        for mark in self.marks:
            mark.save(bytes(40))
        self.part = -1
        self.next_part()

    def taken(self):
        f = self.flash
        cost = (f.erases, f.programs, f.program_bytes, f.ms())
        f.zero()
        return cost

    def print(self, what, costs):
        n = len(costs)
        mean = [sum(c[i] for c in costs) / n for i in range(4)]
        worst = max(c[0] for c in costs)
        print(f"{what}: {mean[0]:.3f} erases (at most {worst}), {mean[1]:.1f} programs, ", end="")
        print(f"{mean[2]:.0f} bytes, {mean[3]:.1f} ms")

    def measure(self, what, n, one, before=lambda: None):
        costs = []
        for _ in range(n):
            before()
            self.flash.zero()
            one()
            costs.append(self.taken())
        self.print(what, costs)

    def next_part(self):
        self.part += 1
        self.tel = self.journal.Journal(self.storage, "tel", 4090, part=self.part)
        list(self.tel.open())
        self.storage.remove(f"tel.{self.part - 8}")

    def group(self, *sizes):
        for n in sizes:
            self.cmd.add(1, bytes(n))
        if sizes:
            self.cmd.commit()
        else:
            self.cmd.commit(True)

    def telemetry(self):
        if self.tel.room() < 43:
            self.tel.commit(True)
            self.next_part()
        self.tel.add(1, bytes(40))
        self.tel.commit()

    def space(self, n):
        if self.cmd.room() < n:
            self.cmd.compact((2, bytes(60)) for _ in range(20))

    def wake_1(self):
        self.space(400)
        self.telemetry()
        self.group(90)
        self.marks[0].save(bytes(30))
        self.marks[1].save(bytes(40))
        self.marks[1].save(bytes(40))
        self.group(30)
        self.marks[0].save(bytes(30))

    def wake_10(self):
        self.space(2000)
        self.marks[0].save(bytes(30))
        self.group(*[92] * 10)
        for _ in range(11):
            self.marks[1].save(bytes(40))
        self.group(*[10] * 10)
        self.marks[0].save(bytes(30))


def main(image, progsize):
    cost = Cost(image, int(progsize))
    cost.measure("mark rewritten", 200, lambda: cost.marks[0].save(bytes(40)))

    def fresh():
        cost.cmd.compact([])

    cost.measure("group of 60 bytes into the tail", 40, lambda: cost.group(60), fresh)
    cost.measure("group of 130 bytes into the tail", 40, lambda: cost.group(130), fresh)

    def full_tail():
        cost.cmd.compact([])
        cost.group(400)

    cost.measure("group of 100 bytes that spills the tail", 40, lambda: cost.group(100), full_tail)
    cost.measure("group of 900 bytes", 40, lambda: cost.group(*[90] * 10), fresh)
    cost.measure("compaction to 6 KB", 20, lambda: cost.cmd.compact((1, bytes(97)) for _ in range(60)))
    cost.measure("telemetry record of 40 bytes", 400, cost.telemetry)
    cost.measure("wake with 1 command and 1 record", 200, cost.wake_1)
    cost.measure("wake with 10 commands", 60, cost.wake_10)


if __name__ == "__main__":
    main(*sys.argv[1:])
