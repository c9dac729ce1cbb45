"""The web side of the application: whether there is one, its start, and its end within the broker's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Callable, Optional

from ..._types import Application
from ..._web import Proxies, parse_address
from ..bridge import Options
from ..lines import Source, source
from .listener import Listener, WebError, tls_context

if TYPE_CHECKING:
    from ..service import Service

INSTALL = "pip install uvicorn websockets"


class Site:
    """HTTP and WebSockets of one application. Loop thread only."""

    def __init__(self, service: Service, options: Options, application: Application) -> None:
        """Bind what the options say; raise `WebError` where that cannot be. `check` alone binds nothing."""
        self._service = service
        address = _parsed(parse_address, "http", options["http"])
        proxies = _parsed(Proxies, "http_proxies", options["http_proxies"])
        try:
            from . import server
        except ImportError as error:
            raise WebError(
                f"option http needs uvicorn ({error}); install it beside the application: {INSTALL}"
            ) from None
        from .front import Front

        tls = tls_context(options["http_cert"], options["http_key"]) if options["http_cert"] else None
        kinds = scope_types_of(application)
        self._warn_of_what_is_missing(kinds)
        #: Where people find it.
        self._url = f"unix:{address}" if address.path else f"http{'s' if tls is not None else ''}://{address}"
        self._server: Optional[server.Server] = None
        self._task: Optional[asyncio.Task[None]] = None
        #: Nothing is served any more, or was at all.
        self.has_ended = False
        #: It is to end.
        self._is_stopping = False
        if options["check"]:
            return
        front = Front(
            application, kinds, proxies, options["http_body"], server.behind_proxy, service.bridge.add
        )
        self._server = server.Server(
            front,
            Listener(address),
            tls,
            options["http_connections"],
            None if kinds is None else "lifespan" in kinds,
            service.log.warning,
            service.bridge,
        )

    def _warn_of_what_is_missing(self, kinds: Optional[set[str]]) -> None:
        if kinds is not None and "http" not in kinds:
            self._service.log.warning(
                'HTTP: the application has no "http" among its protocols, so every request gets status 404; '
                'add "http": get_asgi_application() to its ProtocolTypeRouter.'
            )
        if (kinds is None or "websocket" in kinds) and not _speaks_websocket():
            self._service.log.warning(
                "HTTP: WebSockets are not served, because neither websockets nor wsproto is installed: "
                "pip install websockets"
            )

    # ---- its life ----

    def start(self, is_ready: Callable[[], None]) -> None:
        """Serve from now on. `is_ready` is called when the application's lifespan has begun, if any."""
        context = self._service.context.copy()
        self._task = context.run(self._new_task, is_ready)
        self._task.add_done_callback(lambda _: self._ended())

    def _new_task(self, is_ready: Callable[[], None]) -> asyncio.Task[None]:
        # What is logged while a request is served is nobody else's.
        source.set(Source("the web side", None, "http"))
        # Not by the loop's task factory, which is the application's to set.
        return asyncio.Task(self._run(is_ready), loop=asyncio.get_running_loop())

    async def _run(self, is_ready: Callable[[], None]) -> None:
        assert self._server is not None
        log = self._service.log

        def begin() -> None:
            log.info(f"HTTP and WebSockets are served at {self._url}.")
            is_ready()

        try:
            await self._server.run_until_stopped(begin)
        except WebError as error:
            log.error(f"Cannot serve HTTP: {error}.")
        except asyncio.CancelledError:
            if not self._is_stopping and not self._service.stopped:
                log.error(
                    "The application has cancelled the task that serves HTTP, which is not served any more."
                )
        except BaseException as error:  # uvicorn ends a process by SystemExit
            log.exception("HTTP is not served any more:", error)

    def _ended(self) -> None:
        service = self._service
        self.has_ended = True
        if not service.beginning.has_started and not self._is_stopping and not service.stopped:
            service.finish()
        service.farewell.look()

    def stop(self, seconds: float) -> None:
        """End: requests and WebSockets have so many seconds for that."""
        self._is_stopping = True
        if self._server is not None and self._task is not None:
            self._server.stop(seconds)
        else:
            self.has_ended = True

    def give_up(self) -> None:
        """End without waiting for anything more."""
        if self._task is not None and not self.has_ended:
            self._service.log.error("HTTP did not end in time and is cancelled.")
            self._task.cancel()


def scope_types_of(application: Any) -> Optional[set[str]]:
    """Return the types of scopes that an application takes; None: it does not say."""
    routes = getattr(application, "application_mapping", None)  # a ProtocolTypeRouter's
    if isinstance(routes, dict):
        return set(routes)
    return {"mqtt"} if hasattr(application, "consumer_class") else None


def _speaks_websocket() -> bool:
    from importlib.util import find_spec

    return any(find_spec(name) is not None for name in ("websockets", "wsproto"))


def _parsed(parse: Callable[[str], Any], name: str, value: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise WebError(f'option {name}: "{value}" {error}') from None
