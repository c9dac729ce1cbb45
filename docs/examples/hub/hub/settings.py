"""Settings of the hub. What differs between machines comes from the environment.

| variable      | default                     | what it is                                      |
|---------------|-----------------------------|-------------------------------------------------|
| HUB_DATABASE  | db.sqlite3 beside manage.py | the SQLite file; broker and admin use the same  |
| DATABASE_URL  | none                        | postgresql://user:password@host/name instead    |
| HUB_TIME_ZONE | UTC                         | irrigation hours are hours of this zone         |
| HUB_DEBUG     | off                         | 1 for `manage.py runserver`, not in the broker  |
| HUB_HOSTS     | none                        | names other than localhost, as in `pi.local,pi` |
| HUB_STATIC    | static beside manage.py     | where `manage.py collectstatic` puts its files  |
| HUB_AI_MODEL  | claude-opus-4-6             | which model `home/consumers/ai.py` asks         |
| SECRET_KEY    | a development key           | signs what sessions keep                        |
| REDIS_URL     | none                        | channel layer across processes (channels_redis) |
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django

BASE_DIR = Path(__file__).resolve().parent.parent

# --- The home ------------------------------------------------------------------------------------

# Each gets a worker of its own. Letters, digits, `_` and `-`; home/topics.py lists the words that
# cannot be rooms because they already are the first level of other topics.
HUB_ROOMS = ["living", "bedroom", "kitchen"]

# One alert when consumption rises above the first; the next only after it fell below the second.
HUB_ENERGY_ALERT_WATTS = 3000.0
HUB_ENERGY_CALM_WATTS = 2700.0

# Soil moisture in percent below which the garden is watered, in the hours of the schedule.
HUB_IRRIGATION_DRY_PERCENT = 30.0

# Called without arguments, returns the `ModelClient` that decides; see home/consumers/ai.py.
HUB_AI_CLIENT = "home.consumers.ai.default_model"
HUB_AI_MODEL = os.environ.get("HUB_AI_MODEL", "claude-opus-4-6")

# --- Django --------------------------------------------------------------------------------------

SECRET_KEY = os.environ.get("SECRET_KEY", "development-only-set-SECRET_KEY-in-the-environment")

# Off unless asked for: with DEBUG, Django keeps every SQL query in memory, and a consumer has no
# end of request at which it would forget them.
DEBUG = os.environ.get("HUB_DEBUG") == "1"
ALLOWED_HOSTS = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    *filter(None, os.environ.get("HUB_HOSTS", "").split(",")),
]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "home.apps.HomeConfig",
]

# The dashboard (docs/dashboard.md), where there is what it needs. The hub does without as well.
HUB_DASHBOARD = sys.version_info >= (3, 10) and django.VERSION >= (5, 2)
HUB_DASHBOARD = HUB_DASHBOARD and find_spec("django_htmx") is not None
if HUB_DASHBOARD:
    INSTALLED_APPS += ["django_htmx", "mqttasgi.dashboard"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "hub.urls"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "house"
LOGOUT_REDIRECT_URL = "login"
ASGI_APPLICATION = "hub.asgi.application"

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("HUB_DATABASE") or str(BASE_DIR / "db.sqlite3"),
        # Broker and admin write to the same file: wait for each other instead of failing.
        "OPTIONS": {"timeout": 20},
    }
}
if django.VERSION >= (5, 1):
    # So they do also where a transaction reads before it writes, as the admin's do.
    DATABASES["default"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE"
if os.environ.get("DATABASE_URL"):
    server = urlsplit(os.environ["DATABASE_URL"])
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": server.hostname or "",
        "PORT": str(server.port or ""),
        "NAME": unquote(server.path[1:]),
        "USER": unquote(server.username or ""),
        "PASSWORD": unquote(server.password or ""),
        # All consumers' queries wait for one that a machine does not answer which has gone.
        "OPTIONS": {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The in-memory layer reaches consumers of the same process only. Redis also carries what
# `manage.py announce` or a web server has to say.
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
if os.environ.get("REDIS_URL"):
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }

LANGUAGE_CODE = "en"
# Django makes this the zone of the whole process: the times in the broker's log are in it as well.
TIME_ZONE = os.environ.get("HUB_TIME_ZONE") or "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("HUB_STATIC") or str(BASE_DIR / "static")
