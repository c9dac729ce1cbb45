"""Django for the tests that need no broker: no project, an in-memory database and channel layer."""

import django
import pytest
from django.conf import settings


def pytest_configure() -> None:
    if not settings.configured:
        settings.configure(
            SECRET_KEY="only for tests",
            INSTALLED_APPS=["channels", "django.contrib.contenttypes", "django.contrib.auth"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
            DEFAULT_AUTO_FIELD="django.db.models.AutoField",
            USE_TZ=True,
        )
        django.setup()


@pytest.fixture(autouse=True)
def no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-django forbids database access outside of its mark, also to the runtime's housekeeping."""
    from mqttasgi import database

    monkeypatch.setattr(database, "_connection_open", False)
