"""Dead letters in Django's admin, and a project that does without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqttasgi import dead

HERE = Path(__file__).resolve().parent
PATHS = f"{HERE.parents[1] / 'python'}:{HERE.parent}"


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{PATHS}:{folder}", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )


def test_the_admin(tmp_path: Path) -> None:
    """Django is set up for another project in this process."""
    done = run(
        tmp_path,
        *("-m", "pytest", "-q", "--noconftest", "-c", os.devnull, f"--rootdir={tmp_path}"),
        *("-p", "no:cacheprovider", "-o", "filterwarnings=error\n default::DeprecationWarning:django.*"),
        str(HERE / "dead_site.py"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        TEST_INBOX=str(tmp_path / "inbox #?.db"),
    )
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
    "django.contrib.sessions", "mqttasgi",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"context_processors": [
    "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]}}]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""
LOOK = """
import django
django.setup()
from django.apps import apps
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
assert list(apps.get_app_config("mqttasgi").get_models()) == []
assert not any(model._meta.app_label == "mqttasgi" for model in admin.site._registry)
assert not ContentType.objects.filter(app_label="mqttasgi").exists()
"""


def test_a_project_without_the_file(tmp_path: Path) -> None:
    """It has neither model nor permissions, and the admin does not show anything."""
    (tmp_path / "plain.py").write_text(SETTINGS)
    for words in (
        "check --fail-level WARNING",
        "migrate -v 0",
        "dumpdata -o dump.json",
        "makemigrations --check",
    ):
        done = run(tmp_path, "-m", "django", *words.split(), DJANGO_SETTINGS_MODULE="plain")
        assert done.returncode == 0, done.stdout
    done = run(tmp_path, "-c", LOOK, DJANGO_SETTINGS_MODULE="plain")
    assert (done.returncode, done.stdout) == (0, "")


def test_without_django(tmp_path: Path) -> None:
    code = "import sys, mqttasgi.dead as dead; dead.database('/a'); assert 'django' not in sys.modules"
    done = run(tmp_path, "-c", code)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", ["/var/lib/a ?#%.db", "/var/lib/a ?#%.db.dead"])
def test_the_database(path: str) -> None:
    assert dead.database(path)["NAME"] == "file:/var/lib/a%20%3F%23%25.db.dead?mode=rw"


def test_the_router() -> None:
    router = dead.Router()
    assert router.allow_migrate("default", "auth") is None
    assert router.allow_migrate("default", "mqttasgi") is False
    assert router.allow_migrate(dead.ALIAS, "auth") is False
