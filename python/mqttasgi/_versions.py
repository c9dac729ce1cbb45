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


def stranger() -> Optional[str]:
    """Return what is wrong with an mqttasgi that is installed in this Python; None: nothing is."""
    with contextlib.suppress(Exception):
        for distribution in metadata.distributions(name="mqttasgi"):
            return _about(distribution)
    return None


def _about(distribution: metadata.Distribution) -> Optional[str]:
    version = distribution.version
    if version == __version__:
        return None
    where = Path(str(distribution.locate_file("")))
    if not (where / "mqttasgi" / "_types.py").exists():
        return (
            f"{where} has mqttasgi {version}, another program of this name: the server on PyPI, which "
            "`pip install -U mqttasgi` puts in the place of this one. Consumers in this broker go on with "
            f"the plugin's own package ({__version__}), but the command mqttasgi there, and imports outside "
            "the broker, are the other's. `pip install --force-reinstall ./python` in this project's source "
            "brings this one back."
        )
    return (
        f"{where} has mqttasgi {version}, and the plugin brings {__version__}, which consumers in this "
        "broker use. The command mqttasgi there, and tests outside the broker, are of the other version: "
        "install both from one source (cmake --install, pip install)."
    )
