"""Puts a contender on a stage: a fresh broker with something in or beside it that answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import environments
from contenders import Contender
from settings import APPS, BUILD, PEERS, ROOT, Failure, Settings

from broker import Broker, Process

SESSION_PATIENCE = 15.0  # seconds
OPENED = "Session with the listener at"


def plugin_lines(settings: Settings, contender: Contender) -> list[str]:
    """Return what the broker's configuration gets for the plugin."""
    options = {
        "application": contender.application,
        "python_path": str(APPS),
        "virtualenv": str(environments.for_channels(contender.version).folder),
        "host": "127.0.0.1",
        "port": "{port}",
        **dict(settings.plugin_options),
        **contender.options,
    }
    log = "log_type information"  # says when the session is there
    return [
        log,
        f"plugin {settings.plugin}",
        *(f"plugin_opt_{key} {value}" for key, value in options.items()),
    ]


def companion_command(settings: Settings, contender: Contender, port: int) -> list[str]:
    """Return the command of the process beside the broker; empty when there is none."""
    if contender.host == "libmosquitto":
        return [str(BUILD / "echo_client"), str(port), "bench/in", contender.answer, str(settings.qos)]
    if contender.host == "client":
        python = environments.CLIENTS.folder / "bin" / "python"
        script = PEERS / contender.application
        return [str(python), str(script), str(port), "bench/in", contender.answer, str(settings.qos)]
    if contender.host == "collector":
        return [str(BUILD / "collector"), str(port)]
    if contender.host == "mqttasgi":
        server = environments.for_mqttasgi(contender.version).folder / "bin" / "mqttasgi"
        return [str(server), "-H", "127.0.0.1", "-p", str(port), contender.application]
    if contender.host == "connect":
        python = environments.for_connect().folder / "bin" / "python"
        options = [f"--{name}={value}" for name, value in contender.options.items()]
        address = f"mqtt://127.0.0.1:{port}"
        return [str(python), "-m", "mqttasgi", "--connect", address, *options, contender.application]
    return []


class Stage:
    """A broker and what answers through it."""

    def __init__(self, broker: Broker, processes: list[Process]) -> None:
        self.broker = broker
        self.processes = processes

    def cpu_seconds(self) -> float:
        """Return that of all processes but the load generator."""
        return sum(process.cpu_seconds() for process in self.processes)

    def await_session(self) -> None:
        """Return when the plugin's session is there; raise Failure when it does not come."""
        deadline = time.monotonic() + SESSION_PATIENCE
        while OPENED not in self.broker.log.read_text(errors="replace"):
            if time.monotonic() >= deadline:
                raise Failure(
                    f"There was no session after {SESSION_PATIENCE:.0f} s.\n{self.broker.last_words()}"
                )
            time.sleep(0.05)

    def load(self, mode: str, **options: str | int | float) -> dict[str, Any]:
        """Measure as Broker.load does, with the last words of everybody in the failure.

        In the result also ``cpu_seconds``, and ``broker_cpu_seconds`` for the broker alone.
        """
        before, broker_before = self.cpu_seconds(), self.broker.cpu_seconds()
        try:
            measured = self.broker.load(mode, **options)
        except Failure as failure:
            words = [process.last_words() for process in self.processes]
            raise Failure("\n".join([str(failure), *words])) from failure
        return {
            **measured,
            "cpu_seconds": round(self.cpu_seconds() - before, 3),
            "broker_cpu_seconds": round(self.broker.cpu_seconds() - broker_before, 3),
        }


@contextmanager
def staged(settings: Settings, contender: Contender, **variables: str | int) -> Iterator[Stage]:
    """Start both, and end them. Raises Failure when something does not start, or the session does not come.

    variables: BENCH_* settings of the application.
    """
    environment = {"BENCH_QOS": str(settings.qos), **{key: str(value) for key, value in variables.items()}}
    lines = plugin_lines(settings, contender) if contender.host == "plugin" else []
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(settings, lines, environment))
        processes: list[Process] = [broker]
        command = companion_command(settings, contender, broker.port)
        if command:
            search = {"PYTHONPATH": f"{APPS}:{ROOT / 'python'}" if contender.host == "connect" else str(APPS)}
            companion = Process(contender.host, command, broker.folder, {**environment, **search})
            processes.append(stack.enter_context(companion))
        stage = Stage(broker, processes)
        if contender.has_session(settings):
            stage.await_session()
        yield stage
