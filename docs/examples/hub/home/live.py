"""What keeps the page up to date: a WebSocket that sends what MQTT messages have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from importlib import import_module
from typing import Any

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from mqttasgi import broker
from mqttasgi.origin import comes_from_here

from home import topics
from home.house import House, Shown, changes

logger = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two updates at least: a flood of messages is no flood of updates
RECHECK = 30.0  # seconds after which it is looked at again whether somebody is still logged in
# How a WebSocket ends: the page opens another one, but not after the second.
GOING_AWAY, NOT_ALLOWED = 1001, 4403


class Live(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.is_over = False
        if not comes_from_here(self.scope) or not self.scope["user"].is_authenticated:
            await self.close()
            return
        await self.accept()
        self.changed = asyncio.Event()
        self.start(self.follow())

    def start(self, work: Coroutine[Any, Any, int]) -> None:
        self.tasks.append(asyncio.create_task(self.guard(work)))

    async def guard(self, work: Coroutine[Any, Any, int]) -> None:
        """Close the WebSocket with the code that the work returns, or when it fails."""
        code = GOING_AWAY
        try:
            code = await work
        except OSError:
            return  # the browser is gone
        except broker.OutsideBroker as error:
            logger.warning("The page is not kept up to date: %s", error)
        except Exception:
            logger.exception("The page is not kept up to date")
        if not self.is_over:
            self.is_over = True
            await self.close(code)

    async def follow(self) -> int:
        """Take messages for as long as the broker runs."""
        # First subscribed, then read: what comes in between is not missed.
        async with broker.subscribe(topics.SHOWN, qos=0) as messages:
            self.house = await database_sync_to_async(House.load)()
            self.changed.set()
            self.start(self.show())
            async for message in messages:
                self.house.take(message)
                self.changed.set()
        return GOING_AWAY

    async def show(self) -> int:
        """Send what has changed, for as long as somebody is logged in."""
        shown: Shown = {}
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            await self.changed.wait()
            self.changed.clear()
            if loop.time() > checked + RECHECK:
                checked = loop.time()
                if not await is_logged_in(self.scope):
                    return NOT_ALLOWED
            new = self.house.shown()
            changed = changes(shown, new)
            if changed:
                await self.send_json(changed)
            shown = new
            await asyncio.sleep(PAUSE)

    async def disconnect(self, code: int) -> None:
        self.is_over = True
        for task in self.tasks:
            task.cancel()


async def is_logged_in(scope: Mapping[str, Any]) -> bool:
    """Tell whether the session that opened the WebSocket is still somebody's."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(scope["session"].session_key)
    return bool((await get_user({"session": store})).is_authenticated)
