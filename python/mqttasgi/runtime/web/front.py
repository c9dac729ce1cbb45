"""What stands between uvicorn and the application, in ASGI as these are: bounds, and what proxies say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable, Optional

from ..._types import Application, Event
from ..._web import UNIX, Proxies

Receive = Callable[[], Awaitable[Event]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Events that an application may send without the others getting a turn.
TURN = 8

#: Requests that are worked on at a time, and the seconds after which one does not count any more.
AT_A_TIME, LONG = 2, 0.02

#: How the error of Channels' URLRouter begins that is raised for a path which none of its routes is for.
_NO_ROUTE = "No route found for path"

#: What a scope has for its client while it is looked at, where that came through the unix socket.
_THROUGH_SOCKET = (UNIX, 0)


class Front:
    """The application with bounds around it, and told of proxies only what can be believed."""

    def __init__(
        self,
        application: Application,
        kinds: Optional[set[str]],
        proxies: Proxies,
        body_max: int,
        behind_proxy: Callable[..., Any],
        add: Callable[[str, int], None],
    ) -> None:
        """Take the application and what is known of it.

        Args:
            application: What uvicorn is to serve.
            kinds: The types of scopes that it takes; None: nobody knows.
            proxies: Whose X-Forwarded- headers are believed.
            body_max: Bytes that a request's body may have.
            behind_proxy: uvicorn's ProxyHeadersMiddleware.
            add: Adds to a statistic.
        """
        self._application = application
        self._kinds = kinds
        self._proxies = proxies
        self._body_max = body_max
        self._add = add
        self._turnstile = Turnstile()
        #: Requests whose body was too large since the log said so.
        self.too_large = 0
        self._behind_proxy = behind_proxy(self._believed, trusted_hosts=proxies.parts)
        #: What is cancelled now ends because the broker stops.
        self.is_ending = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket. The watchdog knows its frame."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if self._kinds is not None and scope["type"] not in self._kinds:
            await _answer_that_nothing_is_here(scope["type"], send)
            return
        self._add("http/requests", 1)
        send = _in_turns(send)
        release: Optional[Callable[[], None]] = None
        try:
            if scope["type"] == "http":
                release = await self._turnstile.enter()
            scope["headers"] = _without_underscores(scope["headers"])
            if (scope["client"][0] if scope.get("client") else None) in self._proxies:
                scope["client"] = scope.get("client") or _THROUGH_SOCKET
                await self._behind_proxy(scope, receive, send)
            else:
                scope["headers"] = _without_forwarded(scope["headers"])
                await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not self.is_ending:
                raise
        except ValueError as error:
            if scope["type"] != "websocket" or not str(error).startswith(_NO_ROUTE):
                raise
            # Whoever asks for what is not there makes no traceback: it is no mistake of the application's.
            await _answer_that_nothing_is_here("websocket", send)
        finally:
            if release is not None:
                release()

    async def _believed(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["client"] == _THROUGH_SOCKET:
            scope["client"] = None  # the proxy has not said who it is
        await self._serve(scope, receive, send)

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            # uvicorn sees to it that what is announced is what comes.
            if int(headers.get(b"content-length", b"0")) > self._body_max:
                await self._answer_too_large(send)
                return
            if b"transfer-encoding" in headers:
                body = _CountedBody(receive, send, self._body_max, self._answer_too_large)
                receive, send = body.receive, body.send
        await self._application(scope, receive, send)

    async def _answer_too_large(self, send: Send) -> None:
        self.too_large += 1
        await _answer(send, 413, b"The request's body is too large.")


#: What runs in the frame that the watchdog looks for.
FRONT_CODE = Front.__call__.__code__


class Turnstile:
    """Lets few requests be worked on at a time, however many there are.

    A message for a consumer waits for a step of each. A request that takes long makes room for the next: most
    such wait for something themselves, or have no end.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_A_TIME)

    async def enter(self) -> Callable[[], None]:
        """Wait for a place. Return what is to be called when it is not needed any more."""
        await self._free.acquire()
        is_taken = True

        def leave() -> None:
            nonlocal is_taken
            if is_taken:
                is_taken = False
                self._free.release()
                timer.cancel()

        timer = asyncio.get_running_loop().call_later(LONG, leave)
        return leave


def _in_turns(send: Send) -> Send:
    """Return a `send` that lets others have their turns: uvicorn's need not wait for anything.

    It does not once the client is gone, either; an answer without an end would keep the loop for ever.
    """
    sent = 0

    async def send_in_turn(event: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += 1
        if sent % TURN == 0:
            await asyncio.sleep(0)
        await send(event)

    return send_in_turn


def _without_underscores(headers: Headers) -> Headers:
    """Return them without those that WSGI's names, which Django has, make others of: X_Forwarded_For, say."""
    return [header for header in headers if b"_" not in header[0]]


def _without_forwarded(headers: Headers) -> Headers:
    """Return them without what only a proxy may say: applications have their own ways to believe it."""
    return [
        header
        for header in headers
        if header[0] != b"forwarded" and not header[0].startswith(b"x-forwarded-")
    ]


class _CountedBody:
    """`receive` and `send` of a request whose length nobody has announced."""

    def __init__(
        self, receive: Receive, send: Send, most: int, refuse: Callable[[Send], Awaitable[None]]
    ) -> None:
        self._receive = receive
        self._send = send
        self._left = most
        self._refuse = refuse
        self._has_begun = False

    async def receive(self) -> Event:
        """Return the next part of the body, as long as it is not too long."""
        if self._left < 0:
            return {"type": "http.disconnect"}
        event = await self._receive()
        self._left -= len(event.get("body", b""))
        if self._left >= 0:
            return event
        if not self._has_begun:
            await self._refuse(self._send)
        return {"type": "http.disconnect"}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Send an event, unless the request was refused."""
        if self._left >= 0:
            self._has_begun = True
            await self._send(event)


async def _answer(send: Send, status: int, text: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def _answer_that_nothing_is_here(kind: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close"})
    else:
        await _answer(send, 404, b"This application answers no HTTP.")
