"""Drives consumers in tests, without a broker."""

from __future__ import annotations

from typing import Any, Optional

from asgiref.testing import ApplicationCommunicator

from . import database
from ._mqtt import check_event, encode_payload
from ._types import Application, Event, Payload, Receive, Scope, Send


class MqttComunicator(ApplicationCommunicator):
    """Plays the broker for one consumer.

    `application` is an ASGI application (`MyConsumer.as_asgi()`), `app_id` and `instance_type` ("master" or
    "worker") are what it finds in its scope, beside `consumer_parameters`. What the consumer sends is
    checked as the broker does: a wrong topic, filter, QoS or payload raises in the consumer.
    """

    def __init__(
        self,
        application: Application,
        app_id: Any,
        instance_type: str = "worker",
        consumer_parameters: Optional[dict[str, Any]] = None,
    ) -> None:
        self.scope: Scope = {
            **(consumer_parameters or {}),
            "type": "mqtt",
            "app_id": app_id,
            "instance_type": instance_type,
        }

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            async def checked_send(event: Event) -> None:
                check_event(event)
                if event["type"] == "mqtt.pub":
                    # Consumers may publish text and numbers; what a broker would send on is bytes.
                    event["mqtt"]["payload"] = encode_payload(event["mqtt"]["payload"])
                await send(event)

            database.left_to_test.set(True)
            await application(scope, receive, checked_send)

        super().__init__(checked, self.scope)

    async def connect(self, timeout: float = 1) -> Event:
        """Sends `mqtt.connect` and returns the first event that the consumer sends, within `timeout`
        seconds.
        """
        await self.send_input({"type": "mqtt.connect"})
        event: Event = await self.receive_output(timeout)
        return event

    async def publish(self, topic: str, payload: Payload, qos: int) -> None:
        """Sends a message to the consumer, as the broker would one that was published live."""
        await self.send_input(
            {
                "type": "mqtt.msg",
                "mqtt": {
                    "topic": topic,
                    "payload": encode_payload(payload),
                    "qos": qos,
                    "retain": False,
                },
            }
        )

    async def receive_from(self, timeout: float = 1) -> Event:
        """Returns the next event that the consumer sends, within `timeout` seconds."""
        event: Event = await self.receive_output(timeout)
        return event

    async def disconnect(self, code: int = 1000, timeout: float = 1) -> None:
        """Sends `mqtt.disconnect` and waits until the consumer has ended. `code` is ignored."""
        await self.send_input({"type": "mqtt.disconnect"})
        await self.wait(timeout)


#: The name as it should have been spelled.
MqttCommunicator = MqttComunicator
