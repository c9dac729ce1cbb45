"""The example hub of `docs/examples/hub`: where it is, and its `manage.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .broker import virtualenv

ROOT = Path(__file__).resolve().parents[2]
HUB = ROOT / "docs" / "examples" / "hub"
PACKAGE = ROOT / "python"


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the Python of the applications in the hub's folder."""
    prefix = virtualenv()
    program = str(prefix / "bin" / "python3") if prefix else sys.executable
    inherited = {"PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [program, *arguments],
        cwd=HUB,
        env={**os.environ, **inherited, "DJANGO_SETTINGS_MODULE": "hub.settings", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def manage(database: Path, *arguments: str, **environment: str) -> None:
    """Run `manage.py`, which must succeed."""
    result = python("manage.py", *arguments, **{"HUB_DATABASE": str(database), **environment})
    assert result.returncode == 0, f"manage.py {arguments[0]}: {result.stdout}{result.stderr}"
