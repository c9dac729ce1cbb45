"""MQTT, HTTP and WebSockets of one application."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import apps.web_setup  # noqa: F401
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from mqttasgi.consumers import MqttConsumer

#: Seconds.
LONG = 1.0


def about(request: HttpRequest) -> HttpResponse:
    """Answer what the request is known to be, from a thread."""
    return JsonResponse(
        {
            "method": request.method,
            "body": len(request.body),
            "client": request.META.get("REMOTE_ADDR"),
            "secure": request.is_secure(),
            "forwarded": sorted(
                name for name in request.headers if name.startswith(("X-Forwarded", "Forwarded"))
            ),
        }
    )


async def block(request: HttpRequest) -> HttpResponse:
    """Block the event loop."""
    time.sleep(LONG)
    return HttpResponse("done")


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a view has failed")


def leave(request: HttpRequest) -> HttpResponse:
    raise SystemExit(4)


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer without an end."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100 + b"\n"
            await asyncio.sleep(0.01)

    return StreamingHttpResponse(parts())


async def flood(request: HttpRequest) -> StreamingHttpResponse:
    """Answer more than anybody takes."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    return StreamingHttpResponse(parts())


urlpatterns = [
    path("", about),
    path("block/", block),
    path("fail/", fail),
    path("leave/", leave),
    path("stream/", stream),
    path("flood/", flood),
]


class Echo(AsyncWebsocketConsumer):
    """Sends back what it gets, and with "flood" more than anybody takes."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.accept()

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        if text_data == "block":
            time.sleep(LONG)
        while text_data == "flood":
            await self.send("x" * 65536)
        await self.send(text_data, bytes_data)


class Ping(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("ping", 1)

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("pong", mqtt_message["payload"], qos=1)

    async def disconnect(self) -> None:
        await self.publish("bye", json.dumps(None), qos=1)


django_application = get_asgi_application()
if settings.DEBUG:
    http: Any = ASGIStaticFilesHandler(django_application)
elif settings.STATICFILES_DIRS:
    from servestatic import ServeStaticASGI

    http = ServeStaticASGI(django_application, root=settings.STATICFILES_DIRS[0], prefix="static/")
else:
    http = django_application
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": URLRouter([path("ws/", Echo.as_asgi())]),
        "mqtt": Ping.as_asgi(),
    }
)
only_mqtt = ProtocolTypeRouter({"mqtt": Ping.as_asgi()})
