"""Django settings: as little as Channels needs, and a channel layer where the application asks for one."""

import os

SECRET_KEY = "only for measurements"
INSTALLED_APPS = ["channels"]
DATABASES: dict[str, object] = {}
USE_TZ = True
TIME_ZONE = "UTC"  # Django sets the TZ of the whole process
if os.environ.get("BENCH_LAYER"):
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
