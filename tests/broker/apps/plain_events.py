"""Plain ASGI that publishes the type of each event it gets to `event`, and asks for nothing but messages."""

from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "mqtt.connect":
            await send({"type": "mqtt.sub", "mqtt": {"topic": "plain/+", "qos": 1}})
        said = {"topic": "event", "payload": event["type"], "qos": 1}
        await send({"type": "mqtt.pub", "mqtt": said})
        if event["type"] == "mqtt.disconnect":
            return
