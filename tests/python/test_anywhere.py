"""Applications' modules import where there is neither a broker nor anything but Django and Channels."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import mqttasgi

DEPENDENCIES = ("channels", "django", "asgiref", "sqlparse", "typing_extensions")


@pytest.mark.parametrize("module", ["mqttasgi.broker", "mqttasgi.consumers", "mqttasgi.testing"])
def test_import_with_only_django_and_channels(tmp_path: Path, module: str) -> None:
    package = Path(mqttasgi.__file__).parent
    (tmp_path / package.name).symlink_to(package)
    for name in DEPENDENCIES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            target = origin.parent if origin.name == "__init__.py" else origin
            (tmp_path / target.name).symlink_to(target)
    # -S: no site-packages; no settings either, which pytest's own process has.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {module}; import redis"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, timeout=60
    )
    # The last of them shows that nothing else could be imported.
    assert result.stderr.rstrip().endswith("No module named 'redis'"), result.stderr
