"""Fails in each way that a message names, with Django's LOGGING: a file for errors, and no logger of ours."""

import asyncio
import gc
import os
import threading
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for tests",
    INSTALLED_APPS=["channels"],
    LOGGING={
        # Without disable_existing_loggers, which is then true.
        "version": 1,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
        "handlers": {
            "file": {
                "class": "logging.FileHandler",
                "filename": os.environ["TEST_LOG"],
                "formatter": "plain",
            }
        },
        "root": {"handlers": ["file"], "level": "WARNING"},
    },
)
django.setup()

from channels.routing import ProtocolTypeRouter  # noqa: E402
from mqttasgi.consumers import MqttConsumer  # noqa: E402


class Fails(MqttConsumer):
    async def connect(self) -> None:
        await self.subscribe(f"fail/{self.scope['app_id']}/+", 1)
        if self.scope["instance_type"] == "master":
            await self.spawn_worker(1, "apps.logged.Fails")

    async def receive(self, mqtt_message: Any) -> None:
        kind = mqtt_message["topic"].rpartition("/")[2]
        if kind == "task":
            task = asyncio.ensure_future(self.fail(kind))
            await asyncio.wait([task])
            del task
            gc.collect()
        elif kind == "thread":
            thread = threading.Thread(target=fail, args=(kind,))
            thread.start()
            await asyncio.to_thread(thread.join)
        else:
            fail(f"{kind} of {self.scope['app_id']}")

    async def fail(self, kind: str) -> None:
        fail(kind)


def fail(kind: str) -> None:
    raise RuntimeError(f"as told: in the {kind}")


application = ProtocolTypeRouter({"mqtt": Fails.as_asgi()})
