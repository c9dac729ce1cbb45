"""Recorders that do what pages of their process do: `mqttasgi._inside`. What they hear outlives their runs."""

from __future__ import annotations

import logging
from typing import Any, Callable, ClassVar, Optional
import apps.setup  # noqa: F401
from apps.recorder import Recorder
from mqttasgi import _inside
from mqttasgi._host import WatchedClients


class Inside(Recorder):
    #: By app_id: payloads that came on `k/#`.
    kept: ClassVar[dict[Any, list[bytes]]] = {}
    watching: ClassVar[Optional[WatchedClients]] = None
    clients: ClassVar[_inside.Clients]
    changes: ClassVar[list[str]] = []
    ends: ClassVar[list[Callable[[], None]]] = []

    async def connect(self) -> None:
        await super().connect()
        await self.subscribe("k/#", 2)

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"].startswith("k/"):
            self.kept.setdefault(self.app_id, []).append(mqtt_message["payload"])
        else:
            await super().receive(mqtt_message)

    async def disconnect(self) -> None:
        await self.publish("left", str(self.app_id), qos=1)

    async def look(self) -> list[dict[str, Any]]:
        return [view._asdict() for view in _inside.consumers()]

    async def restart(self, handle: int) -> bool:
        return _inside.restart(handle)

    async def refuse(self, app_id: int, times: int) -> None:
        """Let so many starts of a consumer fail."""
        self.refusals[app_id] = times

    async def what_was_kept(self, app_id: int) -> list[bytes]:
        return self.kept.get(app_id, [])

    async def lines(self, after: int = 0) -> list[tuple[Any, ...]]:
        return [tuple(line) for line in _inside.log_lines(after)]

    async def log(self, text: str, times: int = 1) -> None:
        for number in range(times):
            logging.getLogger("apps").warning("%s", text.replace("#", str(number)))

    async def kick(self, client_id: str) -> bool:
        return await _inside.kick(client_id)

    async def open(self) -> bool:
        """Begin to watch clients; tells whether that is complete."""
        type(self).clients = _inside.clients()
        type(self).watching = await self.clients.__aenter__()
        assert self.watching is not None
        return self.watching.is_complete

    async def close(self) -> None:
        await self.clients.__aexit__(None, None, None)

    async def see(self) -> dict[str, tuple[Any, ...]]:
        """The clients by their ids."""
        assert self.watching is not None
        assert self.watching.total == len(self.watching.all())
        return {view.id: tuple(view) for view in self.watching.all()}

    async def watch(self) -> None:
        self.ends.append(_inside.watch(self.changes.append))

    async def told(self) -> list[str]:
        """What was told since it has watched."""
        return self.changes

    async def watch_no_more(self) -> None:
        while self.ends:
            self.ends.pop()()

    async def values(self) -> dict[str, int]:
        return _inside.statistics()


application = Inside.as_asgi()
