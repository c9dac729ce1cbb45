"""mqttasgi as an application of Django's: `manage.py mqttasgi`, and dead letters in the admin.

The second only where the project's `DATABASES` has their file.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import Error, register
from django.db import router

from . import dead


class MqttasgiConfig(AppConfig):
    """Named as the package."""

    name = "mqttasgi"
    verbose_name = "mqttasgi"

    def ready(self) -> None:
        """Have Django say what the admin would fail with."""
        if dead.ALIAS in settings.DATABASES:
            register(check_router)


def check_router(**_arguments: Any) -> list[Error]:
    """Return an error where the model would be looked for in another database."""
    from .models import DeadLetter

    if router.db_for_read(DeadLetter) == dead.ALIAS:
        return []
    return [
        Error(
            f"DATABASES has {dead.ALIAS!r}, but dead letters are not looked for there.",
            hint='Put "mqttasgi.dead.Router" in front of DATABASE_ROUTERS.',
            id="mqttasgi.E001",
        )
    ]
