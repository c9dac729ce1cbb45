"""What keeps a page up to date: a WebSocket that sends what has changed, as HTML for htmx."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack, suppress
from typing import Any, Optional

from channels.generic.websocket import AsyncWebsocketConsumer
from django.http import QueryDict
from django.template.loader import render_to_string

from ..broker import OutsideBroker
from ..origin import comes_from_here
from .access import rights_now
from .catalogue import PAGES
from .observer import TooManyViewers, Viewer, observer
from .pages import Page
from .parts import Seen

logger = logging.getLogger("mqttasgi.dashboard")

#: Seconds between two updates of a page at least, and how much more for each who looks; and at most.
PAUSE, PAUSE_EACH, TICK = 0.15, 0.02, 1.0
#: Seconds between two looks at whether somebody may still look.
RECHECK = 15.0
#: Characters of what a browser asks for.
_MOST_ASKED = 16_384
#: Codes for the end: those above 4000 are not tried again by htmx.
NOT_ALLOWED, FAILED, STOPPED = 4403, 4500, 1001


class Live(AsyncWebsocketConsumer):
    """One page in one browser. What waits to be sent is never more than one update."""

    #: It needs no channel layer, so none that is away can keep it from working.
    channel_layer_alias = "mqttasgi_dashboard_needs_none"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._task: Optional[asyncio.Task[None]] = None
        self._looks = ExitStack()
        self._is_paused = False
        self._is_over = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Look no more when it is over, however it ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._is_over = True
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            self._looks.close()

    async def connect(self) -> None:
        """Let in who may look, from a page of this site."""
        kind = PAGES.get(self.scope["url_route"]["kwargs"]["page"])
        if kind is None or not comes_from_here(self.scope):
            await self.close()
            return
        rights = await rights_now(self.scope)
        if not rights.view:
            await self.close()
            return
        asked = QueryDict(self.scope.get("query_string", b"")).dict()
        self._page: Page = kind(observer(), rights, asked)
        self._seen = Seen()
        try:
            self._viewer = self._looks.enter_context(observer().looking(*self._page.sources))
        except TooManyViewers:
            await self.close()
            return
        await self.accept()
        self._task = asyncio.get_running_loop().create_task(self._run(self._viewer))

    async def receive(self, text_data: Optional[str] = None, bytes_data: Optional[bytes] = None) -> None:
        """Take what the browser asks for: a filter, or a pause."""
        if not text_data or len(text_data) > _MOST_ASKED or self._task is None:
            return
        try:
            asked = json.loads(text_data)
        except (ValueError, RecursionError):
            return
        if not isinstance(asked, dict):
            return
        texts = {name: text for name, text in asked.items() if isinstance(text, str)}
        if texts.pop("pause", ""):
            self._is_paused = not self._is_paused
        if "filter" in texts or "level" in texts:
            self._page.ask(texts)
        self._viewer.woken.set()

    async def _run(self, viewer: Viewer) -> None:
        """Send what is new, until nobody is there any more."""
        try:
            await self._update(viewer)
        except OutsideBroker:
            await self.close(STOPPED)
        except OSError:
            pass  # the browser is gone
        except Exception:
            logger.exception("The dashboard's page %s cannot be kept up to date", self._page.name)
            await self.close(FAILED)

    async def _update(self, viewer: Viewer) -> None:
        loop = asyncio.get_running_loop()
        checked, was_paused = loop.time(), False
        # Until Python 3.12, wait_for() loses a cancellation that comes with what it waits for.
        while not self._is_over:
            viewer.woken.clear()
            began = loop.time()
            if began > checked + RECHECK:
                checked = began
                if not await self._may_go_on():
                    return
            changed = ""
            if self._is_paused != was_paused:
                was_paused = self._is_paused
                changed = _pause_button(was_paused)
            if not was_paused:
                changed += self._seen.update(await self._page.blocks()) + self._page.tail()
            if changed:
                # Returns when what was sent before has been taken: a slow browser skips what was in between.
                await self.send(text_data=changed)
            pause = max(PAUSE, PAUSE_EACH * observer().viewers)
            await asyncio.sleep(max(0.0, began + pause - loop.time()))
            with suppress(asyncio.TimeoutError):  # ages change by themselves
                await asyncio.wait_for(viewer.woken.wait(), TICK)

    async def _may_go_on(self) -> bool:
        """Ask again who this is: somebody may have logged out, or lost permissions."""
        self._page.rights = await rights_now(self.scope)
        if self._page.rights.view:
            return True
        await self.close(NOT_ALLOWED)
        return False


def _pause_button(is_paused: bool) -> str:
    return str(render_to_string("mqttasgi_dashboard/parts/pause.html", {"is_paused": is_paused}))
