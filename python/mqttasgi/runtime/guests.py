"""Guests: code that is no consumer and publishes and subscribes all the same (`mqttasgi.broker`).

Views, WebSocket consumers, tasks, signals. For the plugin each subscription of a guest is one more
consumer, whose handle says that nothing is to be kept for it. Nobody waits for a guest: what it does not read
in time is dropped from its mailbox.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Optional

from .. import _host
from .._mailbox import Mailbox
from .._mqtt import Payload
from .._properties import Properties
from . import processes
from .bridge import GUEST, Delivery
from .commands import check_can_share
from .inbox import Holding
from .inside import Inside
from .lines import LOG_TOPICS, of_log
from .overload import Complaint
from .run import encode

if TYPE_CHECKING:
    from .service import Service


class GuestInbox(Holding):
    """The way of a guest's deliveries into its mailbox. Loop thread only."""

    __slots__ = ("_guests", "_mailbox")

    def __init__(self, service: Service, guests: Guests, mailbox: Mailbox) -> None:
        super().__init__(service)
        self._guests = guests
        self._mailbox = mailbox

    def feed(self, delivery: Delivery) -> None:
        """Take a delivery, which counts towards the inbound queue's bound no longer."""
        if self._hold is not None:
            self._hold.add(delivery)
            return
        _, message, options = delivery
        mqtt: Any = message.event(options)["mqtt"]
        lost = self._mailbox.put(mqtt, message.size)
        if lost:
            self._guests.lost(self._mailbox, lost)

    def end(self) -> None:
        """Let nothing new come."""
        self._end_hold()
        self._mailbox.end()


