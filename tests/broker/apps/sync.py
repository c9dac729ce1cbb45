"""A Channels SyncConsumer: handlers run in threads, and use the ORM there."""

from typing import Any

import apps.setup  # noqa: F401

from channels.consumer import SyncConsumer
from channels.exceptions import StopConsumer
from django.contrib.auth.models import Group


class Sync(SyncConsumer):
    def mqtt_connect(self, event: Any) -> None:
        self.send({"type": "mqtt.sub", "mqtt": {"topic": "group/new", "qos": 1}})

    def mqtt_msg(self, event: Any) -> None:
        Group.objects.create(name=event["mqtt"]["payload"].decode())
        self.send(
            {"type": "mqtt.pub", "mqtt": {"topic": "group/count", "payload": str(Group.objects.count())}}
        )

    def mqtt_disconnect(self, event: Any) -> None:
        raise StopConsumer


application = Sync.as_asgi()
