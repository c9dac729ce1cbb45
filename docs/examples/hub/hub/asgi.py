"""The application the broker runs: `plugin_opt_application hub.asgi:application`.

The master consumer imports no models, it names the other consumers by their paths. That is why it
can be imported before `django.setup()`, in the order of mqttasgi's own documentation. A consumer
that imports models has to be imported after that line.
"""

import os

import django
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

from home.consumers.master import MasterConsumer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
django.setup()

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "mqtt": MasterConsumer.as_asgi(),
    }
)
