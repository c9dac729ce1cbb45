"""`mqttasgi startproject`: a folder with a Django project that runs as it is.

The files are in project_template/, written as Django's own templates are, so `django-admin startproject
--template` could take them, too.
"""

from __future__ import annotations

import keyword
import os
import pwd
import re
import secrets
import shlex
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from .user import is_roots
from .values import UsageError

_TEMPLATE = Path(__file__).absolute().parent / "project_template"
#: Names of the project's own files and folders, which its package would hide.
_TAKEN = ("data", "manage", "tests")
#: Who the broker becomes when root starts it.
_BROKER_USER = "mosquitto"


def run(words: Sequence[str], prog: str, folder: Path) -> None:
    """Make the project that `words` name, in a new folder of that name below `folder`, and say what is next.

    Raises:
        UsageError: Something is wrong with the name, or the folder is not empty.
    """
    usage = f"usage: {prog} startproject NAME"
    if list(words) in (["-h"], ["--help"]):
        print(f"{usage}\n\nMakes the folder NAME with a Django project that runs in the broker as it is.")
        return
    if len(words) != 1:
        raise UsageError(f"startproject takes one name, which becomes a folder and a Python package; {usage}")
    (name,) = words
    _check_name(name, folder)
    project = folder / name
    _check_folder(project)
    if not project.is_dir():
        _check_safe(folder)
        project.mkdir(exist_ok=True)
    _check_safe(project)  # in a folder like /tmp somebody may have been faster
    _write(project, name)
    print(_next_steps(project))


def _check_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        other = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        good = bool(re.fullmatch(r"[A-Za-z_]\w*", other, re.ASCII)) and not keyword.iskeyword(other)
        hint = f", such as {other}" if good else ""
        raise UsageError(f'"{name}" cannot be the name of a Python package; take letters, digits and _{hint}')
    # What is in this folder is looked at next.
    elsewhere = [place for place in sys.path if place and Path(place).absolute() != folder.absolute()]
    if name in _TAKEN:
        raise UsageError(f'"{name}" is the name of another part of a project; take another')
    if name in sys.builtin_module_names or PathFinder.find_spec(name, elsewhere):
        raise UsageError(
            f'"{name}" is the name of a Python module that is installed, which the project would hide; '
            "take another"
        )


def _check_folder(project: Path) -> None:
    if os.path.lexists(project) and not project.is_dir():
        raise UsageError(f"{project} is there already and is no folder; take another name")
    if project.is_dir() and os.listdir(project):
        raise UsageError(
            f"{project} is there already and is not empty; take another name, or another folder to be in"
        )


def _check_safe(place: Path) -> None:
    """Raise `UsageError` where somebody else than root could move the files of root's project.

    Root gives parts of it to the broker's user: who can move them about meanwhile, as the application can in
    a folder of that user's, could have anything given in their place.
    """
    if os.geteuid() == 0 and not is_roots(place):
        raise UsageError(
            f"root does not make a project in {place}, where others can move its files; make it as the user "
            "whom that folder belongs to, or in a folder that only root can write to"
        )


def _write(project: Path, name: str) -> None:
    values = {"project_name": name, "secret_key": secrets.token_urlsafe(48)}
    for source in sorted(_TEMPLATE.rglob("*")):
        if not source.is_file() or source.suffix == ".pyc":
            continue
        path = str(source.relative_to(_TEMPLATE)).replace("project_name", name)
        target = project / re.sub(r"-tpl$", "", path.replace("dot-", "."))
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace("{{ " + key + " }}", value)
        if target.name == ".env":
            # It has a key in it.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        target.write_text(text, encoding="utf-8")
    (project / "manage.py").chmod(0o755)
    (project / "data").mkdir(mode=0o750)
    _give_to_broker(project)


def _broker_user() -> pwd.struct_passwd | None:
    """Who the broker becomes, where that is somebody else than who makes the project."""
    try:
        return pwd.getpwnam(_BROKER_USER) if os.geteuid() == 0 else None
    except KeyError:
        return None


def _give_to_broker(project: Path) -> None:
    user = _broker_user()
    if user is not None:
        os.chown(project / "data", user.pw_uid, user.pw_gid)
        os.chown(project / ".env", 0, user.pw_gid)
        (project / ".env").chmod(0o640)


def _next_steps(project: Path) -> str:
    python = shlex.quote(sys.executable)
    migrate = f"{python} manage.py migrate"
    if _broker_user() is not None:
        # The database is to be the broker's.
        migrate = f"runuser -u {_BROKER_USER} -- {migrate}"
    command = Path(sys.executable).parent / "mqttasgi"
    start = shlex.quote(str(command)) if command.exists() else f"{python} -m mqttasgi"
    return (
        f"{project} is made. Next:\n\n  cd {shlex.quote(str(project))}\n  {migrate}\n  {start}\n\n"
        "README.md there says the rest."
    )
