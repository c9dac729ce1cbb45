"""Dead letters in the admin of a Django project, with Django's own test client.

`test_dead_admin.py` runs it in a process of its own, because Django is set up once in each: with `sys.argv`'s
inbox in the environment variable `TEST_INBOX`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.urls import path

from mqttasgi import dead
from mqttasgi.runtime import advice
from support.dead_letters import add, make, replayed

INBOX = Path(os.environ["TEST_INBOX"])
FILE = Path(f"{INBOX}.dead")
LIST = "/admin/mqttasgi/deadletter/"

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "mqttasgi",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        dead.ALIAS: dead.database(INBOX),
    },
    DATABASE_ROUTERS=["mqttasgi.dead.Router"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    STATIC_URL="/static/",
    TIME_ZONE="Europe/Berlin",
    USE_TZ=True,
    LANGUAGE_CODE="en",
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings, setup_test_environment  # noqa: E402

from mqttasgi.apps import check_router  # noqa: E402

urlpatterns = [path("admin/", admin.site.urls)]


@pytest.fixture(scope="module", autouse=True)
def project() -> None:
    setup_test_environment()
    call_command("migrate", verbosity=0)


@pytest.fixture
def file() -> Iterator[Path]:
    yield make(FILE)
    connections[dead.ALIAS].close()
    FILE.unlink()


@pytest.fixture
def client() -> Client:
    return logged_in(is_superuser=True)


def logged_in(*permissions: str, **columns: Any) -> Client:
    User.objects.all().delete()
    user = User.objects.create(username="ann", is_staff=True, **columns)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    return client


def text_of(page: Any) -> str:
    """Return what somebody reads."""
    assert page.status_code == 200
    text: str = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.content.decode()))
    return text.replace("&#x27;", "'").replace("&quot;", '"')


def act(client: Client, action: str, *ids: int, **more: str) -> Any:
    return client.post(LIST, {"action": action, "_selected_action": [*map(str, ids)], **more}, follow=True)


def test_the_project_is_as_it_should_be() -> None:
    call_command("check", databases=["default", dead.ALIAS], fail_level="WARNING")
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    assert check_router() == []
    with override_settings(DATABASE_ROUTERS=[]):
        assert [error.id for error in check_router()] == ["mqttasgi.E001"]


def test_the_runtime_misses_no_migrations() -> None:
    """Nor does it open the file."""
    assert advice._unapplied(dead.ALIAS) == []
    assert not FILE.exists()
    assert [sentence for sentence in advice.unwritable() if "dead" in sentence] == []


def test_nothing_of_it_is_in_the_projects_database(file: Path) -> None:
    add(file)
    assert "dead_letter" not in connections["default"].introspection.table_names()
    call_command("dumpdata", output=os.devnull, verbosity=0)


def test_the_list(client: Client, file: Path) -> None:
    add(file, died=1_764_331_261_250)
    add(file, consumer="worker 'a' b", topic="home/door", reason="expired", tries=0, traceback="")
    text = text_of(client.get(LIST))
    assert "Select dead letter to view" in text
    assert "Nov. 28, 2025, 1:01 p.m. master home/boiler/temperature 5 failed ValueError: could not" in text
    assert "worker 'a' b home/door 0 expired" in text
    assert "2 dead letters" in text
    assert "Add dead letter" not in text
    actions = re.findall(r"\w+ selected dead letters", text)
    assert sorted(actions) == ["Drop selected dead letters", "Replay selected dead letters"]
    text = text_of(client.get(LIST, {"q": "door"}))
    assert "home/boiler" not in text
    text = text_of(client.get(LIST, {"consumer": "master", "o": "-2"}))
    assert "home/door" not in text


def test_one(client: Client, file: Path) -> None:
    add(file, properties=b"\x03\x00\x04a/<b\x26\x00\x01k\x00\x01v")
    page = client.get(f"{LIST}1/change/")
    text = text_of(page)
    for words in (
        "Reason: failed: the consumer raised an error each time",
        "Died: Nov. 28, 2025, 1:01 p.m.",
        "Published: Nov. 28, 2025, 1 p.m.",
        "content_type: 'a/&lt;b' user_property: [('k', 'v')]",
        "Payload: warm",
        "ValueError: could not convert string to float: 'warm'",
    ):
        assert words in text
    assert "Save" not in text
    assert b"<textarea" not in page.content
    client.post(f"{LIST}1/change/", {"topic": "another"})
    assert "another" not in text_of(client.get(f"{LIST}1/change/"))


def test_payloads(client: Client, file: Path) -> None:
    add(file, payload=b"\x00\xff" * 100_000)
    add(file, payload=b"", traceback="")
    text = text_of(client.get(f"{LIST}1/change/"))
    assert "00000000 00 ff 00" in text
    assert "… 200,000 bytes in all: mqttasgi dead show 1 --payload" in text
    assert "Payload: - Traceback: -" in text_of(client.get(f"{LIST}2/change/"))


def test_replay(client: Client, file: Path) -> None:
    for _ in range(3):
        add(file)
    assert "2 dead letters will be handled again" in text_of(act(client, "replay_selected", 1, 3))
    assert replayed(file) == {1: 1, 2: 0, 3: 1}


def test_drop(client: Client, file: Path) -> None:
    for _ in range(3):
        add(file)
    assert "Are you sure" in text_of(act(client, "delete_selected", 1, 2))
    assert set(replayed(file)) == {1, 2, 3}
    act(client, "delete_selected", 1, 2, post="yes")
    assert set(replayed(file)) == {3}
    client.post(f"{LIST}3/delete/", {"post": "yes"})
    assert replayed(file) == {}


def test_permissions(file: Path) -> None:
    for _ in range(2):
        add(file)
    assert logged_in().get(LIST).status_code == 403
    viewer = logged_in("view_deadletter")
    text = text_of(viewer.get(LIST))
    assert "home/boiler" in text
    assert "Replay selected" not in text
    assert "Drop selected" not in text
    act(viewer, "replay_selected", 1)
    act(viewer, "delete_selected", 1, post="yes")
    assert viewer.post(f"{LIST}1/delete/", {"post": "yes"}).status_code == 403
    assert viewer.get(f"{LIST}add/").status_code == 403
    assert replayed(file) == {1: 0, 2: 0}
    helper = logged_in("view_deadletter", "replay_deadletter")
    act(helper, "replay_selected", 1)
    act(helper, "delete_selected", 1, post="yes")
    assert replayed(file) == {1: 1, 2: 0}
    act(logged_in("view_deadletter", "delete_deadletter"), "delete_selected", 2, post="yes")
    assert replayed(file) == {1: 1}


def test_there_is_no_file_yet(client: Client) -> None:
    assert not FILE.exists()
    for place in (LIST, f"{LIST}1/change/", f"{LIST}1/delete/"):
        text = text_of(client.get(place, follow=True))
        assert f"The file of dead letters {FILE} cannot be opened just now (unable to open" in text
    assert not FILE.exists(), "Django has not made one"
    FILE.touch()
    assert "has nothing in it yet." in text_of(client.get(LIST, follow=True))
    connections[dead.ALIAS].close()
    FILE.unlink()


def test_another_file(client: Client, file: Path) -> None:
    add(file)
    with connections[dead.ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA user_version = 2")
    assert "is of a newer mqttasgi (version 2 of the file" in text_of(client.get(LIST, follow=True))
    with connections[dead.ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA application_id = 7")
    assert "is not a file of mqttasgi's dead letters." in text_of(client.get(LIST, follow=True))
