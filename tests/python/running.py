"""What the tests of the runtime share beside fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

from mqttasgi.runtime.service import Service

#: Starts a service with an application and waits until its connect() has returned.
Start = Callable[..., Awaitable[Service]]


def master_of(service: Service) -> Any:
    """Return the master's run, which may spawn and kill."""
    return service.roster.by_app_id[0].run


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Lets the loop run until the condition holds."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(poll(), timeout)


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(30):
        await asyncio.sleep(0)


class LoopThatStays:
    """The test's loop, which the runtime must not stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def stop(self) -> None:
        pass
