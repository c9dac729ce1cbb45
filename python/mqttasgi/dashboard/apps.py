"""The dashboard as an application of Django's, and what it needs beside Django."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.core.checks import Error, register

#: Named otherwise than the folder: projects have dashboards of their own.
LABEL = "mqttasgi_dashboard"


class DashboardConfig(AppConfig):
    """Has a model without a table, for the permissions."""

    name = "mqttasgi.dashboard"
    label = LABEL
    verbose_name = "mqttasgi dashboard"

    def ready(self) -> None:
        """Have Django say what the pages would fail with, and the log who has pressed which button."""
        register(check_packages)
        register(check_applications)
        # Who has done what here is to be in the log, which else has warnings alone.
        logger = logging.getLogger("mqttasgi.dashboard")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


def check_packages(**_arguments: Any) -> list[Error]:
    """Return an error where htmx and its WebSocket extension would be missing."""
    try:
        from django_htmx.jinja import EXTENSIONS
    except ImportError:
        EXTENSIONS = {}
    if 2 in EXTENSIONS.get("hx-ws", ()):
        return []
    return [
        Error(
            "mqttasgi.dashboard needs django-htmx 1.29 or later, for htmx 2 with its WebSocket extension.",
            hint="pip install 'django-htmx>=1.29'; it needs Python 3.10 and Django 5.2, or later ones.",
            id="mqttasgi.E002",
        )
    ]


def check_applications(**_arguments: Any) -> list[Error]:
    """Return an error for each application that the dashboard needs and the project does not have."""
    from django.apps import apps

    needed = (
        "django_htmx",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.staticfiles",
    )
    return [
        Error(
            f"mqttasgi.dashboard needs {name} in INSTALLED_APPS.",
            hint="docs/dashboard.md lists the settings.",
            id="mqttasgi.E003",
        )
        for name in needed
        if not apps.is_installed(name)
    ]
