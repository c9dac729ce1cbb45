"""Which versions are at work, and whether they belong together."""

from __future__ import annotations

import contextlib
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Optional

from . import __version__


def loaded() -> str:
    """Return the versions of this package, of Python, and of what the application has imported."""
    parts = [f"mqttasgi {__version__}", f"Python {platform.python_version()}"]
    for module, name in (("django", "Django"), ("channels", "Channels")):
        version = getattr(sys.modules.get(module), "__version__", None)
        if isinstance(version, str):
            parts.append(f"{name} {version}")
    return ", ".join(parts)


def difference(plugin: str, path: str = "") -> Optional[str]:
    """Return what is wrong where a plugin of this version runs this package; None: nothing is.

    Args:
        plugin: Its version.
        path: Its file, where that is known.
    """
    if plugin == __version__:
        return None
    return (
        f"The plugin{f' {path}' if path else ''} is version {plugin}, and the Python package beside which it "
        f"works ({Path(__file__).absolute().parent}) is version {__version__}: install both from one source "
        "(cmake --install, pip install)."
    )


def clash() -> Optional[str]:
    """Return what is wrong where another distribution's files are among this package's; None: none are."""
    with contextlib.suppress(Exception):
        where = str(Path(__file__).absolute().parents[1])
        for distribution in metadata.distributions(name="mqttasgi", path=[where]):
            return _about_clash(distribution, where)
    return None


def _about_clash(distribution: metadata.Distribution, where: str) -> str:
    # Not `files`, which from Python 3.12 on has only those that are there.
    record = distribution.read_text("RECORD") or ""
    earlier = any(line.startswith("mqttasgi/_types.py,") for line in record.splitlines())
    return (
        f"{where} has mqttasgi {distribution.version} and mqttasgi-broker {_brought(where)}, which both "
        f"bring the Python module mqttasgi: the first is {_EARLIER if earlier else _ON_PYPI}. What was "
        "installed last has overwritten files of the other. Remove both (pip uninstall mqttasgi "
        "mqttasgi-broker), and install mqttasgi-broker again."
    )


_EARLIER = "an earlier version of the second"
_ON_PYPI = "the program of that name on PyPI, a client of a broker"


def _brought(where: str) -> str:
    # What __init__.py says may be the other's.
    found = [one.version for one in metadata.distributions(name="mqttasgi-broker", path=[where])]
    return found[0] if found else __version__


def stranger() -> Optional[str]:
    """Return what is wrong with an mqttasgi that is installed in this Python; None: nothing is."""
    with contextlib.suppress(Exception):
        for distribution in metadata.distributions(name="mqttasgi"):
            return _about_other(distribution)
        for distribution in metadata.distributions(name="mqttasgi-broker"):
            return _about(distribution)
    return None


def _about_other(distribution: metadata.Distribution) -> str:
    return (
        f"{distribution.locate_file('')} has mqttasgi {distribution.version}, another program of this name: "
        "the one on PyPI, or an earlier version of this one. Consumers in this broker use the plugin's own "
        f"package ({__version__}), but the command mqttasgi there, and imports outside the broker, are the "
        "other's. Remove it (pip uninstall mqttasgi), and install mqttasgi-broker again."
    )


def _about(distribution: metadata.Distribution) -> Optional[str]:
    version = distribution.version
    if version == __version__:
        return None
    return (
        f"{distribution.locate_file('')} has mqttasgi-broker {version}, and the plugin brings {__version__}, "
        "which consumers in this broker use. The command mqttasgi there, and tests outside the broker, are "
        "of the other version: install both from one source (cmake --install, pip install)."
    )
