"""Plain ASGI: imports neither Django nor mqttasgi."""

from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "mqtt.connect":
            await send({"type": "mqtt.sub", "mqtt": {"topic": "plain/+", "qos": 1}})
        elif event["type"] == "mqtt.msg":
            mqtt = event["mqtt"]
            await send(
                {"type": "mqtt.pub", "mqtt": {"topic": "answer", "payload": mqtt["payload"], "qos": 1}}
            )
        else:
            return
