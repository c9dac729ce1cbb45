"""The echo consumer with a channel layer and a group joined."""

from .common import start_django

start_django(channel_layer=True)

from channels.routing import ProtocolTypeRouter  # noqa: E402

from .consumers import GroupConsumer  # noqa: E402

application = ProtocolTypeRouter({"mqtt": GroupConsumer.as_asgi()})
