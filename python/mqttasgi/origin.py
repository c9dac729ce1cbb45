"""Where a WebSocket was opened: by a page of this site, or by somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.utils.http import is_same_domain


class _Opened(HttpRequest):
    """What has opened a WebSocket, as the request that it is to Django's settings."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        super().__init__()
        self._is_secure = scope.get("scheme") in ("wss", "https")
        self.META = {"SERVER_NAME": "", "SERVER_PORT": "0"}
        for name, value in scope.get("headers", ()):
            # As in Django's own requests: "x_y" must not pass for "x-y", which a proxy may have set.
            if b"_" not in name:
                key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
                self.META[key] = value.decode("latin-1")

    def _get_scheme(self) -> str:
        return "https" if self._is_secure else "http"


def comes_from_here(scope: Mapping[str, Any]) -> bool:
    """Return whether a page of this site, or one of CSRF_TRUSTED_ORIGINS, has opened a WebSocket.

    Django's rule for forms (`CsrfViewMiddleware`): the origin's scheme and host are those asked for, and
    ALLOWED_HOSTS has to know the host. ALLOWED_HOSTS alone would not do: with "*" it lets in every page there
    is. The scheme matters because whoever can change what comes by plain HTTP is the page of any host there.
    """
    request = _Opened(scope)
    origin = request.META.get("HTTP_ORIGIN", "")
    try:
        page = urlsplit(origin)
        if _is_trusted(origin, page.scheme, page.netloc):
            return True
        asked = urlsplit(f"{request.scheme}://{request.get_host()}")
        usual = {"http": 80, "https": 443}[page.scheme]
        return bool(page.hostname) and (page.scheme, page.hostname, page.port or usual) == (
            asked.scheme,
            asked.hostname,
            asked.port or usual,
        )
    except (DisallowedHost, ValueError, KeyError):
        return False


def _is_trusted(origin: str, scheme: str, host: str) -> bool:
    """Return whether CSRF_TRUSTED_ORIGINS has an origin, or a wildcard for it."""
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        if "*" not in trusted:
            if origin == trusted:
                return True
            continue
        pattern = urlsplit(trusted)
        if scheme == pattern.scheme and is_same_domain(host, pattern.netloc.lstrip("*")):
            return True
    return False
