"""The command `mqttasgi` as somebody starts it: with arguments, an environment, a `.env` file and a project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .broker import ROOT, Broker, clean_environment, mosquitto_program, plugin_path
from .processes import PATIENCE, wait_until

#: Where a setting can come from.
SOURCES = ("argument", "environment", "dotenv")

#: The reference's table, and the application: each option's variable and flag.
FLAGS = {
    "MQTT_HOSTNAME": "--host",
    "MQTT_PORT": "--port",
    "MQTT_USERNAME": "--username",
    "MQTT_PASSWORD": "--password",
    "MQTT_CLEAN": "--cleansession",
    "VERBOSITY": "--verbosity",
    "MQTT_CLIENT_ID": "--id",
    "TLS_CERT": "--cert",
    "TLS_KEY": "--key",
    "TLS_CA": "--cacert",
    "MQTT_USE_SSL": "--use-ssl",
    "MQTT_TRANSPORT": "--transport",
    "MQTT_RETRIES": "--retries",
    "MQTTASGI_HTTP": "--http",
    "MQTTASGI_HTTP_CERT": "--http-cert",
    "MQTTASGI_HTTP_KEY": "--http-key",
    "MQTTASGI_HTTP_PROXIES": "--http-proxies",
    "MQTTASGI_PERSISTENCE": "--persistence",
    "MQTTASGI_INCLUDE": "--include",
    "MQTTASGI_APPLICATION": "",
}

PYTHON_PATH = f"{ROOT / 'tests' / 'broker'}:{ROOT / 'python'}"


def command_environment(**variables: str) -> dict[str, str]:
    """Return an environment in which `python -m mqttasgi` runs, with these variables in it."""
    return {
        **clean_environment(),
        "PYTHONPATH": str(ROOT / "python"),
        "MQTTASGI_PLUGIN": str(plugin_path()),
        "MQTTASGI_MOSQUITTO": mosquitto_program(),
        **variables,
    }


def as_root() -> list[str]:
    """Return what lets the broker stay root, where root runs the tests: it could not read their folders else."""
    return ["--user", "root"] if os.geteuid() == 0 else []


def run_command(
    *words: str, folder: Path, program: Iterable[str] = (), timeout: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end.

    Args:
        words: Its arguments.
        folder: Where it is started.
        program: Left alone, `python -m mqttasgi`.
        variables: Added to its environment.
    """
    return subprocess.run(
        [*(program or (sys.executable, "-m", "mqttasgi")), *words],
        cwd=folder,
        env=command_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout * PATIENCE,
    )


class Command(Broker):
    """A broker that the command has become.

    Attributes:
        project: The folder in which it is started, with its `.env` file.
        temporary: The folder for temporary files, empty when the broker has ended.
    """

    def __init__(
        self,
        folder: Path,
        application: str | None = "apps.listener:application",
        *,
        source: str = "argument",
        settings: Mapping[str, object] | None = None,
        words: Iterable[str] = (),
        program: Iterable[str] = (),
        dotenv: str = "",
        environment: Mapping[str, str] | None = None,
        python_path: str | None = PYTHON_PATH,
        **arguments: Any,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Belongs to this broker alone.
            application: None names none.
            source: Where the settings come from, application, host and port among them: one of `SOURCES`.
            settings: Values by variable. Host and port are 127.0.0.1 and a free one where they are not given; a value
                of None leaves them out.
            words: Further arguments.
            program: Left alone, `python -m mqttasgi`.
            dotenv: The beginning of the `.env` file.
            environment: Added to the environment.
            python_path: None leaves the default.
            arguments: Those of `Broker`.
        """
        super().__init__(folder, **arguments)
        self.project = folder / "project"
        self.project.mkdir()
        # Short, and everybody's to enter: unix sockets are in there.
        self.temporary = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
        self.temporary.chmod(0o711)
        self._source = source
        self._settings = {"MQTTASGI_APPLICATION": application, **(settings or {})}
        self._words = [*as_root(), *words]
        self._program = list(program) or [sys.executable, "-m", "mqttasgi"]
        self._dotenv = dotenv
        self._more = dict(environment or {})
        if python_path is not None:
            self._more.setdefault("MQTTASGI_PYTHON_PATH", python_path)

    def finish(self) -> None:
        try:
            super().finish()
            wait_until(
                lambda: not os.listdir(self.temporary),
                5,
                "the end of the private folder",
                lambda: f"left behind: {sorted(map(str, self.temporary.rglob('*')))}",
            )
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def private_folder(self) -> Path:
        """Return the folder with the running broker's configuration."""
        (folder,) = self.temporary.iterdir()
        return folder

    def words(self) -> list[str]:
        """Return the running process's command line."""
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")

    def _spawn(self) -> None:
        settings = {"MQTT_HOSTNAME": "127.0.0.1", "MQTT_PORT": self.port, **self._settings}
        given = {name: str(value) for name, value in settings.items() if value is not None}
        environment = command_environment(TMPDIR=str(self.temporary), **self._more)
        words, dotenv = list(self._words), self._dotenv
        if self._source == "argument":
            application = given.pop("MQTTASGI_APPLICATION", None)
            for name, value in given.items():
                words += [FLAGS[name], value]
            words += [application] if application else []
        elif self._source == "environment":
            environment.update(given)
        else:
            dotenv += "".join(f"{name}='{value}'\n" for name, value in given.items())
        if dotenv:
            (self.project / ".env").write_text(dotenv)
        self._run([*self._program, *words], environment, self.project)
