"""Who may do what, and from where: for the pages and for their WebSockets."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, Callable, NamedTuple

from channels.auth import get_user
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse

from .apps import LABEL

VIEW, PUBLISH, MANAGE = f"{LABEL}.view_dashboard", f"{LABEL}.publish", f"{LABEL}.manage"

View = Callable[..., Awaitable[HttpResponse]]

#: For all of it: what topics and payloads say belongs into no cache, and the buttons into nobody's frame.
_HEADERS = {
    "Cache-Control": "no-store, private",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Rights(NamedTuple):
    """What somebody may do here."""

    view: bool
    publish: bool
    manage: bool


async def rights_of(user: Any) -> Rights:
    """Return what a user may do: nothing without `view`."""
    if not await user.ahas_perm(VIEW):
        return Rights(False, False, False)
    return Rights(True, await user.ahas_perm(PUBLISH), await user.ahas_perm(MANAGE))


def allowed(permission: str = VIEW) -> Callable[[View], View]:
    """Let in who may look and has the permission; send others to log in, or refuse them.

    The view finds `request.rights`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def guarded(request: Any, *arguments: Any, **named: Any) -> HttpResponse:
            user = await request.auser()
            if not user.is_authenticated:
                # A form that was sent cannot be sent again by the way back.
                response = redirect_to_login(request.get_full_path() if request.method == "GET" else "")
            else:
                request.rights = await rights_of(user)
                if not request.rights.view or not await user.ahas_perm(permission):
                    raise PermissionDenied
                response = await view(request, *arguments, **named)
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return guarded

    return decorate


# ---- WebSockets ----


async def rights_now(scope: Mapping[str, Any]) -> Rights:
    """Return what the user of a WebSocket may do now: perhaps the session has ended."""
    user = scope.get("user")
    if user is None or not user.is_authenticated:
        return Rights(False, False, False)
    session = scope.get("session")
    if session is not None and session.session_key:
        store = import_module(settings.SESSION_ENGINE).SessionStore(session.session_key)
        user = await get_user({"session": store})
    else:  # somebody whom the project knows by other means than a session
        user = await get_user_model()._default_manager.filter(pk=user.pk).afirst()
    if user is None or not user.is_authenticated:
        return Rights(False, False, False)
    return await rights_of(user)
