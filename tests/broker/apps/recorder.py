"""Listeners that keep all they are told: whole messages, and the coming and going of clients.

`support.consumers` drives them, with Python's literals instead of JSON: bytes and tuples stay what they are.
"""

from __future__ import annotations

import ast
from typing import Any
import apps.setup  # noqa: F401
from apps.listener import Listener


class Recorder(Listener):
    async def connect(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        await super().connect()

    async def receive(self, mqtt_message: Any) -> None:
        if mqtt_message["topic"].startswith(f"do/{self.app_id}/"):
            await super().receive(mqtt_message)
        else:
            self.entries.append(("message", mqtt_message))

    async def client_connected(self, client: Any) -> None:
        self.entries.append(("connected", client))

    async def client_disconnected(self, client: Any, reason: Any) -> None:
        self.entries.append(("disconnected", client, reason))

    async def report(self) -> Any:
        """What has come since the last report."""
        entries, self.entries = self.entries, []
        return entries

    @staticmethod
    def decode(command: str) -> Any:
        return ast.literal_eval(command)

    @staticmethod
    def encode(answer: Any) -> str:
        return repr(answer)


application = Recorder.as_asgi()
