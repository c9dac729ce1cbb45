"""A broker that the command `mqttasgi` starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .broker import ROOT, TAG, Broker, mosquitto_program, plugin_path, sanitizer_environment, virtualenv

PACKAGE = ROOT / "python"


def command(*words: str) -> list[str]:
    """Return the words that run `mqttasgi` with the applications' Python."""
    prefix = virtualenv()
    return [str(prefix / "bin" / "python3") if prefix else sys.executable, "-m", "mqttasgi", *words]


def environment(**more: str) -> dict[str, str]:
    """Return the environment for it: this process's, without what would be taken for settings."""
    taken = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MQTT", "TLS_", "PYTHON", "DJANGO_"))
        and name not in ("VERBOSITY", "VIRTUAL_ENV")
    }
    return {
        **taken,
        "PYTHONPATH": str(PACKAGE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MQTTASGI_PLUGIN": str(plugin_path()),
        "MQTTASGI_MOSQUITTO": mosquitto_program(),
        **more,
    }


class CommandBroker(Broker):
    """As `Broker`, but its configuration is the command's affair."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        project: Path,
        variables: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Exists already; the log goes there.
            words: The command line.
            project: Where the command is run.
            variables: Added to its environment.
            arguments: Those of `Broker`, as far as they have to do with the process and not with the configuration.
        """
        super().__init__(folder, **arguments)
        self._words = list(words)
        self._project = project
        self._variables = dict(variables or {})

    def _spawn(self) -> None:
        self._begin = len(self.log())
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                command(*self._words),
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment(), **sanitizer_environment(), **self._variables, TAG: self._tag},
            )

    def _started(self) -> bool:
        assert self._process is not None
        # The log goes on where an earlier run ended.
        said = re.search(r"mosquitto version \S+ running", self.log()[self._begin :])
        return self._process.poll() is not None or said is not None
