"""The whole: runs consumers on the loop thread, between the inbound and the outbound queue.

One direction each way: the plugin's messages come through `Service` into the inboxes of the consumers that
they are for; what consumers send goes through `Run.send` to the plugin.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any, Callable, Optional

from .. import _versions
from .._types import ALONE, Application
from . import advice, interpreter, logs, loop
from .application import ApplicationError, load_application
from .beginning import Beginning
from .bridge import Bridge, Control, Delivery, Options
from .durable import Durable, is_stored
from .encores import Encores
from .farewell import Farewell
from .guests import Guests
from .holds import GeneralHold
from .inside import Inside
from .lifecycle import Lifecycle
from .lines import Lines
from .overload import Overload
from .requests import Requests
from .roster import Roster
from .watchdog import Watchdog
from .workers import Workers

if TYPE_CHECKING:
    from .web.site import Site

#: Messages taken from the inbound queue before the consumers run again.
TAKE_MAX = 256


class Service:
    """All consumers of this process, and what they share. Loop thread only."""

    def __init__(
        self,
        bridge: Bridge,
        loop: asyncio.AbstractEventLoop,
        has_session: bool = True,
        retries: int = 3,
        shutdown_timeout: float = 5.0,
        overload: Optional[Overload] = None,
        lines: Optional[Lines] = None,
        durable_tries: int = 0,
        keeps_session: bool = False,
    ) -> None:
        self.bridge = bridge
        self.loop = loop
        self.has_session = has_session
        #: What the scope of every consumer says of this process.
        self.scope: dict[str, Any] = ALONE
        #: A master that fails in its first connect() is started again: no broker waits for it.
        self.master_may_fail = False
        #: At the end, what still waits for consumers is left to whoever has it kept.
        self.leaves_what_waits = False
        self.lines = lines or Lines(bridge)
        self.log = logs.BrokerLog(bridge, self.lines)
        self.overload = overload or Overload(bridge)
        #: The context variables that each consumer begins with: those of the start, with what modules set
        #: while they are imported. Whoever spawns a consumer, or failed before it, has others.
        self.context = contextvars.copy_context()
        self.stopped = False
        #: What waits for the session, whomever it is for; None: nothing does.
        self.general_hold: Optional[GeneralHold] = None
        self.requests = Requests(bridge, loop)
        self.inside = Inside(self)
        self.roster = Roster(bridge)
        self.durable = Durable(self, durable_tries)
        self.beginning = Beginning(bridge, self.roster, self.durable.is_on)
        self.lifecycle = Lifecycle(self, retries)
        self.encores = Encores(self, keeps_session)
        self.workers = Workers(self)
        #: None: HTTP is not served.
        self.site: Optional[Site] = None
        self.farewell = Farewell(self, shutdown_timeout)
        self.guests = Guests(self)

    def start(self, path: str, application: Application) -> None:
        """Begin to take messages and start the master, after the web side's lifespan where there is one."""
        self.context = contextvars.copy_context()
        self.loop.add_reader(self.bridge.fileno(), self._take)
        self.guests.open()
        self.inside.open()
        master = self.lifecycle.add(0, "master", path, application, None)
        if self.site is None:
            master.start()
        else:
            self.site.start(master.start)

    def finish(self) -> None:
        """End the loop."""
        self.durable.flush()
        self.guests.close()
        self.stopped = True
        self.loop.stop()

    # ---- what comes from the plugin ----

    def _take(self) -> None:
        count = 0
        for deliveries, control in self.bridge.take(TAKE_MAX):
            count += len(deliveries)
            self._deliver(deliveries)
            if self.overload.drops_oldest:
                deliveries.clear()  # they count as long as they live
            if control is not None:
                count += 1
                self._control(control)
        if self.overload.drops_oldest:
            inboxes = [consumer.inbox for consumer in self.roster.by_handle.values()]
            self.overload.trim(inboxes, self.loop.time())
        if count >= TAKE_MAX:
            self.loop.call_soon(self._take)

    def _deliver(self, deliveries: list[Delivery]) -> None:
        inboxes = self.roster.inboxes
        hold = self.general_hold
        for delivery in deliveries:
            inbox = inboxes.get(delivery[0])
            if inbox is None:
                self.bridge.add("messages/dropped/consumer_ended", int(not is_stored(delivery)))
            elif hold is not None and not delivery[1].session:
                hold.add(delivery)
            else:
                inbox.feed(delivery)

    def _control(self, control: Control) -> None:
        if control[0] == "answer":
            self.requests.answer(control[1], control[2])
        elif control[0] == "writable":
            self.requests.writable()
        elif control[0] == "hold":
            if self.general_hold is None:
                self.general_hold = GeneralHold()
            self.general_hold.hold(control[1])
        elif control[0] == "release":
            self.release(control[1])
        elif control[0] == "hold_consumer":
            if control[1] in self.roster.inboxes:
                self.roster.inboxes[control[1]].hold(again=control[2])
        elif control[0] == "release_consumer":
            if control[1] in self.roster.inboxes:
                self.roster.inboxes[control[1]].release()
        elif control[0] == "options":
            logs.set_verbosity(control[1])
            self.lines.set_rate(control[2])
        elif not self.farewell.has_begun:
            self.farewell.begin()

    def take_held(self, handle: int) -> list[Delivery]:
        """Return what waits in the general hold for one that is about to end, or has ended."""
        return self.general_hold.take(handle) if self.general_hold is not None else []

    def release(self, number: int) -> None:
        """Let go on what waits in the general hold, up to that number."""
        if self.general_hold is not None:
            for delivery in self.general_hold.release(number):
                self.roster.inboxes[delivery[0]].go_on(delivery)
            if self.general_hold.is_over:
                self.general_hold = None


