"""An echo consumer, routed the way a project's ``asgi.py`` does it."""

from .common import start_django

start_django()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from .consumers import EchoConsumer  # noqa: E402

application = ProtocolTypeRouter({"mqtt": EchoConsumer.as_asgi()})
