"""What pages of this process may see and do of it (`mqttasgi._inside`)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Callable, Optional

from .. import _host
from .._state import ConsumerView, LogLine
from . import processes
from .bridge import GUEST
from .client_table import ClientTable

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .service import Service

#: Seconds between two looks for new lines of the log, while somebody watches.
LOOK_AFTER = 0.2

#: No line has a larger number.
_LAST = 2**63


class Inside:
    """The consumers, the log and the clients, as an `_host.Inside`. Loop thread only.

    It keeps who watches, of which there are as many as viewers; nothing is done for nobody.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        #: The loop that all this happens on; None: it does not run yet.
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._watchers: list[Callable[[str], None]] = []
        #: What has changed in this turn of the loop, in this order.
        self._changed: dict[str, None] = {}
        #: The last line of the log that those who watch know of.
        self._seen = 0
        #: Looks for new ones; None: nobody watches.
        self._look: Optional[asyncio.TimerHandle] = None
        #: None: nobody wants to see clients.
        self._clients: Optional[ClientWatch] = None
        bridge = service.bridge
        self._levels = {
            bridge.LOG_ERR: "error",
            bridge.LOG_WARNING: "warning",
            bridge.LOG_NOTICE: "notice",
            bridge.LOG_INFO: "info",
            bridge.LOG_DEBUG: "debug",
        }

    def open(self) -> None:
        """Answer from now on."""
        self._loop = asyncio.get_running_loop()

    def _check_is_here(self, what: str) -> None:
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is None or running is not self._loop or processes.forked:
            raise _host.OutsideBroker(
                f"{what} on another event loop than the consumers': use it in async code that the broker "
                "runs, an async view or a WebSocket consumer for example"
            )

    # ---- consumers ----

    def consumers(self) -> list[ConsumerView]:
        """Return those that there are, and those that were given up."""
        self._check_is_here("consumers()")
        roster = self._service.roster
        return [_view(consumer) for consumer in (*roster.by_handle.values(), *roster.given_up.values())]

    def restart(self, handle: int) -> bool:
        """Start a consumer again. False: that cannot be."""
        self._check_is_here("restart()")
        return self._service.encores.ask(handle)

    # ---- clients ----

    async def kick(self, client_id: str) -> bool:
        """Disconnect a client. False: there is none with this id, or it is the session."""
        self._check_is_here("kick()")
        try:
            return await self._service.requests.kick(client_id)
        except ValueError:
            return False

    async def begin_clients(self) -> ClientTable:
        """Watch clients for one more."""
        self._check_is_here("clients()")
        service = self._service
        if service.farewell.has_begun or service.stopped:
            raise _host.OutsideBroker("clients(): the broker stops, so nothing comes any more")
        if self._clients is None:
            self._clients = ClientWatch(service)
        self._clients.viewers += 1
        try:
            # Several may wait for it; one that is cancelled must not take it from the others.
            return await asyncio.shield(self._clients.ready)
        except BaseException:
            self.end_clients()
            raise

    def end_clients(self) -> None:
        """Watch clients for one less, and not at all if that was the last."""
        assert self._clients is not None
        self._clients.viewers -= 1
        if not self._clients.viewers:
            self._clients.end()
            self._clients = None

    # ---- the log ----

    def log_lines(self, after: int) -> list[LogLine]:
        """Return the last lines behind the one with this number."""
        self._check_is_here("log_lines()")
        return [
            LogLine(number, time, self._levels.get(level, "info"), text)
            for number, time, level, text in self._service.bridge.log_lines(min(max(after, 0), _LAST))
        ]

    def _look_at_log(self) -> None:
        assert self._loop is not None
        last = self._service.bridge.last_log_line()
        if last != self._seen:
            self._seen = last
            self.changed("log")
        self._look = self._loop.call_later(LOOK_AFTER, self._look_at_log)

    # ---- who watches ----

    def watch(self, on_change: Callable[[str], None]) -> Callable[[], None]:
        """Tell of changes until what is returned is called."""
        self._check_is_here("watch()")

        def tell(kind: str) -> None:
            if tell in self._watchers:  # it may have ended since this was asked for
                on_change(kind)

        def end() -> None:
            if tell in self._watchers:
                self._watchers.remove(tell)
            if not self._watchers and self._look is not None:
                self._look.cancel()
                self._look = None

        self._watchers.append(tell)
        if self._look is None:
            self._seen = self._service.bridge.last_log_line()
            self._look_at_log()
        return end

    def changed(self, kind: str) -> None:
        """Tell those who watch, in a moment, that there is something new."""
        if not self._watchers or self._loop is None:
            return
        if not self._changed:
            self._loop.call_soon(self._tell)
        self._changed[kind] = None

    def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        assert self._loop is not None
        for kind in changed:
            for watcher in list(self._watchers):
                # In a call of its own, so that what one raises concerns no other.
                self._loop.call_soon(watcher, kind)


class ClientWatch:
    """The clients while somebody wants to see them; for the plugin a guest, with a handle of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._handle = GUEST | service.roster.new_handle()
        self._table = ClientTable(service, service.inside.changed)
        #: How many want to see them.
        self.viewers = 0
        service.roster.inboxes[self._handle] = self._table
        #: Done when those who are there have come.
        self.ready = asyncio.ensure_future(self._begin())

    async def _begin(self) -> ClientTable:
        requests = self._service.requests
        await requests.watch_clients(self._handle, "a page")
        # Those who are there come behind the answer, and before that to the same question asked again.
        await requests.watch_clients(self._handle, "a page")
        self._table.forget_times()
        return self._table

    def end(self) -> None:
        """Watch no more."""
        self.ready.cancel()
        self._service.requests.unwatch_clients(self._handle).add_done_callback(self._forget)

    def _forget(self, _: object) -> None:
        del self._service.roster.inboxes[self._handle]
        self._service.take_held(self._handle)


def _view(consumer: HostedConsumer) -> ConsumerView:
    history = consumer.history
    return ConsumerView(
        handle=consumer.handle,
        name=consumer.name,
        app_id="" if consumer.is_master else _shown(consumer.app_id),
        state=history.state,
        since=history.since,
        restarts=max(0, consumer.runs - 1),
        handled=history.handled + (consumer.run.handled if consumer.run is not None else 0),
        waiting=len(consumer.inbox.queue),
        error=history.error,
        error_time=history.error_time,
    )


def _shown(app_id: object) -> str:
    """Return its repr(), which is the application's code, if that is fit for a page."""
    try:
        return f"{app_id!r:.400}"
    except Exception:
        return f"an object of type {type(app_id).__name__}"
