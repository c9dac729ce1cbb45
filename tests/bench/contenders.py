"""Who competes, and how each is put on a stage: a fresh broker with something in or beside it that answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from machine import channels_environment, mqttasgi_environment
from settings import APPS, BUILD, Failure, Settings

from broker import Broker, Process


@dataclass(frozen=True)
class Contender:
    """host: what runs the application: ``nobody``, ``libmosquitto``, ``collector`` (a client on libmosquitto as well),
    ``mqttasgi`` (the server) or ``plugin``.
    """

    name: str
    host: str
    about: str
    application: str = ""
    options: dict[str, str] = field(default_factory=dict)  # plugin_opt_…
    uses_channels: bool = True
    channels: str = ""  # version; set by expand()
    slower: int = 1  # gets this fraction of the messages

    @property
    def answer(self) -> str:
        """Topic that what was published to ``bench/in`` comes back on."""
        return "bench/in" if self.host == "nobody" else "bench/out"


ECHO = "benchapp.echo:application"
ALL = {
    contender.name: contender
    for contender in (
        Contender("floor", "nobody", "publish to one's own subscription: what the broker itself costs"),
        Contender("libmosquitto", "libmosquitto", "echo client in C: what the others are compared with"),
        Contender(
            "mqttasgi", "mqttasgi", "the original server from PyPI with the echo consumer", ECHO, slower=20
        ),
        Contender("plugin", "plugin", "the plugin with the same consumer", ECHO),
        Contender(
            "plugin-layer", "plugin", "with a channel layer and a group joined", "benchapp.layer:application"
        ),
        Contender(
            "plugin-bare",
            "plugin",
            "a plain ASGI application",
            "benchapp.bare:application",
            uses_channels=False,
        ),
        Contender(
            "plugin-nospin", "plugin", "spin 0: the broker never waits for an answer", ECHO, {"spin": "0"}
        ),
    )
}
REFERENCE = "libmosquitto"


def expand(settings: Settings, names: tuple[str, ...]) -> list[Contender]:
    """The contenders of these names; those in the plugin that use Channels once for each version of it."""
    expanded = []
    for name in names:
        contender = ALL[name]
        versions = settings.channels if contender.host == "plugin" else ("",)
        for version in versions if contender.uses_channels else versions[:1]:
            shown = f"{name}@{version}" if len(versions) > 1 and contender.uses_channels else name
            expanded.append(replace(contender, name=shown, channels=version))
    return expanded


def prepare(settings: Settings, contenders: list[Contender]) -> dict[str, str]:
    """Makes the virtual environments. Returns the failures by contender's name."""
    failures = {}
    for contender in contenders:
        try:
            if contender.host == "plugin":
                channels_environment(settings, contender.channels)
                if not settings.plugin.is_file():
                    raise Failure(
                        f"{settings.plugin} does not exist: build the plugin, or name it with --plugin."
                    )
            elif contender.host == "mqttasgi":
                mqttasgi_environment(settings)
        except Failure as failure:
            failures[contender.name] = str(failure)
    return failures


def plugin_lines(settings: Settings, contender: Contender) -> list[str]:
    """For the broker's configuration."""
    options = {
        "application": contender.application,
        "python_path": str(APPS),
        "virtualenv": str(channels_environment(settings, contender.channels)),
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
    """The process beside the broker; empty when there is none."""
    if contender.host == "libmosquitto":
        return [str(BUILD / "echo_client"), str(port), "bench/in", contender.answer, str(settings.qos)]
    if contender.host == "collector":
        return [str(BUILD / "collector"), str(port)]
    if contender.host == "mqttasgi":
        server = mqttasgi_environment(settings) / "bin" / "mqttasgi"
        return [str(server), "-H", "127.0.0.1", "-p", str(port), contender.application]
    return []


class Stage:
    """A broker and what answers through it."""

    def __init__(self, broker: Broker, processes: list[Process]) -> None:
        self.broker = broker
        self.processes = processes

    def cpu_seconds(self) -> float:
        """Of all processes but the load generator."""
        return sum(process.cpu_seconds() for process in self.processes)

    def logged(self, text: str, seconds: float) -> bool:
        """Waits until the broker has logged a line with this text in it; False when it has not in time."""
        deadline = time.monotonic() + seconds
        while text not in self.broker.log.read_text(errors="replace"):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def load(self, mode: str, **options: str | int | float) -> dict[str, Any]:
        """As Broker.load, with the last words of everybody in the failure. In the result also ``cpu_seconds``, and
        ``broker_cpu_seconds`` for the broker alone.
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
    """variables: BENCH_* settings of the application. Raises Failure when something does not start."""
    environment = {"BENCH_QOS": str(settings.qos), **{key: str(value) for key, value in variables.items()}}
    lines = plugin_lines(settings, contender) if contender.host == "plugin" else []
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(settings, lines, environment))
        processes: list[Process] = [broker]
        command = companion_command(settings, contender, broker.port)
        if command:
            search = {"PYTHONPATH": str(APPS)}
            companion = Process(contender.host, command, broker.folder, {**environment, **search})
            processes.append(stack.enter_context(companion))
        yield Stage(broker, processes)
