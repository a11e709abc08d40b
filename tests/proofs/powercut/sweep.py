"""All cut points, or a sample of them that a seed chooses.

Must stay true: a point counts when power went there, and one that cannot be reached is a failure, unless it is one of a
recovery that, told again, does not have it; the same seed chooses the same points; every failure comes with the command
that shows it alone.
"""

import multiprocessing
import os
import queue
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.powercut.bench import Bench, build
from proofs.powercut.oracle import SLOW, judge
from proofs.powercut.points import Point, all_in
from proofs.powercut.stories import STORIES, not_shown, tell

_LOOK = 10  # seconds between two looks whether the workers still live
TRIES = 25  # where another grouping of what arrived, on a busy machine, has kept a run from its point
_ONCE = 500  # one of so many second cuts may be in one recovery alone
PROMISES = ("lost", "twice", "stuck", "lies")


@dataclass(frozen=True)
class Result:
    """What one point came to. `again`: all cuts of the first recovery, where that was not cut itself."""

    point: Point
    faults: tuple[str, ...]
    again: tuple[str, ...] = ()
    once: bool = False  # no cut: a recovery had this point, told again it has not

    def __str__(self) -> str:
        """What a person needs of a failure."""
        lines = "\n".join(f"    {fault}" for fault in self.faults)
        return f'{self.point}\n{lines}\n    alone: make powercut ARGS="{self.point}"'


class Broken(Exception):
    """The harness itself, or the device without any cut, is not what it should be."""


def points_of(bench: Bench, story: str) -> list[Point]:
    """Every cut point of a story, from a run without any; Broken when that is not in order."""
    run = tell(bench, story)
    if wrong := [*judge(run), *not_shown(story, run)]:
        raise Broken(f"{story}, without any cut: {'; '.join(wrong)}")
    return [Point(story, at, cut) for at, wake in enumerate(run.wakes, 1) for cut in all_in(wake.ops)]


def attempt(bench: Bench, point: Point) -> Result:
    """Cut there and judge what becomes of it. Broken when the point cannot be reached.

    A wake that was only too long is tried again: a machine that was busy elsewhere is not as long twice.
    """
    for left in reversed(range(TRIES)):
        run = tell(bench, point.story, point.wake, point.cut, point.then)
        faults = tuple(judge(run))
        recovery = run.recovery
        if left and faults and all(fault.startswith(SLOW) for fault in faults):
            continue
        if recovery and (point.then == "-" or recovery.cut):
            again = () if recovery.cut or recovery.status else tuple(all_in(recovery.ops))
            return Result(point, faults, again)
        if faults:
            return Result(point, faults)
    raise Broken(f"{point}: never reached in {TRIES} runs")


def pairs(bench: Bench, first: Point, seconds: int | None, seed: str) -> Iterator[Result]:
    """A first cut alone, and with second ones in the recovery from it: all, or so many chosen by `seed`."""
    alone = attempt(bench, first)
    yield alone
    again = list(alone.again)
    if seconds is not None:
        again = random.Random(seed).sample(again, min(seconds, len(again)))
    for then in again:
        try:
            yield attempt(bench, Point(first.story, first.wake, first.cut, then))
        except Broken:  # on a busy machine that recovery had come in other pieces
            if then in attempt(bench, first).again:
                raise
            yield Result(Point(first.story, first.wake, first.cut, then), (), once=True)


@contextmanager
def new_bench(agent: Path | None = None) -> Iterator[Bench]:
    """A bench with everything compiled for it."""
    with tempfile.TemporaryDirectory(prefix="powercut-lib-") as lib, Bench(build(Path(lib), agent)) as bench:
        yield bench


def sample(bench: Bench, seed: str, singles: int, firsts: int, seconds: int) -> Iterator[Result]:
    """Single cuts in the long story, and pairs of cuts in the short one."""
    chosen = random.Random(seed)
    for point in chosen.sample(points_of(bench, "long"), singles):
        yield attempt(bench, point)
    for point in chosen.sample(points_of(bench, "short"), firsts):
        yield from pairs(bench, point, seconds, f"{seed} {point}")


def summary(results: list[Result]) -> str:
    """`1200 cut points: 0 lost, 0 twice, 0 stuck, 0 lies`; a point counts once for each promise that it broke. Broken
    where recoveries differ so often that it says little.
    """
    once = sum(result.once for result in results)
    if once > max(1, len(results) // _ONCE):
        raise Broken(f"{once} of {len(results)} second cuts were in one recovery and not in the next")
    broken = Counter(p for r in results for p in {fault.partition(":")[0] for fault in r.faults})
    told = f"{len(results) - once} cut points: " + ", ".join(f"{broken[promise]} {promise}" for promise in PROMISES)
    return told + (f"; {once} more were in one recovery and not in the next" if once else "")


# ---- all of them, on every core


def end_tidily() -> None:
    """SIGTERM ends this process as Ctrl-C does: with its brokers, interpreters and folders."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def _work(jobs: Any, results: Any) -> None:
    """A worker: takes a point and whether to follow it with all second ones, until None, or its parent is gone."""
    end_tidily()
    parent = multiprocessing.parent_process()
    try:
        with new_bench() as bench:
            for point, doubly in iter(jobs.get, None):
                for result in pairs(bench, point, None if doubly else 0, ""):
                    if parent and not parent.is_alive():
                        results.cancel_join_thread()  # or the end would wait for a reader that is gone
                        return
                    results.put(result)
                results.put(None)
    except SystemExit:
        results.cancel_join_thread()  # whoever ends this reads no more
        raise
    except (Exception, KeyboardInterrupt) as error:
        results.put(error)


def _next(results: Any, workers: list[multiprocessing.Process]) -> Any:
    """What comes next from the workers. Broken where none is left from whom anything could come."""
    while True:
        ended = not any(worker.is_alive() for worker in workers)
        try:
            return results.get(timeout=_LOOK)
        except queue.Empty:
            if ended:
                raise Broken("the workers have ended, and not all results have come") from None


def everything(say: Callable[[str], None], stories: tuple[str, ...] = tuple(STORIES)) -> list[Result]:
    """Single cuts in every story, and pairs in the short one. `say` takes a line of progress and each failure."""
    with new_bench() as bench:
        points = [point for story in stories for point in points_of(bench, story)]
    jobs: Any = multiprocessing.Queue()
    results: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=_work, args=(jobs, results)) for _ in range(os.cpu_count() or 1)]
    for point in points:
        jobs.put((point, point.story == "short"))
    for worker in workers:
        jobs.put(None)
        worker.start()
    found: list[Result] = []
    finished = 0
    try:
        while finished < len(points):
            result = _next(results, workers)
            if isinstance(result, BaseException):
                raise result
            if result is None:
                finished += 1
                continue
            found.append(result)
            if result.faults:
                say(str(result))
            if len(found) % 500 == 0:
                say(f"{finished} of {len(points)} first cuts done, {summary(found)}")
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return found
