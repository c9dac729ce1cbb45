"""Settings for the applications here: whatever a test needs is in the environment."""

import json
import os

SECRET_KEY = "only for tests"
INSTALLED_APPS = ["channels", "django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TEST_DATABASE", ":memory:"),
    }
}
if os.environ.get("TEST_POSTGRES"):
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {"connect_timeout": 2},
        **json.loads(os.environ["TEST_POSTGRES"]),
    }
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
if os.environ.get("TEST_REDIS"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [os.environ["TEST_REDIS"]]},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
