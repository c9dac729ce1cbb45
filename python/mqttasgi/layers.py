"""A consumer's view of a channel layer, which outlives the loss of the layer's server.

Layers such as channels_redis raise when their server is away, and their servers forget: a restarted Redis
has no groups, and a group membership there lapses after a day unless it is renewed. A consumer that runs
for months needs neither to end nor to be forgotten, so its view of the layer tries again and renews.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Optional

from ._types import Event

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a layer's server: doubles from the first to the last.
RETRY_FIRST = 0.25
RETRY_MAX = 30.0
#: Seconds between two renewals where the layer does not say when memberships lapse.
RENEW_DEFAULT = 3600.0


class ConsumerLayer:
    """The channel layer of one consumer: everything the layer has, with memberships kept."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._groups: dict[str, str] = {}
        self._renewal: Optional[asyncio.Task[None]] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    async def group_add(self, group: str, channel: str) -> None:
        """Join a group, and stay in it."""
        await self._layer.group_add(group, channel)
        self._groups[group] = channel
        # A layer that keeps memberships in this process cannot forget them.
        if self._renewal is None and _has_server(self._layer):
            self._renewal = asyncio.ensure_future(self._renew_for_ever())

    async def group_discard(self, group: str, channel: str) -> None:
        """Leave a group."""
        self._groups.pop(group, None)
        await self._layer.group_discard(group, channel)

    async def receive(self, channel: str) -> Event:
        """Return the next event for the channel, however long the layer's server is away meanwhile."""
        delay = RETRY_FIRST
        failed = False
        while True:
            try:
                if failed:
                    await _close_idle_connections(self._layer)
                    await self._renew()
                    logger.warning("The channel layer is back; its groups have been joined again.")
                    failed, delay = False, RETRY_FIRST
                event: Event = await self._layer.receive(channel)
                return event
            except Exception as error:
                if not failed:
                    logger.warning(
                        "The channel layer %s is away, trying again until it is back: %s: %s",
                        type(self._layer).__name__,
                        type(error).__name__,
                        error,
                    )
                failed = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MAX)

    async def close(self) -> None:
        """Leave the groups. Errors are no concern of a consumer that has ended."""
        if self._renewal is not None:
            self._renewal.cancel()
        for group, channel in list(self._groups.items()):
            with contextlib.suppress(Exception):
                await self._layer.group_discard(group, channel)

    async def _renew(self) -> None:
        for group, channel in list(self._groups.items()):
            await self._layer.group_add(group, channel)

    async def _renew_for_ever(self) -> None:
        interval = getattr(self._layer, "group_expiry", 2 * RENEW_DEFAULT) / 2
        while True:
            await asyncio.sleep(interval)
            # receive() notices and reports when the server is away.
            with contextlib.suppress(Exception):
                await self._renew()


async def _close_idle_connections(layer: Any) -> None:
    """Close what channels_redis has open to a server that has gone.

    Otherwise each such connection fails once more whoever uses it next, when the server is back already.
    """
    connection = getattr(layer, "connection", None)
    if connection is None:
        return  # another layer
    with contextlib.suppress(Exception):
        for index in range(layer.ring_size):
            await connection(index).connection_pool.disconnect(inuse_connections=False)


def _has_server(layer: Any) -> bool:
    return type(layer).__module__ != "channels.layers"
