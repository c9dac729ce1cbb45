"""Publishes the sockets that it finds among its descriptors."""

import os
from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "mqtt.connect":
            await send({"type": "mqtt.sub", "mqtt": {"topic": "look", "qos": 1}})
        elif event["type"] == "mqtt.msg":
            for name in os.listdir("/proc/thread-self/fd"):
                if os.path.exists(f"/proc/thread-self/fd/{name}"):
                    target = os.readlink(f"/proc/thread-self/fd/{name}")
                    if target.startswith("socket:") and int(name) > 2:
                        await send(
                            {"type": "mqtt.pub", "mqtt": {"topic": "found", "payload": target, "qos": 1}}
                        )
            await send({"type": "mqtt.pub", "mqtt": {"topic": "looked", "payload": b"", "qos": 1}})
        else:
            return
