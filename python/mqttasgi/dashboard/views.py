"""The pages as they are loaded. What changes later comes through a WebSocket (live.py)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import get_script_prefix
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_safe

from .. import _host
from .access import allowed
from .catalogue import PAGES
from .observer import STATE, TooManyViewers, Viewer, observer
from .pages import Page
from .routing import PREFIX

#: Seconds that a page waits for the first of what it shows.
_FIRST = 0.5

#: What an action may have to say on the page that it leads back to.
SAID = {
    "published": "The message was published.",
    "cleared": "The retained message was cleared.",
    "restarted": "The consumer is being restarted.",
    "disconnected": "The client was disconnected. One that connects again by itself is back soon.",
    "unknown": "There is no client of this id that can be disconnected.",
    "gone": "There is no such consumer any more, or it cannot be restarted.",
}


@csrf_protect
@require_safe
@allowed()
async def page(request: HttpRequest, name: str) -> HttpResponse:
    """Return a page with what there is now."""
    return await show(request, name, request.GET.dict())


async def show(
    request: Any, name: str, asked: dict[str, str], status: int = 200, **context: Any
) -> HttpResponse:
    """Return a page, for one who may look at it.

    Args:
        request: With `rights`.
        name: One of `PAGES`.
        asked: What the address says.
        status: That of the answer.
        context: What the template is to know beside.
    """
    context = {
        "pages": [(kind.name, kind.title) for kind in PAGES.values()],
        "said": SAID.get(asked.get("said", ""), ""),
        "rights": request.rights,
        **context,
    }
    try:
        _host.find("The dashboard")
        watching = observer()
        shown = PAGES[name](watching, request.rights, asked)
        is_new = not all(watching.is_on(source) for source in shown.sources if source != STATE)
        with watching.looking(*shown.sources) as viewer:
            if is_new:
                await _wait_for_first(viewer)
            context |= {"page": shown, "blocks": await shown.blocks(), "live": _live_url(shown, asked)}
            return await _render(request, f"{name}.html", context, status)
    except (_host.OutsideBroker, TooManyViewers) as error:
        problem = str(error) or "Too many look at the dashboard already. Try it again later."
        return await _render(request, "unavailable.html", {**context, "problem": problem}, 503)


async def _wait_for_first(viewer: Viewer) -> None:
    try:
        await asyncio.wait_for(viewer.woken.wait(), _FIRST)
        await asyncio.sleep(0.05)  # retained messages come in a row
    except asyncio.TimeoutError:
        pass


async def _render(request: HttpRequest, template: str, context: dict[str, Any], status: int) -> HttpResponse:
    # In a thread: a project's context processors may ask the database.
    answer: HttpResponse = await sync_to_async(render)(
        request, f"mqttasgi_dashboard/{template}", context, status=status
    )
    return answer


def _live_url(shown: Page, asked: dict[str, str]) -> str:
    prefix = getattr(settings, "MQTTASGI_DASHBOARD_LIVE", get_script_prefix() + PREFIX)
    query = urlencode({name: text for name, text in asked.items() if name != "said"}, errors="replace")
    return f"{prefix}{shown.name}/" + (f"?{query}" if query else "")
