"""What to do about errors of Django's that everybody meets, in one sentence before the traceback.

And what is wrong with the databases already at start.

Nothing here imports Django: an application without it has none of these errors.
"""

from __future__ import annotations

import logging
import os
import pwd
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .away import causes, is_no_database, names

#: `--check` prints what it warns of.
logger = logging.getLogger("mqttasgi.databases")

#: Seconds for which a check waits for the databases to say what migrations they lack.
CHECK_TIMEOUT = 10.0


# ---- about an error ----


def about(error: Optional[BaseException]) -> Optional[str]:
    """Return a sentence that says what to do about an error, or None where there is none to give. Any thread.

    Raises nothing: the error is what counts.
    """
    try:
        for cause in causes(error):
            sentence = _about_one(cause)
            if sentence:
                return sentence
    except BaseException:
        pass
    return None


def _about_one(error: BaseException) -> Optional[str]:
    kinds = names(error)
    if "django.SynchronousOnlyOperation" in kinds:
        return (
            "The ORM was called from async code. Use the method whose name begins with a (acreate, aget, "
            "async for), or put the calls into a function and await database_sync_to_async(function)()."
        )
    if "django.AppRegistryNotReady" in kinds:
        return (
            "Models were imported before Django was set up: in asgi.py, django.setup() or "
            "get_asgi_application() comes before the imports of consumers."
        )
    if "django.ImproperlyConfigured" in kinds:
        return _about_settings(str(error))
    if kinds & {"django.OperationalError", "django.ProgrammingError", "sqlite3.OperationalError"}:
        return _about_database(str(error))
    return None


def _about_settings(text: str) -> str:
    if "settings are not configured" in text:
        return (
            "Django does not know its settings: asgi.py has to set DJANGO_SETTINGS_MODULE and call "
            "django.setup() before it imports what needs them."
        )
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    first = text.partition("\n")[0].strip()
    return f"The settings{module and f' ({module})'} are wrong or not complete: {first}"


def _about_database(text: str) -> Optional[str]:
    first = text.partition("\n")[0].strip()
    lowered = first.lower()
    if is_no_database(lowered):
        return (
            f"The database cannot be used ({first}): is its server there, and are HOST, PORT, NAME, USER and "
            "PASSWORD in DATABASES right?"
        )
    absent = "does not exist" in lowered or "doesn't exist" in lowered  # PostgreSQL's words, and MySQL's
    if "no such column" in lowered or "unknown column" in lowered or (absent and lowered[:7] == "column "):
        return f"The database lacks a column ({first}). Apply the migrations: {_migrate()}"
    if "no such table" in lowered or (absent and ("relation" in lowered or "table" in lowered)):
        return f"The database lacks a table ({first}). Apply the migrations: {_migrate()}"
    if "readonly database" in lowered or "unable to open database file" in lowered:
        return next(iter(unwritable()), None) or (
            f"User {_user()} cannot write the SQLite database ({first}): both its file and its folder must "
            "be that user's to write."
        )
    if "database is locked" in lowered:
        return (
            "Another process or thread was writing to the SQLite database for longer than its timeout. Keep "
            'transactions short, or wait longer: "OPTIONS": {"timeout": 20} in DATABASES.'
        )
    return None


# ---- the databases ----


class _File(NamedTuple):
    """A database of SQLite's."""

    alias: str
    path: Path


def _databases() -> dict[str, dict[str, Any]]:
    """Return `DATABASES`, where Django is there and set up."""
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return {}
    return {
        alias: database
        for alias, database in conf.settings.DATABASES.items()
        if database.get("ENGINE") and not database["ENGINE"].endswith(".dummy")
    }


def _is_sqlite(database: dict[str, Any]) -> bool:
    return str(database["ENGINE"]).rpartition(".")[2] in ("sqlite3", "spatialite")


def _files() -> Iterator[_File]:
    for alias, database in _databases().items():
        name = str(database.get("NAME") or "")
        # A URI says by itself how it is to be opened.
        if _is_sqlite(database) and name not in ("", ":memory:") and not name.startswith("file:"):
            yield _File(alias, Path(name).absolute())


