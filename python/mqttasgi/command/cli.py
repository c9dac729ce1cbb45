# PYTHON_ARGCOMPLETE_OK
"""The command `mqttasgi`: a broker with an application in it, from one line.

Exit status: the broker's own, or 0 and 1 from `--check`, `status` and `dead`, or 2 with one sentence where
it was used wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from . import command_line, connect, dead, dead_line, launch, options, reload, startproject, status
from .configuration import is_elsewhere, python_path
from .dead_file import DeadLetterError
from .option_table import CONNECT, ENV_FILE, EXTRAS, PARAMETERS, PYTHON_PATH, Settings
from .values import UsageError, check_text

#: The command once more. Python looks for modules in the working directory first; a project's are not its.
_AGAIN = """
import sys
sys.path[:] = [folder for folder in sys.path if folder] + [sys.argv.pop(1)]
from mqttasgi.command.cli import main
sys.exit(main(sys.argv[2:], prog=sys.argv[1]))
"""


#: What is no application, and comes first.
_FIRST = ("dead", "startproject", "status")


def main(
    arguments: Optional[Sequence[str]] = None,
    *,
    prog: str = "mqttasgi",
    application: Optional[str] = None,
    project: Optional[str] = None,
) -> int:
    """Do what the command line asks for. Does not return where it becomes the broker.

    Args:
        arguments: Without the program's name; those of this process where None.
        prog: How the command is called, for its texts.
        application: The default of the application.
        project: The project's folder; where this process is where None.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words, prog, application, _folder(project))
    except (UsageError, launch.LaunchError) as error:
        _complain(prog, error)
        return 2
    except (status.StatusError, DeadLetterError) as error:
        _complain(prog, error)
        return 1
    except BrokenPipeError:
        # Whoever reads what --help and --print-config print has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        print(
            f"{prog}: {error.filename or 'starting the broker'}: {error.strerror or error}.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        return 130


def _complain(prog: str, error: Exception) -> None:
    print(f"{prog}: {error}{'' if str(error).endswith('?') else '.'}", file=sys.stderr)


def _folder(project: Optional[str]) -> Path:
    try:
        folder = project or os.getcwd()
    except FileNotFoundError:
        raise UsageError("the working directory does not exist any more; change to another") from None
    try:
        return Path(check_text(folder))
    except ValueError as error:
        raise UsageError(f"the name of the working directory {error}") from None


def _run(words: list[str], prog: str, application: Optional[str], project: Path) -> int:
    if _is("status", words):
        return _run_status(words, prog, project)
    if _is("dead", words):
        return _run_dead(words, prog, project)
    if words[:1] == ["startproject"]:
        startproject.run(words[1:], prog, project)
        return 0
    parser = command_line.parser(prog)
    _complete(parser)
    found = parser.parse_args(words)
    if found.action == "help":
        parser.print_help()
        return 0
    if found.action == "version":
        for name, version in launch.versions():
            print(f"{name:<12}{version}")
        return 0
    settings = options.resolve(found, os.environ, project, application)
    again = words if found.application or not application else [*words, application]
    if settings.connect is not None:
        return _run_elsewhere(found.action, settings, project, again, prog)
    # Before anything else is said of a host that does not exist; and once, for a name server may be slow, or
    # say something else the next time.
    settings.bridge = is_elsewhere(settings)
    if found.action == "print-config":
        sys.stdout.write(launch.printed(settings, project))
        return 0
    if found.action == "check":
        return 0 if launch.check(settings, project) else 1
    if found.action == "reload":
        return _reload(again, prog, settings, project)
    launch.start(settings, project)


def _run_elsewhere(
    action: Optional[str], settings: Settings, project: Path, words: list[str], prog: str
) -> int:
    """Do what the command line asks for where the broker is elsewhere."""
    if action == "print-config":
        raise UsageError("--print-config prints a broker's configuration, and --connect starts none")
    if action == "reload":
        connect.process_settings(settings, os.environ, project)
        return _reload(words, prog, settings, project)
    return connect.run(settings, os.environ, project, check=action == "check")


def _reload(words: list[str], prog: str, settings: Settings, project: Path) -> int:
    again = [word for word in words if word != "--reload"]
    command = [sys.executable, "-c", _AGAIN, str(Path(__file__).absolute().parents[2]), prog, *again]
    folders = python_path(settings, str(project))
    if not settings.plugin_options.get("python_path"):
        os.environ[PYTHON_PATH] = ":".join(folders)
    if settings.env_file and not settings.plugin_options.get("env_file"):
        os.environ[ENV_FILE] = settings.env_file
    return reload.run(command, folders, settings.env_file)


def _is(command: str, words: list[str]) -> bool:
    """Whether this is the command that comes first; also where bash wants to complete what follows it."""
    return (words if "_ARGCOMPLETE" not in os.environ else _whole_words())[:1] == [command]


def _whole_words() -> list[str]:
    """Return the words behind the program's name, of a line that is being typed, but not one it ends in."""
    line = os.environ.get("COMP_LINE", "")
    said = line.split()[1:]
    return said if line.endswith(" ") else said[:-1]


def _run_status(words: list[str], prog: str, project: Path) -> int:
    parser = command_line.status_parser(prog)
    _complete(parser)
    found = parser.parse_args(words)
    if found.help:
        parser.print_help()
        return 0
    settings = options.resolve_status(found, os.environ, project)
    settings.bridge = is_elsewhere(settings)
    try:
        status.run(settings, as_json=found.json, watch=found.watch)
    except status.StatusError as error:
        if not options.look_up("MQTTASGI_CONNECT", os.environ, project):
            raise
        raise status.StatusError(
            f"{error}. MQTTASGI_CONNECT is set: what runs with --connect writes its numbers to its own log "
            "instead, when it gets SIGUSR1"
        ) from None
    return 0


def _run_dead(words: list[str], prog: str, project: Path) -> int:
    is_typed = "_ARGCOMPLETE" in os.environ
    verb = dead_line.verb_of(_whole_words()[1:] if is_typed else words[1:], is_typed)
    parser = dead_line.dead_parser(prog, verb)
    _complete(parser)
    found = parser.parse_args(words)
    if found.help:
        parser.print_help()
        return 0
    return dead.run(found, os.environ, project)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer completion in bash: `eval "$(register-python-argcomplete mqttasgi)"`."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
        from argcomplete.completers import ChoicesCompleter, DirectoriesCompleter, FilesCompleter
    except ImportError:
        return
    choices = {"BOOL": ("true", "false"), "0-2": ("0", "1", "2"), "TRANSPORT": ("tcp", "websockets")}
    kinds = {option.name: option.metavar for option in (*PARAMETERS, *CONNECT, *EXTRAS)}
    kinds["file"] = "FILE"
    for action in parser._actions:
        completer: Any = None
        kind = kinds.get(action.dest, "")
        if kind in choices:
            completer = ChoicesCompleter(choices[kind])
        elif kind == "FILE":
            completer = FilesCompleter()
        elif kind == "FOLDER":
            completer = DirectoriesCompleter()
        elif action.dest in ("id", "ids", "consumer", "limit", "wait"):
            completer = ChoicesCompleter(())
        elif action.dest == "application":
            first = len(os.environ.get("COMP_LINE", "").split()) <= 2
            completer = ChoicesCompleter([*_applications(), *(_FIRST if first else [])])
        action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _applications() -> list[str]:
    """Return what a project's `asgi.py` usually holds."""
    return sorted(f"{path.parent.name}.asgi:application" for path in Path().glob("*/asgi.py"))


if __name__ == "__main__":
    sys.exit(main())
