"""A Fleet whose calls run in the threads of a small pool: what AsyncFleet is made of."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from dormouse import protocol
from dormouse_host.fleet import Fleet

_THREADS = 4  # each may hold a connection to the database
_TOGETHER = 1000  # rows that a thread fetches at once

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCalls:
    """A ledger that is open inside `async with`."""

    def __init__(
        self,
        db: str | Path | None = None,
        root: str = protocol.ROOT,
        clock: Callable[[], float] = time.time,
        *,
        make: bool = True,
    ) -> None:
        """Nothing is opened yet. The arguments are Fleet's."""
        self._open = partial(Fleet, db, root, clock, make=make)
        self._threads = self._pool()
        self._fleet: Fleet | None = None

    @staticmethod
    def _pool() -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_THREADS, "dormouse-fleet")  # no thread before its first call

    @property
    def fleet(self) -> Fleet:
        """The Fleet behind it; RuntimeError outside `async with`."""
        if self._fleet is None:
            raise RuntimeError("an AsyncFleet is open inside `async with` only")
        return self._fleet

    async def __aenter__(self) -> Self:
        if self._fleet is not None:
            raise RuntimeError("this AsyncFleet is open already")
        opening = asyncio.ensure_future(self._run(self._open))
        try:
            self._fleet = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on, and nobody else would close what it opens
            (opened,) = await asyncio.gather(opening, return_exceptions=True)
            if isinstance(opened, Fleet):
                opened.close()
            self._end_threads()
            raise
        except BaseException:
            self._end_threads()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        fleet, self._fleet = self.fleet, None
        try:
            await self._run(fleet.close)
        finally:
            self._end_threads()

    def _end_threads(self) -> None:
        self._threads.shutdown(wait=False)
        self._threads = self._pool()

    async def _each(self, found: Generator[T]) -> AsyncGenerator[T]:
        """What `found` yields, fetched in threads; in the end it is closed, after the thread that may be at it."""
        fetching: asyncio.Future[list[T]] | None = None
        try:
            while True:
                fetching = asyncio.ensure_future(self._run(lambda: list(islice(found, _TOGETHER))))
                rows = await asyncio.shield(fetching)
                if not rows:
                    return
                for row in rows:
                    yield row
        finally:
            await asyncio.shield(self._close(found, fetching))

    async def _close(self, found: Generator[T], fetching: asyncio.Future[list[T]] | None) -> None:
        if fetching:
            await asyncio.gather(fetching, return_exceptions=True)
        await self._run(found.close)

    async def _run(self, call: Callable[P, T], *args: P.args, **how: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **how))
