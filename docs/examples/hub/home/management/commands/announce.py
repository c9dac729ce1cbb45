"""`manage.py announce "Dinner is ready"`: say something in every room."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.core.management.base import BaseCommand, CommandError

from home.consumers.rooms import GROUP


class Command(BaseCommand):
    help = "Publish a text to home/<room>/announce of every room, over the channel layer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        layer = get_channel_layer()
        if isinstance(layer, InMemoryChannelLayer):
            raise CommandError(
                "The in-memory channel layer ends with this process and cannot reach the rooms in "
                "the broker: set REDIS_URL here and there."
            )
        message = {"type": "room.announce", "text": options["text"]}
        async_to_sync(layer.group_send)(GROUP, message)
        self.stdout.write(f"Announced: {options['text']}")
