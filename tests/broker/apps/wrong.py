"""Applications that cannot start."""

import asyncio
from typing import Any

not_callable = 7


async def raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise LookupError("there is no lamp")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.Event().wait()
