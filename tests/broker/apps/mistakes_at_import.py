"""A consumer with a mistake that is found while this is imported."""

from apps.mistakes import NotAsync

application = NotAsync.as_asgi()
