"""Where code that is no consumer finds the broker that it runs in: the runtime or, in tests, who plays it."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from typing import Callable, Optional, Protocol

from ._mailbox import Mailbox
from ._mqtt import Payload
from ._properties import Properties
from ._state import ClientView, ConsumerView, LogLine


class OutsideBroker(RuntimeError):
    """No broker is here that could do what was asked, or it does not run yet, or no more."""


class WatchedClients(Protocol):
    """Who is connected, as far as it is known."""

    @property
    def is_complete(self) -> bool:
        """Whether the broker tells who connects: Mosquitto 2.0 only with the option `connect_events`."""
        ...

    @property
    def total(self) -> int:
        """How many there are, those included that `all` has no room for."""
        ...

    def all(self) -> list[ClientView]:
        """Return the clients, the oldest connections first; at most 10,000, and 16 MiB of names."""
        ...


class Inside(Protocol):
    """What `mqttasgi._inside` asks of whoever is the broker here. Loop thread only."""

    def consumers(self) -> list[ConsumerView]: ...

    def restart(self, handle: int) -> bool: ...

    def log_lines(self, after: int) -> list[LogLine]: ...

    async def kick(self, client_id: str) -> bool: ...

    def watch(self, on_change: Callable[[str], None]) -> Callable[[], None]: ...

    async def begin_clients(self) -> WatchedClients:
        """Watch clients for one more, until as many calls of `end_clients`."""
        ...

    def end_clients(self) -> None: ...


class Host(Protocol):
    """What `mqttasgi.broker` asks of whoever is the broker here."""

    async def publish(
        self, topic: str, payload: Payload, qos: int, retain: bool, properties: Optional[Properties]
    ) -> None:
        """Publish as `MqttConsumer.publish` does. Any thread's event loop."""
        ...

    async def subscribe(self, mailbox: Mailbox) -> None:
        """Return when everything that matches the mailbox's filters is put into it."""
        ...

    def unsubscribe(self, mailbox: Mailbox) -> asyncio.Future[None]:
        """End a mailbox. What is returned is done when the broker knows that too; nobody has to wait."""
        ...

    def note(self, topic: Optional[str]) -> None:
        """Note which message the running task is about to handle; None: it is done with what it read.

        Only for readers of topics below `$SYS`.
        """
        ...

    def statistics(self) -> dict[str, int]:
        """Return the plugin's statistics by their names. Any thread."""
        ...

    @property
    def inside(self) -> Inside:
        """What pages may see and do of this process."""
        ...


#: The one of this process; None: it is no broker's, or the application is being imported.
of_process: Optional[Host] = None
#: The one of a consumer that is tested.
of_consumer: ContextVar[Optional[Host]] = ContextVar("mqttasgi_host", default=None)


def find(what: str) -> Host:
    """Return whoever is the broker here; errors call what is asked for `what`."""
    host = of_consumer.get() or of_process
    if host is not None:
        return host
    if "_mqttasgi" in sys.builtin_module_names:
        raise OutsideBroker(
            f"{what} while the application is being imported: the broker takes nothing before that. Call it "
            "from a consumer's connect(), a view or a task"
        )
    raise OutsideBroker(
        f"{what} outside of the broker: it works in the process that Mosquitto with the mqttasgi plugin, or "
        "the command mqttasgi, runs the application in. Elsewhere connect to the broker as a client, with "
        "paho-mqtt for example; for tests there are MqttComunicator and PlayedBroker in mqttasgi.testing"
    )
