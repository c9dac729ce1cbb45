"""A recorder that also does what code beside consumers does: publishes and subscribes by `mqttasgi.broker`.

TEST_AT_IMPORT publishes while this is imported. What ends at the broker's stop says so on `ended`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import Any
import apps.setup  # noqa: F401
from apps.recorder import Recorder
from asgiref.sync import async_to_sync, sync_to_async
from django.dispatch import Signal, receiver
from django.http import HttpRequest, HttpResponse
from mqttasgi import _host, broker

if os.environ.get("TEST_AT_IMPORT"):
    asyncio.run(broker.publish("a", b""))

changed = Signal()


@receiver(changed)
def on_changed(sender: Any, arguments: dict[str, Any], **named: Any) -> None:
    async_to_sync(broker.publish)(**arguments)


def view(request: HttpRequest, arguments: dict[str, Any]) -> HttpResponse:
    async_to_sync(broker.publish)(**arguments)
    return HttpResponse()


async def in_own_thread(function: Any) -> None:
    """Run it in a thread that nobody here has made."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def run() -> None:
        try:
            function()
        except Exception as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, None)

    threading.Thread(target=run, daemon=True).start()
    await future


class Host(Recorder):
    async def connect(self) -> None:
        #: By name: what is subscribed, and what it has brought.
        self.rooms: dict[str, tuple[broker.Messages, list[Any]]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        await super().connect()

    async def publish_from(self, where: str, **arguments: Any) -> None:
        if where == "task":
            await asyncio.ensure_future(broker.publish(**arguments))
        elif where == "view":
            await sync_to_async(view)(HttpRequest(), arguments)
        elif where == "signal":
            await sync_to_async(changed.send)(self, arguments=arguments)
        elif where == "executor":
            await asyncio.to_thread(lambda: async_to_sync(broker.publish)(**arguments))
        elif where == "thread":
            await in_own_thread(lambda: async_to_sync(broker.publish)(**arguments))
        elif where == "loop":
            await in_own_thread(lambda: asyncio.run(broker.publish(**arguments)))
        else:
            await broker.publish(**arguments)

    async def publish_from_threads(self, threads: int, times: int) -> None:
        def publish(number: int) -> None:
            for count in range(times):
                async_to_sync(broker.publish)(f"from/{number}", str(count))

        await asyncio.gather(
            *(in_own_thread(lambda number=number: publish(number)) for number in range(threads))
        )

    async def open(self, name: str, reads: bool = True, logs: bool = False, **arguments: Any) -> None:
        """Subscribe in a task of its own, which `reads` or leaves what comes in the mailbox, and `logs` it."""
        ready = asyncio.Event()

        async def visit() -> None:
            async with broker.subscribe(**arguments) as messages:
                got: list[Any] = []
                self.rooms[name] = messages, got
                ready.set()
                while not reads:
                    await asyncio.sleep(3600)
                async for message in messages:
                    got.append(message)
                    if logs:
                        logging.getLogger("apps").warning("read: %s", message["payload"])
            await broker.publish("ended", name)

        task = self.tasks[name] = asyncio.ensure_future(visit())
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            task.result()

    async def told(self, name: str) -> list[Any]:
        """What has come since the last time."""
        _, got = self.rooms[name]
        new, got[:] = got[:], []
        return new

    async def lost(self, name: str) -> int:
        return self.rooms[name][0].lost

    async def waiting(self, name: str) -> list[bytes]:
        """The payloads in a mailbox that nobody reads, with which it is empty."""
        messages, _ = self.rooms[name]
        payloads = []
        while messages._mailbox._queue:
            payloads.append((await messages.__anext__())["payload"])
        return payloads

    async def close(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.wait([self.tasks[name]])

    async def visit_often(self, visitors: int, times: int) -> tuple[int, int]:
        """Subscribe again and again. How often a retained message came first; what is left of it all."""
        right = 0

        async def visit(number: int) -> None:
            nonlocal right
            for count in range(times):
                async with broker.subscribe(f"kept/{number % 3}", qos=count % 3) as messages:
                    right += (await messages.__anext__())["retain"]

        await asyncio.gather(*map(visit, range(visitors)))
        service = _host.of_process._service  # type: ignore[union-attr]
        return right, len(service.roster.inboxes)

    async def publish_for_ever(self) -> None:
        """Let a thread publish until it is told that there is no broker any more."""

        def run() -> None:
            try:
                while True:
                    async_to_sync(broker.publish)("beat", b"", qos=0)
            except broker.OutsideBroker as error:
                os.write(2, f"thread: {error}\n".encode())

        threading.Thread(target=run, daemon=True).start()

    async def scrape(self) -> str:
        from mqttasgi import metrics

        request = HttpRequest()
        request.method = "GET"
        response = await sync_to_async(metrics.view)(request)
        return str(response.content.decode())


application = Host.as_asgi()
