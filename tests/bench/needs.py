"""What a measurement needs, looked for before it takes anybody's time, and made; what cannot be is a sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import environments
import product
from contenders import expand
from environments import Environment
from machine import build_programs, first_line, old_programs
from settings import BUILD, PRODUCT, ROOT, Failure, Settings, progress

DEFAULT_MOSQUITTO, DEFAULT_PYTHON, DEFAULT_CC = "mosquitto", "/usr/bin/python3", "cc"


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and Debian's packages that bring it; none where the user has named another."""

    sentence: str
    packages: tuple[str, ...] = ()


def find_mosquitto(named: str) -> str:
    """Return where it is: Debian keeps it out of users' PATH. The name itself where there is none."""
    return (
        shutil.which(named, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin") or named
    )


def require(settings: Settings, names: tuple[str, ...], picture: bool) -> None:
    """Say everything that is missing, then make it. Raises Failure with what has to be there and cannot be made.

    names: of the scenarios.
    """
    missing = [*_programs(settings), *_plugins(settings, names)]
    installable = shutil.which("apt-get") is not None and all(each.packages for each in missing)
    if missing and not installable:
        raise Failure("\n".join(["Nothing was measured:", *(each.sentence for each in missing)]))
    packages = list(dict.fromkeys(package for each in missing for package in each.packages))
    wanted = _environments(settings, names, picture)
    plans = [
        *([f"Debian's packages {' '.join(packages)}"] if packages else []),
        *([f"the plugin of this checkout, {PRODUCT}"] if _has_to_be_built(settings, names) else []),
        *([f"the programs {' '.join(old_programs())}, {BUILD}"] if old_programs() else []),
        *(f"{', '.join(each.requirements)}, {each.folder}" for each in wanted if not each.is_made(settings)),
    ]
    if plans:
        progress("\n  ".join(["Not here yet, and made first:", *plans]))
    _make(settings, names, packages, wanted)


def _make(settings: Settings, names: tuple[str, ...], packages: list[str], wanted: list[Environment]) -> None:
    if packages:
        progress("installing packages")
        _install(packages)
        still = [each.sentence for each in [*_programs(settings), *_plugins(settings, names)]]
        if still:
            raise Failure("\n".join(["Nothing was measured:", *still]))
    if _has_to_be_built(settings, names):
        progress("building the plugin")
        product.build(settings)
    if "builds" in names and settings.without:
        folder = product.without(settings.without)
        if not product.is_built(settings, folder):
            progress(f"building the plugin without {' and '.join(settings.without)}")
            product.build(settings, folder, settings.without)
    build_programs(settings)
    failed = []
    for each in wanted:
        try:
            each.make(settings)
        except Failure as failure:
            failed.append(f"{each.folder}: {failure}\n--contenders leaves out who needs it.")
    if failed:
        raise Failure("\n".join(["Nothing was measured:", *failed]))


def _has_to_be_built(settings: Settings, names: tuple[str, ...]) -> bool:
    return _uses_plugin(settings, names) and settings.builds_plugin and not product.is_built(settings)


def _uses_plugin(settings: Settings, names: tuple[str, ...]) -> bool:
    contenders = expand(settings, settings.contenders)
    return names != ("compare",) or any(contender.host == "plugin" for contender in contenders)


def _environments(settings: Settings, names: tuple[str, ...], picture: bool) -> list[Environment]:
    wanted = [contender.environment for contender in expand(settings, settings.contenders)]
    if "chaos" in names:
        wanted.append(environments.CLIENTS)
    if names != ("compare",):
        wanted += [environments.for_channels(version) for version in settings.channels]
    if picture:
        wanted.append(environments.PICTURE)
    return list(dict.fromkeys(each for each in wanted if each is not None))


def _install(packages: list[str]) -> None:
    """Install Debian's packages as tests/run does. Raises Failure where this user may not."""
    script = '. config/debian.sh && debian_install "$@" >&2'
    done = subprocess.run(["bash", "-c", script, "bench", *packages], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise Failure(f"Nothing was measured: apt-get install {' '.join(packages)} did not work.")


def _found(program: str) -> bool:
    return shutil.which(program) is not None


def _programs(settings: Settings) -> Iterator[Missing]:
    if not _found(settings.mosquitto):
        yield Missing(
            f"There is no program {settings.mosquitto}: apt-get install mosquitto, or name it with --mosquitto.",
            ("mosquitto",) if settings.mosquitto == DEFAULT_MOSQUITTO else (),
        )
    if not _found(settings.python):
        yield Missing(
            f"There is no Python {settings.python}: name the plugin's with --python.",
            ("python3", "python3-venv") if settings.python == DEFAULT_PYTHON else (),
        )
    elif not _succeeds([settings.python, "-c", "import ensurepip, venv"]):
        yield Missing(
            f"{settings.python} makes no virtual environments: apt-get install python3-venv.",
            ("python3-venv",) if settings.python == DEFAULT_PYTHON else (),
        )
    if not _found(settings.cc):
        yield Missing(
            f"There is no compiler {settings.cc}: apt-get install gcc, or name it with --cc.",
            ("gcc", "libc6-dev", "libmosquitto-dev") if settings.cc == DEFAULT_CC else (),
        )
    elif not _includes(settings, "mosquitto.h"):
        yield Missing(
            f"{settings.cc} does not find mosquitto.h: apt-get install libmosquitto-dev.",
            ("libc6-dev", "libmosquitto-dev"),
        )


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def _includes(settings: Settings, header: str) -> bool:
    return _succeeds([settings.cc, "-E", "-include", header, "-x", "c", "/dev/null"])


def _plugins(settings: Settings, names: tuple[str, ...]) -> Iterator[Missing]:
    if _uses_plugin(settings, names):
        if settings.builds_plugin:
            yield from _tools(settings)
        else:
            yield from _plugin(settings, settings.plugin, "--plugin")
    if "builds" in names and settings.against is None:
        yield Missing(
            "builds compares two: name the plugin of the other build with --against, or what it lacks with --without."
        )
    elif "builds" in names and settings.against is not None and not settings.without:
        yield from _plugin(settings, settings.against, "--against")


def _tools(settings: Settings) -> Iterator[Missing]:
    """Look for what the plugin is built with."""
    for program in ("cmake", "make"):
        if not _found(program):
            yield Missing(f"There is no program {program}: apt-get install {program}.", (program,))
    if not _found(settings.cc):
        # What it would find is not known; apt-get leaves alone what is there.
        yield Missing(
            "The plugin is built with headers of Mosquitto, OpenSSL, SQLite and Python.",
            ("mosquitto-dev", "libssl-dev", "libsqlite3-dev", "python3-dev")
            if settings.cc == DEFAULT_CC
            else (),
        )
        return
    for header, package in (
        ("mosquitto_broker.h", "mosquitto-dev"),
        ("openssl/ssl.h", "libssl-dev"),
        ("sqlite3.h", "libsqlite3-dev"),
    ):
        if not _includes(settings, header):
            yield Missing(
                f"{settings.cc} does not find {header}: apt-get install {package}.",
                (package, "libmosquitto-dev"),
            )
    where = (
        "import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    )
    if _found(settings.python) and not _succeeds([settings.python, "-c", where]):
        yield Missing(
            f"{settings.python} has no Python.h: apt-get install python3-dev.",
            ("python3-dev",) if settings.python == DEFAULT_PYTHON else (),
        )


def _plugin(settings: Settings, path: Path, flag: str) -> Iterator[Missing]:
    if not path.is_file():
        yield Missing(f"There is no plugin {path}: build it (cmake --build build), or name it with {flag}.")
        return
    found = re.search(rb"@\(#\)mqttasgi_plugin \S+ Python (\d+\.\d+)", path.read_bytes())
    if found is None:
        yield Missing(f"{path} is no plugin of this project: name the file mqttasgi_plugin.so with {flag}.")
        return
    if not (path.parent / "mqttasgi" / "mqttasgi" / "consumers.py").is_file():
        yield Missing(
            f"There is no package {path.parent}/mqttasgi beside the plugin: build all of it (cmake --build build)."
        )
    version = first_line([settings.python, "--version"])
    if _found(settings.python) and not version.startswith(f"Python {found[1].decode()}."):
        yield Missing(
            f"{path} was built with Python {found[1].decode()}, and {settings.python} is {version}: name the "
            "one it was built with (--python)."
        )
