"""Following a ledger from asyncio: no thread waits, and the event loop never waits for a database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

from dormouse_host.ledger.events import Event
from dormouse_host.ledger.following import Following
from dormouse_host.ledger.watch import EVERY

_Run = Callable[..., Awaitable[Any]]  # runs a call in a thread


class AsyncFollowing:
    """An asynchronous iterator over the events of a ledger, and a context manager. It is Following, awaited."""

    def __init__(self, make: Callable[[], Following], run: _Run) -> None:
        """`make` opens it in the database, `run` runs that and each look at the ledger elsewhere."""
        self._make = make
        self._run = run
        self._following: Following | None = None

    @property
    def cursor(self) -> str:
        """The place behind what was given; RuntimeError before it was opened."""
        if self._following is None:
            raise RuntimeError("it is opened by `async with`, or by the first event")
        return self._following.cursor

    async def keep(self) -> None:
        """Store the cursor in the ledger: Following.keep."""
        await self._run((await self._open()).keep)

    async def close(self) -> None:
        """Give up the connection with which it waits."""
        if self._following:
            await self._run(self._following.close)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        following = await self._open()
        until = None if following.timeout is None else time.monotonic() + following.timeout
        while True:
            event = following.waiting() or await self._poll(following)
            if event is not None:
                return event
            left = EVERY if until is None else until - time.monotonic()
            if left <= 0:
                raise StopAsyncIteration
            await _rest(following, left)

    async def _open(self) -> Following:
        if self._following is None:
            self._following = await self._run(self._make)
        return self._following

    async def _poll(self, following: Following) -> Event | None:
        """The thread's look ends before a cancellation does: what it finds stays for the next."""
        looking = asyncio.ensure_future(self._run(following.look))
        try:
            await asyncio.shield(looking)
        except asyncio.CancelledError:
            await asyncio.gather(looking, return_exceptions=True)
            raise
        return following.waiting()


async def _rest(following: Following, seconds: float) -> None:
    """Until something may be new, at most so long."""
    socket = following.socket
    if socket is None:
        await asyncio.sleep(min(seconds, EVERY))
        return
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(socket, told.set)
    try:
        await asyncio.wait_for(told.wait(), min(seconds, EVERY))
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(socket)
    await asyncio.sleep(min(seconds, following.pause))
