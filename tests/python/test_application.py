"""Finding applications by name, and the sentences when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mqttasgi.runtime.application import ApplicationError, load_application


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "lamps"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "asgi.py").write_text(
        "async def application(scope, receive, send): ...\n"
        "class Consumer:\n"
        "    @classmethod\n"
        "    def as_asgi(cls):\n"
        "        return application\n"
        "class holder:\n"
        "    inner = application\n"
        "number = 7\n"
    )
    (folder / "needs.py").write_text("import not_installed_anywhere\n")
    (folder / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lamps"
    for name in [name for name in sys.modules if name.split(".")[0] == "lamps"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "path", ["asgi:application", "asgi.application", "asgi:Consumer", "asgi.Consumer", "asgi:holder.inner"]
)
def test_both_spellings_find_the_application(package: str, path: str) -> None:
    assert load_application(f"{package}.{path}").__name__ == "application"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nowhere.asgi:application", "there is no module 'nowhere'"),
        ("lamps.wsgi:application", "there is no module 'lamps.wsgi'"),
        ("lamps.asgi:app", "has no 'app'"),
        ("lamps.asgi:number", "not an ASGI application"),
        ("lamps", "must look like package.module:name"),
        (":x", "must look like package.module:name"),
    ],
)
def test_what_is_not_there_gets_a_sentence(package: str, path: str, sentence: str) -> None:
    with pytest.raises(ApplicationError, match=sentence):
        load_application(path)


def test_what_the_module_itself_raises_comes_through(package: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_application("lamps.needs:application")
    with pytest.raises(ZeroDivisionError):
        load_application("lamps.broken:application")
