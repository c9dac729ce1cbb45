"""Echo client on gmqtt and uvloop: `gmqtt_echo.py PORT TOPIC ANSWER QOS`. Runs until it is killed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import gmqtt
import uvloop
from gmqtt.mqtt.constants import MQTTv311

port, topic, answer, qos = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


def on_connect(client: gmqtt.Client, *_: Any) -> None:
    client.subscribe(topic, qos=qos)


def on_message(client: gmqtt.Client, _: str, payload: bytes, *__: Any) -> int:
    client.publish(answer, payload, qos=qos)
    return 0


async def main() -> None:
    client = gmqtt.Client("bench-echo")
    client.on_connect = on_connect
    client.on_message = on_message
    await client.connect("127.0.0.1", port, version=MQTTv311)
    await asyncio.Event().wait()


uvloop.run(main())
