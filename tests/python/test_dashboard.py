"""The dashboard in a project of its own, and in one that is made as its page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PATHS = f"{HERE.parents[1] / 'python'}:{HERE.parent}"

htmx = pytest.importorskip("django_htmx.jinja")
if 2 not in getattr(htmx, "EXTENSIONS", {}).get("hx-ws", ()):
    pytest.skip("django-htmx has no WebSocket extension", allow_module_level=True)


def test_in_a_project(tmp_path: Path) -> None:
    """Django is set up for another project in this process."""
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--noconftest",
                "-c",
                os.devnull,
                f"--rootdir={tmp_path}",
            ),
            *("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"),
            *("-o", "asyncio_default_fixture_loop_scope=function"),
            *("-o", "filterwarnings=error\n default::DeprecationWarning:django.*"),
            str(HERE / "dashboard_site.py"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{PATHS}:{tmp_path}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TEST_DATABASE": str(tmp_path / "project.sqlite3"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout


CHECK = """
import mysite.asgi
from django.core.management import call_command
from django.urls import reverse
call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
assert reverse("mqttasgi_dashboard:topics") == "/dashboard/topics/"
assert set(mysite.asgi.application.application_mapping) == {"http", "websocket", "mqtt"}
"""


def test_a_project_that_is_made_as_the_page_says(tmp_path: Path) -> None:
    """Each block of Python is added to the file that is named before it."""
    page = (HERE.parents[1] / "docs" / "dashboard.md").read_text()
    subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", "."], cwd=tmp_path, check=True)
    blocks = re.findall(r"`(mysite/\w+\.py)`[^`]*```python\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in blocks] == ["mysite/settings.py", "mysite/urls.py", "mysite/asgi.py"]
    for name, block in blocks:
        file = tmp_path / name
        code = textwrap.dedent(block).replace("INSTALLED_APPS = [", "INSTALLED_APPS += [")
        code = code.replace("urlpatterns = [", "urlpatterns += [")
        file.write_text(f"{file.read_text()}\nSTATIC_ROOT = 'static'\n{code}")
    (tmp_path / "mysite" / "consumers.py").write_text(
        "from mqttasgi.consumers import MqttConsumer as MyConsumer\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{PATHS}:{tmp_path}", "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    script = tmp_path / "static" / "django_htmx" / "ext" / "hx-ws-2.min.js"
    assert script.is_file()
