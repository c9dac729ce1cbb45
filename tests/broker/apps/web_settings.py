"""Settings of the application that is on the web as well."""

import os

from apps.django_settings import *  # noqa: F403
from apps.django_settings import INSTALLED_APPS

ROOT_URLCONF = "apps.web"
ALLOWED_HOSTS = ["*"]
DEBUG = bool(os.environ.get("TEST_DEBUG"))
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.staticfiles"]
DATA_UPLOAD_MAX_MEMORY_SIZE = None
STATIC_URL = "/static/"
STATICFILES_DIRS = [os.environ["TEST_STATIC"]] if "TEST_STATIC" in os.environ else []