class Guests:
    """What guests ask for, as a `Host`. Loop thread only, but for what says otherwise."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: The loop that all this happens on; None: it does not run yet.
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        #: Handles of those that are subscribed.
        self._handles: dict[Mailbox, int] = {}
        self._complaint = Complaint()
        #: Guards the two below.
        self._lock = threading.Lock()
        self._is_closed = False
        #: What other threads wait for: at most one each, or as many as tasks on their loops.
        self._handed_over: set[concurrent.futures.Future[None]] = set()

    # ---- the beginning and the end ----

    def open(self) -> None:
        """Be the broker of this process from now on."""
        self._loop = asyncio.get_running_loop()
        _host.of_process = self

    def end(self) -> None:
        """Let every guest have what waits, and then no more: the broker stops."""
        for handle in self._handles.values():
            inbox = self._service.roster.inboxes[handle]
            assert isinstance(inbox, GuestInbox)
            inbox.end()

    @property
    def are_there(self) -> bool:
        """Whether one is in its block."""
        return bool(self._handles)

    def close(self) -> None:
        """Let no other thread wait: the loop ends."""
        with self._lock:
            self._is_closed = True
            handed_over = list(self._handed_over)
        for future in handed_over:
            future.cancel()

    # ---- publishing ----

    async def publish(
        self, topic: str, payload: Payload, qos: int, retain: bool, properties: Optional[Properties]
    ) -> None:
        """Publish a message in nobody's name. Any thread's event loop."""
        if processes.forked:
            raise _host.OutsideBroker(
                f"broker.publish() to {topic!r:.400} in a child process: the broker is its parent process. "
                "Publish there, or connect to the broker as a client"
            )
        arguments = encode(0, topic, payload, qos, retain, properties)
        if self._is_here():
            await self._push(arguments)
        else:
            await self._hand_over(arguments)

    def _is_here(self) -> bool:
        return asyncio.get_running_loop() is self._loop

    async def _push(self, arguments: tuple[int, str, bytes, int, bool, bytes]) -> None:
        while not self._service.bridge.publish(*arguments):
            await self._service.requests.until_writable()

    async def _hand_over(self, arguments: tuple[int, str, bytes, int, bool, bytes]) -> None:
        """Have the loop thread publish it, and wait for that on this thread's loop."""
        assert self._loop is not None
        with self._lock:
            if self._is_closed:
                raise self._stopped(arguments[1])
            future = asyncio.run_coroutine_threadsafe(self._push(arguments), self._loop)
            self._handed_over.add(future)
        try:
            await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._is_closed:
                raise self._stopped(arguments[1]) from None
            raise
        finally:
            with self._lock:
                self._handed_over.discard(future)

    def _stopped(self, topic: str) -> _host.OutsideBroker:
        return _host.OutsideBroker(f"broker.publish() to {topic!r:.400}: the broker stops and takes no more")

    # ---- subscribing ----

    async def subscribe(self, mailbox: Mailbox) -> None:
        """Return when everything that matches is put into the mailbox."""
        service = self._service
        if processes.forked or not self._is_here():
            raise _host.OutsideBroker(
                f"{mailbox} on another event loop than the consumers': messages come to that one only. Use "
                "it in async code that the broker runs, a WebSocket consumer or an async view for example"
            )
        if service.farewell.has_begun or service.stopped:
            raise _host.OutsideBroker(f"{mailbox}: the broker stops, so nothing comes any more")
        for topic_filter in mailbox.filters:
            check_can_share(service, topic_filter)
        handle = GUEST | service.roster.new_handle()
        self._handles[mailbox] = handle
        service.roster.inboxes[handle] = GuestInbox(service, self, mailbox)
        try:
            for topic_filter in mailbox.filters:
                await service.requests.subscribe(handle, topic_filter, mailbox.options)
        except BaseException:
            self.unsubscribe(mailbox)
            raise

    def unsubscribe(self, mailbox: Mailbox) -> asyncio.Future[None]:
        """End a mailbox. What is returned is done when the broker knows that too, unless it stops."""
        service = self._service
        handle = self._handles.pop(mailbox)
        mailbox.end()
        mailbox.clear()
        ended: asyncio.Future[None] = service.loop.create_future()
        # Of those that it has not got to subscribe to there is nothing to end, which does no harm.
        answers = asyncio.gather(
            *(service.requests.end(handle, topic_filter) for topic_filter in mailbox.filters)
        )

        def finish(_: object) -> None:
            self._forget(handle)
            if not ended.done():
                ended.set_result(None)

        answers.add_done_callback(finish)
        if service.farewell.has_begun or service.stopped:
            ended.set_result(None)  # the broker may have ended before it answers
        service.farewell.look()
        return ended

    def _forget(self, handle: int) -> None:
        del self._service.roster.inboxes[handle]
        self._service.take_held(handle)

    def lost(self, mailbox: Mailbox, count: int) -> None:
        """Count what has found no room in a mailbox, and say so once a second."""
        bridge = self._service.bridge
        bridge.add("messages/dropped/consumer_queue", count)
        times = self._complaint.times_to_say(count, self._service.loop.time())
        if times:
            bridge.log(
                bridge.LOG_WARNING,
                f"{times} messages for readers of broker.subscribe() dropped, the oldest first; the last of "
                f"{mailbox}, whose reader is slower than its messages: its queue_size ({mailbox.size}) and "
                f"queue_bytes ({mailbox.max_bytes}) bound what may wait for it.",
            )

    def note(self, topic: Optional[str]) -> None:
        """Note whether a line of the broker's log is being handled: what is logged then would come back."""
        of_log.set(topic is not None and topic.startswith(LOG_TOPICS))

    # ---- the inside of the process ----

    @property
    def inside(self) -> Inside:
        """What pages may see and do of this process."""
        return self._service.inside

    def statistics(self) -> dict[str, int]:
        """Return the statistics that there are by their names. Any thread."""
        service = self._service
        off = [
            prefix
            for prefix, is_on in (("durable/", service.durable.is_on), ("http/", service.site))
            if not is_on
        ]
        return {
            name: value for name, value in service.bridge.values().items() if not name.startswith(tuple(off))
        }
