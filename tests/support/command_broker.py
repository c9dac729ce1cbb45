"""A broker that the command `mqttasgi` starts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .broker import TAG, Broker, sanitizer_environment, virtualenv
from .command import command_environment


def command(*words: str) -> list[str]:
    """Return the words that run `mqttasgi` with the applications' Python."""
    prefix = virtualenv()
    return [str(prefix / "bin" / "python3") if prefix else sys.executable, "-m", "mqttasgi", *words]


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
                env={**command_environment(**self._variables), **sanitizer_environment(), TAG: self._tag},
            )

    def _started(self) -> bool:
        assert self._process is not None
        # The log goes on where an earlier run ended.
        said = re.search(r"mosquitto version \S+ running", self.log()[self._begin :])
        return self._process.poll() is not None or said is not None
