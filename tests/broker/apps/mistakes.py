"""Applications with a mistake each, which the log names."""

from typing import Any

import apps.setup  # noqa: F401

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
from mqttasgi.consumers import MqttConsumer


class Good(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("/kitchen/#", 1)
        await self.subscribe("hall/#", 1)


class NotAsync(Good):
    def receive(self, mqtt_message: Any) -> None:  # type: ignore[override]
        print(mqtt_message)


django = get_asgi_application()
class_in_router = ProtocolTypeRouter({"mqtt": Good})
without_slot = ProtocolTypeRouter({"http": django})
