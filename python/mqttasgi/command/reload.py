"""Starts the broker again whenever the application's code changes, for development."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Optional

from .launch import LaunchError

#: How long a broker may take to end before it is killed, in seconds.
_PATIENCE = 15


def run(command: Sequence[str], folders: Sequence[str], env_file: Optional[str]) -> int:
    """Run `command`, and again after each change below `folders` or of `env_file`, until a signal.

    The signals are SIGINT, SIGTERM and, where a terminal is closed, SIGHUP.

    Returns:
        The exit status of the last run; 0 where it was ended from here.

    Raises:
        LaunchError: watchfiles is not installed, or cannot watch so many folders.
    """
    stop = threading.Event()

    def ask_to_stop(number: int, frame: Optional[FrameType]) -> None:
        stop.set()

    changes_of_files = _changes(folders, env_file, stop)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    _say(f"watching {', '.join(folders)}")
    process = subprocess.Popen(command)
    told = False
    try:
        for changes in changes_of_files:
            if stop.is_set():
                break
            if changes:
                _say(f"{', '.join(changes)} changed, starting again")
                _end(process)
                process, told = subprocess.Popen(command), False
            elif process.poll() is not None and not told:
                told = True
                _say(
                    f"the broker has ended with status {process.returncode}; the next change starts it again"
                )
    finally:
        status = _end(process)
    return status


def _changes(folders: Sequence[str], env_file: Optional[str], stop: threading.Event) -> Iterator[list[str]]:
    """Return what gives the names of files that have changed, until `stop` is set.

    It gives none now and then, to let the caller see whether the broker has ended by itself. Raises
    LaunchError, here without watchfiles, and from what is returned where it cannot watch so many folders.
    """
    try:
        from watchfiles import Change, DefaultFilter, watch
    except ImportError:
        raise LaunchError(
            "--reload needs the Python package watchfiles: pip install 'watchfiles>=0.24'"
        ) from None

    class Sources(DefaultFilter):
        """Python files outside of virtual environments, and the `.env` file."""

        def __call__(self, change: Change, path: str) -> bool:
            if path == env_file or Path(path).name == ".env":
                return True
            code = path.endswith(".py") and "site-packages" not in Path(path).parts
            return code and super().__call__(change, path)

    watch_all = partial(
        watch,
        *folders,
        *([env_file] if env_file and not _is_below(env_file, folders) else []),
        watch_filter=Sources(),
        stop_event=stop,
        yield_on_timeout=True,
        rust_timeout=250,
        raise_interrupt=False,
    )

    def watched() -> Iterator[set[tuple[Change, str]]]:
        try:
            yield from watch_all(ignore_permission_denied=False)
        except PermissionError:
            # Only now, for it passes over folders beyond the system's limits as well.
            yield from watch_all(ignore_permission_denied=True)

    def names() -> Iterator[list[str]]:
        try:
            for changes in watched():
                yield sorted({os.path.relpath(path) for _, path in changes})
        except (OSError, RuntimeError) as error:
            raise LaunchError(
                f"--reload cannot watch {', '.join(folders)}: {error}. Keep virtual environments and other "
                "large folders out of there, or raise the system's limits: see fs.inotify.max_user_watches "
                "and fs.inotify.max_user_instances in sysctl --all"
            ) from None

    return names()


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(Path(folder).absolute() in Path(path).parents for folder in folders)


def _say(text: str) -> None:
    print(f"mqttasgi: {text}", file=sys.stderr, flush=True)
