"""What consumers ask of the broker thread and wait for: its answers, and room in the outbound queue."""

from __future__ import annotations

import asyncio
import itertools
from typing import Optional

from .._reasons import FAILURE, about_code
from .bridge import Bridge


class Requests:
    """Questions that are under way. Loop thread only.

    A consumer waits for each of its own, so there are as many as tasks that ask. What its run leaves behind
    when it fails is answered all the same.
    """

    def __init__(self, bridge: Bridge, loop: asyncio.AbstractEventLoop) -> None:
        self._bridge = bridge
        self._loop = loop
        self._sequences = itertools.count(1)
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._writable: Optional[asyncio.Future[None]] = None

    # ---- from consumers ----

    async def until_writable(self) -> None:
        """Return when the outbound queue, which was full, has room."""
        if self._writable is None:
            self._writable = self._loop.create_future()
        # Several wait for the same word; one that is cancelled must not take it from the others.
        await asyncio.shield(self._writable)

    async def subscribe(self, handle: int, topic_filter: str, options: int) -> None:
        """Return when the subscription is in force."""
        sequence, future = self._question()
        self._bridge.subscribe(handle, topic_filter, options, sequence)
        code = await future
        if code >= FAILURE:
            raise RuntimeError(f"no subscription to {topic_filter!r}: {about_code(code)}")
        if code:
            raise MemoryError(f"the broker had no memory for a subscription to {topic_filter!r}")

    async def unsubscribe(self, handle: int, topic_filter: str) -> None:
        """Return when the subscription has ended."""
        await self.end(handle, topic_filter)

    def end(self, handle: int, topic_filter: str) -> asyncio.Future[int]:
        """End a subscription. What is returned is done when it has ended."""
        sequence, future = self._question()
        self._bridge.unsubscribe(handle, topic_filter, sequence)
        return future

    async def watch_clients(self, handle: int, consumer: object) -> None:
        """Return when a consumer, which errors call so, is told of clients that connect and disconnect."""
        sequence, future = self._question()
        self._bridge.watch_clients(handle, sequence)
        if await future:
            raise MemoryError(f"the broker had no memory to tell {consumer} of its clients")

    def unwatch_clients(self, handle: int) -> asyncio.Future[int]:
        """End that. What is returned is done when nothing comes any more."""
        sequence, future = self._question()
        self._bridge.unwatch_clients(handle, sequence)
        return future

    async def kick(self, client_id: str) -> bool:
        """Return whether the broker has disconnected a client. Raises `ValueError` for what is no id."""
        sequence, future = self._question()
        try:
            self._bridge.kick(client_id, sequence)
        except ValueError:
            del self._answers[sequence]
            raise
        return not await future

    def _question(self) -> tuple[int, asyncio.Future[int]]:
        sequence = next(self._sequences)
        future: asyncio.Future[int] = self._loop.create_future()
        self._answers[sequence] = future
        return sequence, future

    # ---- from the plugin ----

    def answer(self, sequence: int, code: int) -> None:
        """Pass an answer on to whoever has asked, unless that was cancelled."""
        future = self._answers.pop(sequence)
        if not future.done():
            future.set_result(code)

    def writable(self) -> None:
        """Pass on that the outbound queue has room again."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
