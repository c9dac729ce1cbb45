"""An echo in plain ASGI: what the plugin itself costs, without Channels and without a consumer class."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .common import IN, OUT, QOS

Event = dict[str, Any]


async def application(
    scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
) -> None:
    """Runs until ``mqtt.disconnect``."""
    while True:
        event = await receive()
        if event["type"] == "mqtt.msg":
            await send(
                {"type": "mqtt.pub", "mqtt": {"topic": OUT, "payload": event["mqtt"]["payload"], "qos": QOS}}
            )
        elif event["type"] == "mqtt.connect":
            await send({"type": "mqtt.sub", "mqtt": {"topic": IN, "qos": QOS}})
        elif event["type"] == "mqtt.disconnect":
            return