def _load(log: logs.BrokerLog, path: str) -> Optional[Application]:
    try:
        return load_application(path)
    except ApplicationError as error:
        log.error(f"Cannot start the application: {error}.")
    except BaseException as error:
        log.exception(f"Cannot import the application {path}: {type(error).__name__}: {error}", error)
    return None


def _make_site(service: Service, options: Options, application: Application) -> bool:
    """Make the web side if there is to be one; False: that cannot be, as the log says."""
    if not options["http"]:
        return True
    from .web.listener import WebError
    from .web.site import Site

    try:
        service.site = Site(service, options, application)
    except WebError as error:
        service.log.error(f"Cannot serve HTTP: {error}.")
        return False
    return True


def _make(bridge: Bridge, options: Options, lines: Lines) -> Service:
    overload = Overload(
        bridge, options["consumer_queue_size"], options["consumer_queue_bytes"], options["overload"]
    )
    made = loop.prepare(options["loop"], bridge, lines)
    return Service(
        bridge,
        made,
        options["session"] != "off",
        options["retries"],
        options["shutdown_timeout"],
        overload,
        lines,
        options["durable_tries"] if options["durable"] else 0,
        options["session"] != "off" and not options["cleansession"],
    )


def host(
    bridge: Bridge, options: Options, lines: Lines, begin: Callable[[Service, Callable[[], None]], object]
) -> None:
    """Run the application until the service ends.

    Args:
        bridge: To the broker.
        options: The administrator's.
        lines: The way of the application's lines into the log.
        begin: Called before the loop runs, with the service and with what starts the consumers, on the loop.
    """
    complaint = _versions.clash() or _versions.difference(bridge.VERSION) or _versions.stranger()
    if complaint:
        bridge.log(bridge.LOG_WARNING, complaint)
    service = _make(bridge, options, lines)
    # Before the loop runs: Django refuses database access from inside a running one.
    application = _load(service.log, options["application"])
    logs.keep_loggers()
    if application is not None:
        advice.look_at_databases(options["check"])
        if not _make_site(service, options, application):
            application = None
    if application is not None and options["check"]:
        bridge.started()
    elif application is not None:
        begin(service, functools.partial(service.start, options["application"], application))
        with Watchdog(service, options["watchdog"]):
            loop.run_until_stopped(service)
    loop.close(service.loop, service.log, service.farewell.until)


def run() -> None:
    """Run the application until the broker stops. Called by the plugin on the loop thread."""
    import _mqttasgi

    bridge: Bridge = _mqttasgi
    options: Options = bridge.options()
    lines = interpreter.prepare(bridge, options)
    interpreter.leave_signals_to_broker(bridge, lines)
    host(bridge, options, lines, lambda service, start: service.loop.call_soon(start))
