"""The watched application; whenever a message comes for it, the view is visited first, through asgi.py's `http`."""

from __future__ import annotations

from typing import Any

from asgiref.testing import ApplicationCommunicator

from my_application import watched


async def application(scope: Any, receive: Any, send: Any) -> None:
    async def receive_after_visit() -> Any:
        event = await receive()
        if event["type"] == "mqtt.msg":
            await visit("/announce")
        return event

    await watched.application(scope, receive_after_visit, send)


async def visit(path: str) -> None:
    """Ask the application of the asgi.py block for a page, as a web server would."""
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    visitor = ApplicationCommunicator(watched.documented, scope)
    await visitor.send_input({"type": "http.request", "body": b""})
    answer = await visitor.receive_output(timeout=30)
    assert answer["status"] == 200, answer
    await visitor.wait(timeout=30)