def unwritable() -> list[str]:
    """Return a sentence for each SQLite database that this process cannot write."""
    return [sentence for file in _files() for sentence in [_unwritable(*file)] if sentence]


def _unwritable(alias: str, path: Path) -> Optional[str]:
    folder = path.parent
    what = f"The SQLite database {path} (DATABASES[{alias!r}])"
    for above in reversed(path.parents):
        if not os.access(above, os.X_OK) and above.exists():
            return (
                f"{what} cannot be reached: user {_user()} may not enter the folder {above}. Keep it where "
                f"that user may, or open the folder: sudo chmod o+x {_quoted(above)}"
            )
    if not folder.is_dir():
        return (
            f"{what} has no folder to be in. Make it, for user {_user()}: "
            f"sudo install -d -o {_user()} {_quoted(folder)}"
        )
    journals = [path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm")]
    wrong = [place for place in (path, *journals) if place.exists() and not _can_write(place)]
    if not os.access(folder, os.W_OK | os.X_OK):
        wrong.insert(0, folder)
    if not wrong:
        return None
    places = " and ".join(str(place) for place in wrong)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return (
            f"{what} is on a file system that is read-only for the broker. Where a systemd service starts "
            f"it, allow the folder: ReadWritePaths={folder}"
        )
    return (
        f"{what} cannot be written: user {_user()} must be able to write both the file and its folder, "
        f"for the journal, and cannot write {places}: sudo chown {_user()} {' '.join(map(_quoted, wrong))}"
    )


def _can_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _migrate() -> str:
    """Return the command that applies migrations, for whoever reads the log."""
    folders = [Path(folder or os.curdir).absolute() for folder in sys.path]
    manage = next((folder / "manage.py" for folder in folders if (folder / "manage.py").is_file()), None)
    words = [sys.executable, *(["-m", "django"] if manage is None else [str(manage)]), "migrate"]
    command = shlex.join(words)
    # With SQLite, what it makes has to be the broker's. A system's user is not who reads this.
    if any(True for _ in _files()) and 0 < os.geteuid() < 1000:
        command = f"sudo -u {_user()} {command}"
    return command


# ---- at start ----


def look_at_databases(check: bool) -> None:
    """Warn of databases that cannot be written or lack migrations: else, the first message tells.

    A database may be slow, or not there: nobody waits for its answer but a check, which waits
    `CHECK_TIMEOUT` seconds.
    """
    try:
        for sentence in unwritable():
            logger.warning("%s", sentence)
        if not _databases():
            return
    except Exception:
        logger.debug("The databases could not be looked at", exc_info=True)
        return
    thread = threading.Thread(target=_warn_of_migrations, name="mqttasgi-migrations", daemon=True)
    thread.start()
    if check:
        thread.join(CHECK_TIMEOUT)


def _warn_of_migrations() -> None:
    for alias, database in _databases().items():
        if _is_sqlite(database) and "memory" in str(database.get("NAME")):
            continue  # each connection has one of its own
        try:
            labels = _unapplied(alias)
        except BaseException as error:
            logger.debug("The migrations of database %r could not be looked at", alias, exc_info=True)
            if is_no_database(str(error)):
                logger.warning("Database %r: %s", alias, about(error))
            continue
        if labels:
            apps = ", ".join(sorted(set(labels)))
            logger.warning(
                "Database %r lacks %d %s (%s). Apply %s: %s",
                alias,
                len(labels),
                "migration" if len(labels) == 1 else "migrations",
                apps,
                "it" if len(labels) == 1 else "them",
                _migrate(),
            )


def _unapplied(alias: str) -> list[str]:
    """Return the apps of the migrations that a database lacks, one for each."""
    from django.db import connections, router
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.loader import MigrationLoader

    labels = [label for label, _ in MigrationLoader(None, ignore_no_migrations=True).graph.nodes]
    allowed = {label for label in labels if router.allow_migrate(alias, label)}
    if not allowed:
        return []  # the database is not the project's, as that of dead letters
    file = next((file for file in _files() if file.alias == alias), None)
    if file is not None and not file.path.exists():
        # Opening it would make an empty one.
        return [label for label in labels if label in allowed]
    connection = connections[alias]
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        return [migration.app_label for migration, _ in plan if migration.app_label in allowed]
    finally:
        connection.close()
