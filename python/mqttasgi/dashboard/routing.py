"""The WebSockets of the dashboard, for a project's `URLRouter`, inside of an `AuthMiddlewareStack`."""

from __future__ import annotations

from django.urls import path

from .live import Live

#: Where they are, if the setting MQTTASGI_DASHBOARD_LIVE does not say otherwise.
PREFIX = "mqttasgi/dashboard/live/"

websocket_urlpatterns = [path(f"{PREFIX}<slug:page>/", Live.as_asgi())]
