"""Echo client on paho-mqtt 2: `paho_echo.py PORT TOPIC ANSWER QOS`. Runs until it is killed or the broker goes away."""

from __future__ import annotations

import socket
import sys
from typing import Any

import paho.mqtt.client as paho

port, topic, answer, qos = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


def on_connect(client: paho.Client, *_: Any) -> None:
    client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.subscribe(topic, qos)


def on_message(client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
    client.publish(answer, message.payload, qos)


client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="bench-echo", protocol=paho.MQTTv311)
# Without bounds, as the broker is run.
client.max_inflight_messages_set(65535)
client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
