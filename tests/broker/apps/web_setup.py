"""Importing this sets Django up with the settings of `web.py`."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.web_settings"

import apps.setup  # noqa: F401
