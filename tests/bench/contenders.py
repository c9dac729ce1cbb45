"""Who competes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from environments import Environment, for_host, mqttasgi_release
from settings import NEWEST, Settings


@dataclass(frozen=True)
class Contender:
    """host: what runs the application: ``nobody``, ``libmosquitto``, ``collector`` (a client on libmosquitto as well),
    ``client`` (a Python client, application is the script in peers/), ``mqttasgi`` (the server), ``connect`` (our
    processes beside the broker) or ``plugin``.
    """

    name: str
    host: str
    about: str
    application: str = ""
    options: dict[str, str] = field(default_factory=dict)  # plugin_opt_…; of connect: arguments
    uses_channels: bool = True
    version: str = NEWEST  # of Channels or of mqttasgi; set by expand()
    slower: int = 1  # gets this fraction of the messages

    @property
    def answer(self) -> str:
        """Return the topic that what was published to ``bench/in`` comes back on."""
        return "bench/in" if self.host == "nobody" else "bench/out"

    @property
    def environment(self) -> Environment | None:
        """Return the virtual environment that it runs in, if it does."""
        return for_host(self.host, self.version)

    def has_session(self, settings: Settings) -> bool:
        """Return whether it is in the plugin and has the session that comes with it."""
        options = {"session": "full", **dict(settings.plugin_options), **self.options}
        return self.host == "plugin" and options["session"] == "full"


ECHO = "benchapp.echo:application"
ALL = {
    contender.name: contender
    for contender in (
        Contender("floor", "nobody", "publish to one's own subscription: what the broker itself costs"),
        Contender("libmosquitto", "libmosquitto", "echo client in C: what the others are compared with"),
        Contender("plugin", "plugin", "the plugin as installed, with an echo consumer", ECHO),
        Contender("plugin-nosession", "plugin", "the same with session off", ECHO, {"session": "off"}),
        Contender("paho", "client", "echo client in Python with paho-mqtt 2", "paho_echo.py"),
        Contender("gmqtt", "client", "echo client in Python with gmqtt on uvloop", "gmqtt_echo.py"),
        Contender(
            "mqttasgi", "mqttasgi", "the original server from PyPI with the same consumer", ECHO, slower=20
        ),
        Contender("connect", "connect", "the same consumer by --connect, in one process", ECHO),
        *(
            Contender(
                f"connect-{number}",
                "connect",
                f"the same in {number} processes of one group",
                ECHO,
                {"group": "bench", "processes": str(number)},
            )
            for number in (2, 4)
        ),
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
ELSEWHERE = (REFERENCE, "connect", "connect-2", "connect-4", "mqttasgi")
COMPARED = ("floor", REFERENCE, "plugin", "plugin-nosession", "paho", "gmqtt", "mqttasgi")


def expand(settings: Settings, names: tuple[str, ...]) -> list[Contender]:
    """Return the contenders of these names, those that differ in their versions once for each that was asked for."""
    expanded = []
    for name in names:
        contender = ALL[name]
        versions: tuple[str, ...] = (NEWEST,)
        if contender.host == "mqttasgi":
            versions = settings.mqttasgi
        elif contender.host == "plugin":
            versions = settings.channels if contender.uses_channels else settings.channels[:1]
        for version in versions:
            release = mqttasgi_release(version) if contender.host == "mqttasgi" else version
            shown = f"{name}@{release}" if len(versions) > 1 or contender.host == "mqttasgi" else name
            expanded.append(replace(contender, name=shown, version=version))
    return expanded
