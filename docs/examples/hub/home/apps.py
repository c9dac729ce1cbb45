from django.apps import AppConfig


class HomeConfig(AppConfig):
    name = "home"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # A bad room name is said at start-up, not by a worker that hears nothing.
        from .topics import room_names

        room_names()
