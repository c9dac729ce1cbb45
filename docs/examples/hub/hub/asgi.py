"""The application the broker runs: `plugin_opt_application hub.asgi:application`.

The master consumer imports no models, it names the other consumers by their paths. That is why it
can be imported before `django.setup()`, in the order of mqttasgi's own documentation. What imports
models, such as the page's WebSocket, has to be imported after that line.

Pages are served with the option `http` alone; without it, `http` and `websocket` are not asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

from home.consumers.master import MasterConsumer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.urls import path  # noqa: E402

from home.live import Live  # noqa: E402


def with_static_files(pages: Any) -> Any:
    """Have servestatic serve style sheets and scripts, where `manage.py collectstatic` has run."""
    try:
        from servestatic import ServeStaticASGI
    except ImportError:
        return pages
    if not Path(settings.STATIC_ROOT).is_dir():
        return pages
    return ServeStaticASGI(pages, root=settings.STATIC_ROOT, prefix="static/")


websockets = [path("live/", Live.as_asgi())]
if settings.HUB_DASHBOARD:
    from mqttasgi.dashboard.routing import websocket_urlpatterns

    websockets += websocket_urlpatterns

application = ProtocolTypeRouter(
    {
        "http": with_static_files(get_asgi_application()),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websockets))),
        "mqtt": MasterConsumer.as_asgi(),
    }
)
