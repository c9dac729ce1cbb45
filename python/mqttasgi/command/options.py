"""What the command line, the environment and the `.env` file say, checked.

The first that has a value wins: argument, environment variable, `.env` file, default. The plugin reads
the same variables by the same rules (plugin/options), and checks the options that only it knows.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from .checks import check_connection, check_together
from .option_table import ENV_FILE, OPTIONS, PYTHON_PATH, STATUS, Option, Settings
from .values import UsageError, check_text, quote


def resolve(
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    folder: Path,
    application: Optional[str] = None,
) -> Settings:
    """Return what is to be run.

    Args:
        arguments: As `parser()` returns them.
        environment: `os.environ`.
        folder: The project: where `.env` is looked for, and modules.
        application: The default of `APPLICATION`.

    Raises:
        UsageError: A value makes no sense, or two do not go together.
    """
    settings = Settings()
    settings.plugin_options = _plugin_options(arguments.plugin_options)
    _take_values(settings, OPTIONS, arguments, environment, folder)
    settings.application = settings.application or application or ""
    check_together(settings)
    return settings


def resolve_status(arguments: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> Settings:
    """Return which broker is asked, as `resolve` does; what `status` has no use for has its default.

    Raises:
        UsageError: A value makes no sense, or two do not go together.
    """
    settings = Settings()
    _take_values(settings, STATUS, arguments, environment, folder)
    check_connection(settings)
    return settings


def look_up(variable: str, environment: Mapping[str, str], folder: Path) -> Optional[str]:
    """Return what the environment or the `.env` file says of an option that only the plugin has.

    Raises:
        UsageError: There is a `.env` file that cannot be read.
    """
    return environment.get(variable) or _read_dotenv(Settings(), environment, folder).get(variable)


def _take_values(
    settings: Settings,
    options: Sequence[Option],
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    folder: Path,
) -> None:
    settings.variables = _read_dotenv(settings, environment, folder)
    for option in options:
        text, source = _find(option, arguments, environment, settings)
        if text is None:
            setattr(settings, option.name, option.default)
            continue
        settings.sources[option.name] = source
        try:
            if not text:
                raise ValueError("has no value")
            value = option.take(text)
        except ValueError as error:
            shown = "" if option.secret or not text else f"{quote(text)} "
            raise settings.complain(option.name, f"{shown}{error}") from None
        setattr(settings, option.name, value)


def _find(
    option: Option,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    settings: Settings,
) -> tuple[Optional[str], str]:
    given: Optional[str] = getattr(arguments, option.name)
    if given is not None:
        return given, f"argument {'/'.join(option.flags) or option.metavar}"
    if environment.get(option.variable):
        return environment[option.variable], f"environment variable {option.variable}"
    if settings.variables.get(option.variable):
        return settings.variables[option.variable], f"{settings.env_file}, {option.variable}"
    return None, ""


def _read_dotenv(
    settings: Settings, environment: Mapping[str, str], folder: Path
) -> Mapping[str, Optional[str]]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise UsageError("python-dotenv is not installed in this Python: pip install python-dotenv") from None
    given = settings.plugin_options
    path = given.get("env_file") or environment.get(ENV_FILE)
    if path:
        file: Optional[Path] = Path(os.path.expanduser(path)).absolute()
    else:
        # The plugin would find those beside the code, too.
        code = (given.get("python_path") or environment.get(PYTHON_PATH) or "").split(":")
        file = find_dotenv([place.absolute() for place in (folder, *map(Path, filter(None, code)))])
    if file is None:
        return {}
    settings.env_file = str(file)
    # It warns of lines that it passes over; the plugin names the first of them, and stops.
    logging.getLogger("dotenv").setLevel(logging.ERROR)
    try:
        with file.open(encoding="utf-8") as stream:
            values: dict[str, Optional[str]] = dotenv_values(stream=stream)
            return values
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not text in UTF-8; save it as that") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def find_dotenv(folders: Sequence[Path]) -> Optional[Path]:
    """Return the `.env` file of the first folder that has one, else the nearest above one of them.

    So python-dotenv looks upwards, and mqttasgi with it. The plugin does the same.

    Above, a folder may be everybody's, as /tmp is: only a file counts that belongs to root, to this user or
    to whom the folder belongs.
    """
    for folder in folders:
        if os.path.isfile(folder / ".env"):
            return folder / ".env"
    for folder in folders:
        trusted = {0, os.geteuid(), _owner(folder)}
        for parent in folder.parents:
            if os.path.isfile(parent / ".env") and _owner(parent / ".env") in trusted:
                return parent / ".env"
    return None


def _owner(path: Path) -> Optional[int]:
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def _plugin_options(texts: Sequence[str]) -> dict[str, str]:
    taken = {option.name: option for option in OPTIONS}
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]+", key) or not value:
            raise UsageError(f"argument -o/--option: {quote(text)} must look like key=value, such as spin=0")
        if key in taken:
            flag = taken[key].flags[-1] if taken[key].flags else "the last argument"
            raise UsageError(f"argument -o/--option: {key} is set with {flag}")
        if key == "check":
            raise UsageError("argument -o/--option: check is done with --check")
        if key in found:
            raise UsageError(f"argument -o/--option: {key} is given twice")
        try:
            found[key] = check_text(value)
        except ValueError as error:
            raise UsageError(f"argument -o/--option: {key} {error}") from None
    return found
