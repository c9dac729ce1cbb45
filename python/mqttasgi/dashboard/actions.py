"""What the buttons do. Each is a form of its own, so it works without scripts as well."""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any
from urllib.parse import unquote, urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from .. import _inside, broker
from . import values
from .access import MANAGE, PUBLISH, View, allowed
from .apps import LABEL
from .views import show

logger = logging.getLogger("mqttasgi.dashboard")


def _action(permission: str) -> Any:
    """Have a view be one for POST, with Django's token, for who may do that."""

    def decorate(view: View) -> Any:
        @wraps(view)
        async def act(request: HttpRequest) -> HttpResponse:
            try:
                return await view(request)
            except broker.OutsideBroker:
                return await show(request, "overview", {})  # which says so

        return csrf_protect(require_POST(allowed(permission)(act)))

    return decorate


@_action(PUBLISH)
async def publish(request: HttpRequest) -> HttpResponse:
    """Publish what the form says; show the page with the form again where that is wrong."""
    form = request.POST.dict()
    topic = form.get("topic", "")
    # A browser sends lines with the ends of HTTP's.
    payload = form.get("payload", "").replace("\r\n", "\n")
    retain = "retain" in form
    try:
        await broker.publish(topic, payload, qos=int(form.get("qos", "1")), retain=retain)
    except (ValueError, TypeError) as error:
        asked = {"topic": topic, **_filter(form)}
        return await show(request, "topics", asked, 400, form=form, problem=values.cut(str(error)))
    await _note(request, f"published to {values.name(topic)}{', retained' if retain else ''}")
    return _back("topics", said="published", topic=topic, **_filter(form))


@_action(PUBLISH)
async def clear(request: HttpRequest) -> HttpResponse:
    """Have the broker forget the message that it keeps for a topic."""
    form = request.POST.dict()
    topic = unquote(form.get("name", ""))
    try:
        await broker.publish(topic, b"", qos=1, retain=True)
    except (ValueError, TypeError) as error:
        return await show(request, "topics", {"topic": topic}, 400, problem=values.cut(str(error)))
    await _note(request, f"cleared what was retained for {values.name(topic)}")
    return _back("topics", said="cleared", topic=topic, **_filter(form))


@_action(MANAGE)
async def restart(request: HttpRequest) -> HttpResponse:
    """Restart a consumer."""
    handle = request.POST.get("handle", "")
    is_done = handle.isascii() and handle.isdigit() and len(handle) < 20 and _inside.restart(int(handle))
    if is_done:
        await _note(request, f"restarted consumer {handle}")
    return _back("consumers", said="restarted" if is_done else "gone")


@_action(MANAGE)
async def disconnect(request: HttpRequest) -> HttpResponse:
    """Disconnect a client."""
    client = unquote(request.POST.get("id", ""))
    is_done = bool(client) and await _inside.kick(client)
    if is_done:
        await _note(request, f"disconnected client {values.name(client)}")
    return _back("clients", said="disconnected" if is_done else "unknown")


async def _note(request: Any, what: str) -> None:
    """Leave in the log who has done what."""
    logger.info("%s %s", values.name((await request.auser()).get_username()), what)


def _filter(form: dict[str, str]) -> dict[str, str]:
    """Return what of the page's address goes on."""
    return {name: form[name] for name in ("filter", "system") if form.get(name)}


def _back(page: str, **asked: str) -> HttpResponse:
    answer = HttpResponseRedirect(f"{reverse(f'{LABEL}:{page}')}?{urlencode(asked, errors='replace')}")
    answer.status_code = 303  # what comes next is to be asked for by GET
    return answer
