"""An application that writes what it handled into a file, one line each, so that a process's death loses none of it."""

import os

from django.conf import settings

from mqttasgi.consumers import MqttConsumer

settings.configure()
_handled = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class Recorder(MqttConsumer):
    """Handles `load/#` for the group."""

    async def connect(self):
        """Subscribe."""
        await self.subscribe("load/#", 1)

    async def receive(self, mqtt_message):
        """Record the payload: a short write of O_APPEND is whole, whoever else writes."""
        os.write(_handled, mqtt_message["payload"] + b"\n")

    async def disconnect(self):
        """Do nothing."""


application = Recorder.as_asgi()
