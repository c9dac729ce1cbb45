"""Who is connected to the broker, for pages that show it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, Optional

from .._state import ClientView
from .bridge import Delivery
from .inbox import Holding

if TYPE_CHECKING:
    from .service import Service

#: What `all` has room for: clients, and bytes of their names. Others are counted.
CLIENTS, BYTES = 10_000, 16_777_216

_VERSIONS = {3: "MQTT 3.1", 4: "MQTT 3.1.1", 5: "MQTT 5"}


class ClientTable(Holding):
    """Takes the events about clients for one handle, as a consumer's inbox does.

    An `_host.WatchedClients`. Loop thread only.
    """

    __slots__ = ("_beyond", "_bytes", "_changed", "_clients", "_known", "is_complete")

    def __init__(self, service: Service, changed: Callable[[str], None]) -> None:
        """Take what is called with "clients" at each change."""
        super().__init__(service)
        self._changed = changed
        self.is_complete = service.bridge.tells_connects()
        #: By id, the oldest first: with WebSockets the end of a connection may be told after the beginning of
        #: the one that has taken its place.
        self._clients: dict[str, list[ClientView]] = {}
        #: How many these are, with the bytes of their names, and how many have found no room.
        self._known = self._bytes = self._beyond = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return self._known + self._beyond

    def all(self) -> list[ClientView]:
        """Return the clients, the oldest connections first."""
        return [view for views in self._clients.values() for view in views]

    def feed(self, delivery: Delivery) -> None:
        """Take an event about a client."""
        event = delivery[1].event(delivery[2])
        client = event["mqtt"]["client"]
        if event["type"] == "mqtt.client.connect":
            self._add(_view(client))
        elif event["type"] == "mqtt.client.disconnect":
            self._remove(client["id"])
        self._changed("clients")

    def _add(self, view: ClientView) -> None:
        size = _size(view)
        if self._known >= CLIENTS or self._bytes + size > BYTES:
            self._beyond += 1
            return
        self._clients.setdefault(view.id, []).append(view)
        self._known += 1
        self._bytes += size

    def _remove(self, client_id: str) -> None:
        views = self._clients.get(client_id)
        if views is None:
            # Or it is one of those that were never told of, where the broker does not tell who connects.
            self._beyond = max(0, self._beyond - 1)
            return
        self._known -= 1
        self._bytes -= _size(views.pop(0))
        if not views:
            del self._clients[client_id]

    def forget_times(self) -> None:
        """Say of those who are there that they came before anybody watched."""
        for views in self._clients.values():
            views[:] = [view._replace(since=0.0) for view in views]


def _view(client: dict[str, object]) -> ClientView:
    certificate: Optional[dict[str, str]] = client["certificate"]  # type: ignore[assignment]
    version = _VERSIONS.get(client["protocol_version"], "MQTT")  # type: ignore[call-overload]
    return ClientView(
        id=str(client["id"]),
        username=str(client["username"] or ""),
        address=str(client["address"] or ""),
        protocol=version + (" over WebSockets" if client["protocol"] == "websockets" else ""),
        certificate=certificate["subject"] if certificate is not None else "",
        since=time.time(),
    )


def _size(view: ClientView) -> int:
    return len(view.id) + len(view.username) + len(view.certificate)
