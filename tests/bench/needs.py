"""What a measurement needs, looked for before it takes anybody's time. Each thing missing is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from contenders import expand, prepare
from machine import first_line
from settings import Failure, Settings


def find_mosquitto(named: str) -> str:
    """Where it is: Debian keeps it out of users' PATH. The name itself where there is none."""
    return (
        shutil.which(named, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin") or named
    )


def require(settings: Settings, scenario: str) -> None:
    """Raises Failure with everything that is missing. What can be made, virtual environments, is made."""
    missing = [*_programs(settings), *_plugins(settings, scenario)]
    if not missing:
        failed = prepare(settings, expand(settings, settings.contenders))
        missing = [f"{name}: {text}\n--contenders leaves it out." for name, text in failed.items()]
    if missing:
        raise Failure("\n".join(["Nothing was measured:", *missing]))


def _found(program: str) -> bool:
    return shutil.which(program) is not None


def _programs(settings: Settings) -> Iterator[str]:
    if not _found(settings.mosquitto):
        yield f"There is no program {settings.mosquitto}: apt-get install mosquitto, or name it with --mosquitto."
    if not _found(settings.python):
        yield f"There is no Python {settings.python}: name the plugin's with --python."
    elif not _succeeds([settings.python, "-c", "import ensurepip, venv"]):
        yield f"{settings.python} makes no virtual environments: apt-get install python3-venv."
    if not _found(settings.cc):
        yield f"There is no compiler {settings.cc}: apt-get install gcc, or name it with --cc."
    elif not _succeeds([settings.cc, "-E", "-include", "mosquitto.h", "-x", "c", "/dev/null"]):
        yield f"{settings.cc} does not find mosquitto.h: apt-get install libmosquitto-dev."


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def _plugins(settings: Settings, scenario: str) -> Iterator[str]:
    if any(contender.host == "plugin" for contender in expand(settings, settings.contenders)):
        yield from _plugin(settings, settings.plugin, "--plugin")
    if scenario == "builds" and settings.against is None:
        yield "builds compares two: name the plugin of the other build with --against."
    elif scenario == "builds" and settings.against is not None:
        yield from _plugin(settings, settings.against, "--against")


def _plugin(settings: Settings, path: Path, flag: str) -> Iterator[str]:
    if not path.is_file():
        yield f"There is no plugin {path}: build it (cmake --build build), or name it with {flag}."
        return
    found = re.search(rb"@\(#\)mqttasgi_plugin \S+ Python (\d+\.\d+)", path.read_bytes())
    if found is None:
        yield f"{path} is no plugin of this project: name the file mqttasgi_plugin.so with {flag}."
        return
    if not (path.parent / "mqttasgi" / "mqttasgi" / "consumers.py").is_file():
        yield f"There is no package {path.parent}/mqttasgi beside the plugin: build all of it (cmake --build build)."
    version = first_line([settings.python, "--version"])
    if _found(settings.python) and not version.startswith(f"Python {found[1].decode()}."):
        yield (
            f"{path} was built with Python {found[1].decode()}, and {settings.python} is {version}: name the "
            "one it was built with (--python)."
        )
