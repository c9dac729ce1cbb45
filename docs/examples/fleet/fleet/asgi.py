"""What each process runs: `mqttasgi --connect … fleet.asgi:application`."""

from __future__ import annotations

import os

import django
from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from fleet.consumers import Vehicles  # noqa: E402

application = ProtocolTypeRouter({"mqtt": Vehicles.as_asgi()})
