"""A project with the dashboard, users, and consumers that can fail."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.dashboard_settings"

import asyncio
from typing import Any

import apps.setup  # noqa: F401
from asgiref.sync import iscoroutinefunction
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.template import engines
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware
from mqttasgi.consumers import MqttConsumer
from mqttasgi.dashboard.routing import websocket_urlpatterns


#: What docs/dashboard.md says that the pages work under.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def strict(get_response: Any) -> Any:
    """Send the policy with each page."""
    if iscoroutinefunction(get_response):

        async def answer(request: Any) -> Any:
            response = await get_response(request)
            response.headers["Content-Security-Policy"] = POLICY
            return response

    else:

        def answer(request: Any) -> Any:
            response = get_response(request)
            response.headers["Content-Security-Policy"] = POLICY
            return response

    return answer


class Login(LoginView):
    """A form, and nothing else."""

    def render_to_response(self, context: dict[str, Any], **_named: Any) -> Any:
        from django.http import HttpResponse

        page = engines["django"].from_string(
            "<form method=post>{% csrf_token %}{{ form }}<button>Log in</button></form>"
        )
        return HttpResponse(page.render(context, self.request))


urlpatterns = [
    path("login/", Login.as_view()),
    path("logout/", LogoutView.as_view()),
    path("dashboard/", include("mqttasgi.dashboard.urls")),
]


class Master(MqttConsumer):
    """Starts a worker that fails when it is told to."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("ping", 1)
        await self.spawn_worker("living room", "apps.dashboard.Worker")

    async def receive(self, mqtt_message: Any) -> None:
        await self.publish("pong", mqtt_message["payload"], qos=1)


class Worker(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe("fail", 1)
        if os.path.exists("failing"):
            raise RuntimeError("still broken")

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["payload"] == b"block":
            await asyncio.sleep(60)
        raise ValueError(f"cannot read {mqtt_message['payload']!r}")


application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(get_asgi_application()),
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
        "mqtt": Master.as_asgi(),
    }
)
