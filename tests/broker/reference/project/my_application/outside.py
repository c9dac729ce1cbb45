"""What blocks use and leave to their reader, put where every module finds it: among the built-in names."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

from mqttasgi import consumers
from witness import witness


class MqttConsumer(consumers.MqttConsumer):
    """The real one; workers are watched from here, because nothing can stand in front of what a path names."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        application = super().__call__
        if scope["instance_type"] == "worker":
            application = witness(application)
        await application(scope, receive, send)


class Condition:
    """True as long as a file exists."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __bool__(self) -> bool:
        return self._file.exists()


def provide(condition_file: Path) -> None:
    """Make `MqttConsumer` and `condition` known everywhere."""
    vars(builtins).update(MqttConsumer=MqttConsumer, condition=Condition(condition_file))
