"""Settings of a project with the dashboard."""

import os

from apps.django_settings import *  # noqa: F403

ROOT_URLCONF = "apps.dashboard"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "mqttasgi.dashboard",
]
MIDDLEWARE = [
    "apps.dashboard.strict",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth"]},
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/dashboard/"
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
DEBUG = bool(os.environ.get("TEST_DEBUG"))
