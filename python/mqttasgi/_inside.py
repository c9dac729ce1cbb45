"""What a page of this process may see and do of it: consumers, clients, the log, the statistics.

On the event loop of the consumers only, where async views and WebSocket consumers run; but for `statistics`,
which any thread may call. Everything raises `OutsideBroker` where there is no broker.
"""

from __future__ import annotations

from types import TracebackType
from typing import Callable, Optional

from . import _host
from ._host import OutsideBroker as OutsideBroker
from ._host import WatchedClients
from ._state import ClientView as ClientView
from ._state import ConsumerView as ConsumerView
from ._state import LogLine as LogLine


def statistics() -> dict[str, int]:
    """Return the statistics by their names, those of docs/statistics.md."""
    return _host.find("statistics()").statistics()


def consumers() -> list[ConsumerView]:
    """Return the consumers that there are, in the order of their starts.

    Then the last hundred that were given up, and the master if it has ended.
    """
    return _host.find("consumers()").inside.consumers()


def restart(handle: int) -> bool:
    """Start a consumer again: one that runs, that waits for its next start, or that was given up.

    One that runs finishes what it is handling. Then its disconnect() is called, and a new run begins; if that
    has not happened within four fifths of `shutdown_timeout`, it is cancelled. Its subscriptions stay in
    force and what waits is kept, as where it has failed; but this is no failure. False: there is none with
    this handle, or it cannot be started again: it was killed, the broker starts or stops, or it is the master
    that was given up with `cleansession false`, for which the broker keeps messages until its own next start.
    """
    return _host.find("restart()").inside.restart(handle)


def log_lines(after: int = 0) -> list[LogLine]:
    """Return the last lines of the broker's log behind the one with this number.

    At most a thousand, and 256 KiB, of what the plugin, the runtime and the application have written there.
    The broker's own lines, about connections for example, are not among them, because it does not show them
    to plugins.
    """
    return _host.find("log_lines()").inside.log_lines(after)


async def kick(client_id: str) -> bool:
    """Disconnect a client; one that speaks MQTT 5 is told 0x98, "Administrative action". Its will is sent.

    A client that connects again by itself is back soon. False: none with this id is connected, although the
    broker may keep its session, or it is the plugin's own connection. On Mosquitto 2.0 without the option
    `connect_events`, one by websockets that has published nothing is disconnected and False is returned.
    """
    return await _host.find("kick()").inside.kick(client_id)


def watch(on_change: Callable[[str], None]) -> Callable[[], None]:
    """Call something with "consumers", "log" or "clients" when what it names has changed.

    At most once for each turn of the event loop; of the log up to 0.2 s later; of clients only while somebody
    is in a block of `clients`; of consumers when their states change, not when they handle messages. Returns
    what ends it.
    """
    return _host.find("watch()").inside.watch(on_change)


def clients() -> Clients:
    """Return who is connected, for `async with`."""
    return Clients()


class Clients:
    """What `clients` returns. Watches clients while its block runs, so it costs nothing before and after."""

    def __init__(self) -> None:
        self._host: Optional[_host.Host] = None

    async def __aenter__(self) -> WatchedClients:
        """Return the clients, kept up to date. Those that are there already have come."""
        host = _host.find("clients()")
        watching = await host.inside.begin_clients()
        self._host = host
        return watching

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Watch no more."""
        host, self._host = self._host, None
        if host is not None:
            host.inside.end_clients()
