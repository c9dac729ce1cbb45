"""The plugin's statistics as a client of the broker reads them."""

from __future__ import annotations

from typing import Any

from .broker import Broker
from .processes import wait_until

PREFIX = "$SYS/broker/mqttasgi/"


class Statistics:
    """What the broker has published below `$SYS/broker/mqttasgi/` so far. Its `sys_interval` should be 1."""

    def __init__(self, broker: Broker, **arguments: Any) -> None:
        """Arguments are those of `Client`."""
        self.client = broker.client(**arguments)
        self.client.subscribe(f"{PREFIX}#")

    def all(self) -> dict[str, str]:
        """Return the last payload of each topic, by the topic's end."""
        return {m.topic.removeprefix(PREFIX): m.payload.decode() for m in list(self.client.messages)}

    def wait_for(self, **values: object) -> None:
        """Return when these are what was published last; `__` stands for `/`."""
        wanted = {name.replace("__", "/"): str(value) for name, value in values.items()}
        wait_until(
            lambda: wanted.items() <= self.all().items(),
            10,
            f"{wanted}",
            lambda: f"what there is: {self.all()}",
        )

    def wait_for_intervals(self, number: int) -> None:
        """Return when so many more intervals' values have come."""
        goal = self._intervals() + number
        wait_until(lambda: self._intervals() >= goal, 10 + 2 * number, f"{number} intervals")

    def _intervals(self) -> int:
        return sum(m.topic == f"{PREFIX}uptime" for m in list(self.client.messages))
