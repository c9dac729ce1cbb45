"""uvicorn, as a guest on the broker's event loop: it takes no signals, binds nothing and ends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Callable, Optional

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..bridge import Bridge
from .connections import REFUSED, Connections, open_doors
from .front import Front
from .listener import Listener, WebError

#: Seconds between two looks at the connections; so old may the header Date be.
INTERVAL = 1.0
#: Bytes that the head of a request may have.
HEAD_SIZE = 32 * 1024
#: Seconds for which a connection waits for its next request.
KEEP_ALIVE = 5
#: Bytes of a WebSocket's message.
MESSAGE_SIZE = 1024 * 1024
#: Seconds between two pings of a WebSocket, and for the answer.
PING_INTERVAL, PING_TIMEOUT = 20.0, 20.0

#: Seconds for what was not finished at the end, to notice that its connection is closed.
GRACE = 0.1

#: What uvicorn logs of itself as if it were the process, or Ctrl-C could end it.
_OF_A_PROCESS = (
    "Started server process",
    "Finished server process",
    "Shutting down",
    "Waiting for",
    "connection ",
)

behind_proxy: Callable[..., Any] = ProxyHeadersMiddleware


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_OF_A_PROCESS)


class Server(uvicorn.Server):
    """Serves one application at sockets that are bound already."""

    def __init__(
        self,
        front: Front,
        listener: Listener,
        tls: Optional[ssl.SSLContext],
        most: int,
        has_lifespan: Optional[bool],
        warn: Callable[[str], None],
        bridge: Bridge,
    ) -> None:
        """Take what is served and where.

        Args:
            front: The application.
            listener: Where; it is closed at the end.
            tls: None: without.
            most: How many connections may be open.
            has_lifespan: Whether the application takes that scope; None: it is to be tried.
            warn: Writes a line to the broker's log.
            bridge: For the statistics.
        """
        super().__init__(
            uvicorn.Config(
                front,
                interface="asgi3",
                # One that is always there, and whose bounds are known.
                http="h11",
                h11_max_incomplete_event_size=HEAD_SIZE,
                ws_max_size=MESSAGE_SIZE,
                # What is 8 KiB on the wire would be 8 MiB in memory.
                ws_per_message_deflate=False,
                ws_ping_interval=PING_INTERVAL,
                ws_ping_timeout=PING_TIMEOUT,
                lifespan={True: "on", False: "off", None: "auto"}[has_lifespan],
                log_config=None,
                workers=1,
                # `Front` says whose headers are believed.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
        self._front = front
        self._listener = listener
        self._warn = warn
        self._bridge = bridge
        self._connections = Connections(most, tls, self._new_protocol, self._tell)
        #: Wakes the main loop.
        self._stop_asked = asyncio.Event()
        self._is_ready: Callable[[], None] = lambda: None

    def _tell(self, statistic: str, by: int, text: str) -> None:
        self._bridge.add(statistic, by)
        self._warn(text)

    def _look(self, passed: float) -> None:
        self._connections.look(passed)
        if self._front.too_large:
            self._tell(
                REFUSED,
                self._front.too_large,
                f"HTTP: {self._front.too_large} requests had too large a body and got status 413; "
                "plugin_opt_http_body says how large it may be.",
            )
            self._front.too_large = 0
        self._bridge.set("http/connections", len(self._connections))

    def _new_protocol(self) -> Any:
        return self.config.http_protocol_class(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )

    async def run_until_stopped(self, is_ready: Callable[[], None]) -> None:
        """Serve. `is_ready` is called when the application's lifespan has begun and connections are accepted.

        Raises:
            WebError: The application has refused to start.
        """
        self._is_ready = is_ready
        try:
            await self.serve(sockets=self._listener.sockets)
        finally:
            self._listener.close()

    def stop(self, seconds: float) -> None:
        """Accept nothing more, and end requests and WebSockets: for so many seconds in peace."""
        self.should_exit = True
        self._stop_asked.set()
        self._connections.are_ending = True
        asyncio.get_running_loop().call_later(seconds, self._end_late, seconds)

    def _end_late(self, seconds: float) -> None:
        tasks = [task for task in self.server_state.tasks if not task.done()]
        if tasks:
            self._warn(
                f"HTTP: {len(tasks)} requests and WebSockets did not end in {seconds:g} s and are broken off."
            )
        # Most applications end when the client is gone.
        self._connections.end()
        asyncio.get_running_loop().call_later(GRACE, self._cancel, tasks)

    def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        self._front.is_ending = True
        for task in tasks:
            task.cancel()

    # ---- what uvicorn calls ----

    def capture_signals(self) -> AbstractContextManager[None]:
        """Leave the signals to the broker."""
        return contextlib.nullcontext()

    async def startup(self, sockets: Optional[Sequence[Any]] = None) -> None:
        """Begin the application's lifespan, then accept connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise WebError("the application's lifespan has not started; what it has raised or said is above")
        # The broker may stop already.
        self.servers = [] if self.should_exit else open_doors(sockets or (), self._connections, self._warn)
        self.started = True
        self._is_ready()

    async def main_loop(self) -> None:
        """Look at the connections now and then: uvicorn's own wakes up ten times a second."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while not self.should_exit:
            await self.on_tick(0)  # which renews the header Date
            now = loop.time()
            self._look(now - looked)
            looked = now
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), INTERVAL)
