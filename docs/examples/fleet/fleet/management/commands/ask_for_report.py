"""`manage.py ask_for_report`: has the leader publish `fleet/report`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Have the leader publish how many positions there are."

    def handle(self, *args: Any, **options: Any) -> None:
        async_to_sync(get_channel_layer().group_send)("fleet", {"type": "fleet.report"})
