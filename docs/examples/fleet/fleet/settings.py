"""Settings of the fleet: a database and a channel layer that all processes share.

| variable     | default                     | what it is                                   |
|--------------|-----------------------------|----------------------------------------------|
| DATABASE_URL | db.sqlite3 beside manage.py | postgresql://user:password@host/name         |
| REDIS_URL    | none                        | redis://host/0, for more than one process    |
| SECRET_KEY   | a development key           | what Django wants; nothing here signs by it  |
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "development-only-set-SECRET_KEY-in-the-environment")
INSTALLED_APPS = ["channels", "fleet"]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(BASE_DIR / "db.sqlite3")}
}
if os.environ.get("DATABASE_URL"):
    server = urlsplit(os.environ["DATABASE_URL"])
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": server.hostname or "",
        "PORT": str(server.port or ""),
        "NAME": unquote(server.path[1:]),
        "USER": unquote(server.username or ""),
        "PASSWORD": unquote(server.password or ""),
        # All queries of a process wait for one that a machine does not answer which has gone.
        "OPTIONS": {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
if os.environ.get("REDIS_URL"):
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }

USE_TZ = True
