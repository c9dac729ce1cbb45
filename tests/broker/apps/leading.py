"""A consumer of a group that answers `work` on `done`, and writes down in PostgreSQL when its process has led."""

import os
import threading
from typing import Any

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer
from support.leading import Terms
from support.postgres import PASSWORD, USER

ADDRESS = {
    "host": "127.0.0.1",
    "port": os.environ.get("TEST_POSTGRES_PORT", ""),
    "user": USER,
    "password": PASSWORD,
    "dbname": "postgres",
}


class SeenTerms(Terms):
    """Those that the scope tells of."""

    def _look(self, connection: Any, leads: Any) -> None:
        if leads() != bool(self.changes % 2):
            self.changes += 1
        super()._look(connection, leads)


class Leads(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe("work", qos=1)
        scope = dict(self.scope)
        self.terms = SeenTerms(str(os.getpid()), ADDRESS)
        threading.Thread(
            target=self.terms.write, args=[lambda: bool(scope["is_leader"])], daemon=True
        ).start()

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("done", mqtt_message["payload"], qos=1)

    async def disconnect(self) -> None:
        self.terms.ends.set()


application = Leads.as_asgi()
