"""The runtime's `Bridge` over a connection to a broker elsewhere.

Messages of QoS 1 and 2 are for the runtime what the plugin's durable inbox holds: each has a number, and is
acknowledged when all of its consumers have handled it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import deque
from functools import partial
from typing import Any, Callable, Optional, Union

import paho.mqtt.client as paho

from .. import __version__
from .._reasons import NONE_SHARED, about_code
from ..runtime.bridge import GUEST, Batch, Control, Delivery, Options
from ..runtime.durable import REDELIVERED
from ..runtime.overload import Complaint
from . import log as levels
from .address import Address
from .connection import Connection
from .dead_letters import ENDED, FAILED, Replay
from .filters import QOS
from .letters import Letters
from .log import Log
from .message import ReceivedMessage, Room, identifiers, replayed
from .settings import Settings
from .statistics import Statistics
from .subscribing import Subscribing
from .unhandled import Unhandled

#: MOSQ_ERR_NOT_SUPPORTED: only a broker can do it that consumers are inside of.
NOT_SUPPORTED = 10
#: With overload `drop_oldest`, new messages are taken until so many times as much waits as may; the runtime
#: makes room meanwhile.
OVER = 2
#: What of the time for the end is for what has been published.
LAST_PUBLISHED = 0.2
#: Seconds without a message after which a broker that was told to send no more has sent all.
QUIET = 0.25

_SESSION_DOWN, _SESSION_UP = 1, 2


class ClusterBridge:
    """What the plugin's module is inside a broker. Loop thread only, but for what says otherwise."""

    LOG_ERR, LOG_WARNING, LOG_NOTICE = levels.ERR, levels.WARNING, levels.NOTICE
    LOG_INFO, LOG_DEBUG = levels.INFO, levels.DEBUG
    VERSION = __version__

    def __init__(self, settings: Settings, log: Log) -> None:
        """Take what this process is. Raises ValueError or DeadLettersError, with a sentence."""
        self._options: Any = settings.options
        self._log = log
        self._settings = settings
        self._statistics = Statistics()
        self.add = self._statistics.add
        self.set = self._statistics.set
        self.raise_to = self._statistics.raise_to
        self.handled = self._statistics.handled
        self._readable, self._writable = os.pipe()
        for descriptor in (self._readable, self._writable):
            os.set_blocking(descriptor, False)
        self._waiting: deque[Union[list[Delivery], Control]] = deque()
        self._has_signalled = False
        self._room = Room(self._options)
        self._connection = Connection(settings, self, log, self._room.most_messages)
        self._subscribing = Subscribing(settings.group, self._connection, self._answer, log, self._statistics)
        self._numbers = itertools.count(1)
        self._unhandled = Unhandled(self._connection.acknowledge)
        self._letters = Letters(settings, log, self._statistics, self._numbers, self._replay)
        self.at_work = self._letters.at_work
        #: What came before the consumers of the start had subscribed; None: they have.
        self._early: Optional[list[paho.MQTTMessage]] = []
        self._is_full = False
        self._complaint = Complaint()
        self._unreadable = Complaint()
        #: Begins the application when the broker has accepted the connection for the first time.
        self._begin: Optional[Callable[[], None]] = None
        self._is_ready: Callable[[], None] = lambda: None
        self._finish: Callable[[], None] = lambda: None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        #: When the consumers are told to disconnect, by the loop's clock; None: nobody has asked for the end.
        self._stops_at: Optional[float] = None
        #: Since when nothing was under way, and for long enough.
        self._quiet_at = 0.0
        self._has_stopped = False
        #: Whether the broker is to keep nothing for this process when it ends.
        self._ends_session = settings.ends_session
        self.has_started = False
        #: The application has failed for good, or there is no connection.
        self.has_failed = False

    # ---- the beginning and the end ----

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[], None],
        is_ready: Callable[[], None],
        finish: Callable[[], None],
    ) -> None:
        """Connect, and call `begin` when that is done for the first time, or `finish` if that is never.

        `is_ready` is called when consumers run.
        """
        self._is_ready = is_ready
        self._loop, self._begin, self._finish = loop, begin, finish
        self.set("session/state", _SESSION_DOWN)
        self._connection.start(loop)

    def stop(self) -> None:
        """Have the consumers disconnect, after the messages that have come."""
        self._leave(self._options["shutdown_timeout"])

    def retire(self) -> None:
        """Do so after all that the broker has for this process, which nobody will be again."""
        self._ends_session = True
        self._leave(float("inf"))

    def _leave(self, seconds: float) -> None:
        assert self._loop is not None
        if self._begin is not None:
            self._has_stopped = True  # nothing has begun
            self._finish()
            return
        until = self._loop.time() + seconds
        if self._stops_at is not None:
            self._stops_at = min(self._stops_at, until)
            return
        self._stops_at = until
        if self._ends_session and self._connection.is_up:
            # Others of the group get what comes from now on.
            self._subscribing.end_all()
        self._look_at_stop()

    def _look_at_stop(self) -> None:
        assert self._loop is not None and self._stops_at is not None
        if self._has_stopped:
            return
        now = self._loop.time()
        # One that retires waits for a connection, too: the broker may have something for it.
        is_away = self._stops_at == float("inf") and not self._connection.is_up
        if is_away or self._subscribing.waits or self._waiting_for_consumers:
            self._quiet_at = now + QUIET
        if not self._ends_session or now >= min(self._stops_at, self._quiet_at):
            self._has_stopped = True
            self._put(("stop",))
        else:
            self._loop.call_later(0.01, self._look_at_stop)

    @property
    def _waiting_for_consumers(self) -> int:
        """How many messages have come and are not handled."""
        return self._room.messages + len(self._early or ())

    @property
    def address(self) -> Address:
        """Where the broker is."""
        return self._connection.address

    @property
    def was_stopped(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._has_stopped and not self.has_failed

    async def close(self) -> None:
        """Wait for what has been published, for a moment, and disconnect."""
        until = time.monotonic() + LAST_PUBLISHED * self._options["shutdown_timeout"]
        while self._connection.leaving and self._connection.is_up and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        if self._connection.leaving:
            self._log.warning(
                f"{self._connection.leaving} messages that consumers have published are lost: the broker has "
                "not acknowledged them."
            )
        ends_session = self._ends_session and not self.has_failed
        if ends_session and self._waiting_for_consumers:
            self._log.warning(
                f"{self._waiting_for_consumers} messages that have come were not handled in time and are "
                "lost, and what the broker still has for this process: it keeps no session. -o "
                "shutdown_timeout gives more time, and --cleansession false leaves them to the next start."
            )
        self._letters.close()
        self._connection.end(keeps_session=not ends_session)
        until = max(until, time.monotonic() + QUIET)
        while self._connection.is_open and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    # ---- the connection ----

    def up(self, session_present: bool) -> None:
        """Begin, or ask again for what the broker does not know any more."""
        self.set("session/state", _SESSION_UP)
        if self._settings.group and not self._connection.limits.has_shared:
            self._log.error(f"The broker cannot be used with --group: {about_code(NONE_SHARED)}.")
            self.given_up()
            return
        if not session_present:
            self._unhandled.session_ended()
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin()
            return
        self._subscribing.up(session_present)
        if self._stops_at is not None and self._ends_session:
            self._subscribing.end_all()  # the broker may not know, or have been asked by `up` again

    def down(self) -> None:
        """Keep what is not acknowledged: it comes again."""
        self.set("session/state", _SESSION_DOWN)
        self._subscribing.down()
        self._unhandled.down()

    def given_up(self) -> None:
        """End: there is no connection, and none is tried any more."""
        self.has_failed = True
        if self._begin is not None:
            self._finish()
        else:
            self._put(("stop",))

    def message(self, message: paho.MQTTMessage) -> None:
        """Take a PUBLISH."""
        self.add("messages/received", 1)
        if self._early is not None:
            if message.qos or len(self._early) < self._room.most_messages:
                self._early.append(message)
            else:
                self._drop(message.topic)
        else:
            self._route(message)

    def unreadable(self, topic: str, why: str) -> None:
        """Count and say that no consumer gets a message."""
        assert self._loop is not None
        self.add("messages/received", 1)
        times = self._unreadable.times_to_say(1, self._loop.time())
        if times:
            self._log.warning(
                f"{times} messages were passed over that MQTT 5 does not allow (the broker should not have "
                f"taken them from their senders), the last on topic {topic!r:.400}: {why:.400}."
            )

    def _route(self, message: paho.MQTTMessage) -> None:
        if message.qos and self._unhandled.is_known(message):
            return
        recipients = self._subscribing.filters.recipients(message.topic, identifiers(message), message.retain)
        if message.qos:
            kept = [each for each in recipients if each[1] & QOS and not each[0] & GUEST]
            received = ReceivedMessage(message, next(self._numbers), self._room)
            self._unhandled.add(received, {handle for handle, _ in kept})
            self.add("durable/redelivered", received.is_redelivered)
            self._deliver(received, kept)
            if len(kept) == len(recipients):
                return
            recipients = [each for each in recipients if each not in kept]
        # Nobody acknowledges it: the broker does not wait, so it may be dropped.
        if self._is_crowded():
            self._drop(message.topic)
        else:
            self._deliver(ReceivedMessage(message, 0, self._room), recipients)

    def _deliver(self, message: ReceivedMessage, recipients: list[tuple[int, int]]) -> None:
        if message.stored:
            recipients = [each for each in recipients if not self._is_deadly(each[0], message)]
        if recipients:
            self._put([(handle, message, options) for handle, options in recipients])

    def _is_crowded(self) -> bool:
        return self._room.is_over(16 * OVER if self._options["overload"] == "drop_oldest" else 16)

    def _drop(self, topic: str) -> None:
        assert self._loop is not None
        self.add("messages/dropped/queue", 1)
        times = self._complaint.times_to_say(1, self._loop.time())
        if times:
            self._log.warning(
                f"{times} messages at QoS 0 dropped, the newest first, the last on topic {topic!r:.400}: "
                f"consumers are slower than their messages; queue_size ({self._room.most_messages}) and "
                f"queue_bytes ({self._room.most_bytes}) bound what may wait for them."
            )

    # ---- to the runtime ----

    def _put(self, item: Union[list[Delivery], Control]) -> None:
        self._waiting.append(item)
        if not self._has_signalled:
            self._has_signalled = True
            os.write(self._writable, b"\0")

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._readable

    def take(self, limit: int) -> list[Batch]:
        """Return what waits."""
        batches: list[Batch] = []
        deliveries: list[Delivery] = []
        while self._waiting and limit > 0:
            item = self._waiting.popleft()
            limit -= 1
            if isinstance(item, list):
                deliveries += item
            else:
                batches.append((deliveries, item))
                deliveries = []
        batches.append((deliveries, None))
        if not self._waiting and self._has_signalled:
            self._has_signalled = False
            os.read(self._readable, 16)
        return batches

    def is_over(self, sixteenths: int) -> bool:
        """Whether more than so many sixteenths of queue_size or queue_bytes are taken up."""
        return self._room.is_over(sixteenths)

    # ---- publishing ----

    def publish(
        self, consumer: int, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes
    ) -> bool:
        """Send a PUBLISH. False: no room, or no connection for QoS 0; "writable" comes when that is over."""
        if not self._connection.publish(topic, payload, qos, retain, properties):
            self._is_full = True
            return False
        self.add("messages/sent", 1)
        return True

    def room(self) -> None:
        """Tell consumers that there is room, if there was none."""
        if self._is_full:
            self._is_full = False
            self._put(("writable",))

    def refused(self, code: int) -> None:
        """Count and say that the broker has not taken what a consumer has published."""
        self.add("messages/refused", 1)
        self._log.warning(
            f"The broker has refused a message that a consumer has published: {about_code(code)}."
        )

    # ---- subscribing ----

    def subscribe(self, consumer: int, topic_filter: str, options: int, sequence: int) -> None:
        """Send a SUBSCRIBE, when there is a connection."""
        self._subscribing.subscribe(consumer, topic_filter, options, sequence)

    def unsubscribe(self, consumer: int, topic_filter: str, sequence: int) -> None:
        """Send an UNSUBSCRIBE if no other consumer of this process has the filter."""
        self._subscribing.unsubscribe(consumer, topic_filter, sequence)

    def subscribed(self, number: int, codes: list[int]) -> None:
        """Pass on what the broker has answered."""
        self._subscribing.answered(number, codes)

    def _answer(self, sequence: int, code: int) -> None:
        if sequence:
            self._put(("answer", sequence, code))

    # ---- what only a broker can do that consumers are inside of ----

    def watch_clients(self, consumer: int, sequence: int) -> None:
        """Say that nothing will come."""
        if not consumer & GUEST:
            self._log.warning(
                "A consumer wants to be told of clients that connect and disconnect: nothing comes with "
                "--connect. Subscribe to the topics on which the broker itself tells of them, if it does."
            )
        self._answer(sequence, 0)

    def unwatch_clients(self, consumer: int, sequence: int) -> None:
        """Answer: nothing has come."""
        self._answer(sequence, 0)

    def tells_connects(self) -> bool:
        """Return False."""
        return False

    def kick(self, client_id: str, sequence: int) -> None:
        """Answer that it cannot be done."""
        self._answer(sequence, NOT_SUPPORTED)

    # ---- messages that were handled, or not ----

    def consumer(self, handle: int, name: str) -> None:
        """Note a consumer's lasting name."""
        self._letters.begin(handle, name)

    def consumer_gone(self, handle: int, keeps: bool) -> None:
        """Let nothing more come for a consumer. What it has not handled becomes dead letters.

        Not where the process ends: then the broker gives that to another, or to the next.
        """
        if self._has_stopped or self.has_failed:
            return
        if keeps:
            self._subscribing.end_all_of(handle)
        for message in self._unhandled.of(handle):
            if self._letters.release(message):
                self._unhandled.done(handle, message.stored)
            else:
                self._bury(handle, message, FAILED, 0, "")
        self._letters.end(handle)

    def done(self, handled: list[tuple[int, int]]) -> None:
        """Acknowledge messages that have been handled."""
        for handle, number in handled:
            self._unhandled.done(handle, number)
            self._letters.handled(number)

    def failed(self, handle: int, stored: int, tries: int, traceback: str, dead: bool) -> None:
        """Make a message a dead letter that a consumer has failed at for the last time."""
        message = self._unhandled.message(stored)
        if dead and message is not None:
            self._bury(handle, message, FAILED, tries, traceback)

    def _replay(self, handle: int, replay: Replay, number: int) -> None:
        """Deliver a dead letter once more, as the message with a number."""
        message = ReceivedMessage(replayed(replay), number, self._room)
        self._unhandled.add(message, {handle})
        self._deliver(message, [(handle, max(1, replay.qos) | REDELIVERED)])

    def _is_deadly(self, handle: int, message: ReceivedMessage) -> bool:
        """Make a message a dead letter that so many processes have died at as may."""
        times = self.at_work.times(handle, message)
        if times < self._options["durable_tries"]:
            return False
        self._bury(handle, message, ENDED, times, "")
        return True

    def _bury(self, handle: int, message: ReceivedMessage, reason: str, tries: int, traceback: str) -> None:
        kept = partial(self._unhandled.done, handle, message.stored)
        self._letters.add(handle, message, reason, tries, traceback, kept)

    # ---- the runtime's life ----

    def log(self, level: int, line: str) -> bool:
        """Write a line. Any thread."""
        self._log.write(level, line)
        return True

    def log_lines(self, after: int) -> list[tuple[int, float, int, str]]:
        """Return the last lines of the log. Any thread."""
        return self._log.lines(after)

    def last_log_line(self) -> int:
        """Return the number of the last of them. Any thread."""
        return self._log.last

    def started(self) -> None:
        """Note that the application was imported; the broker has let clients in long since."""
        self.has_started = True

    def settled(self, summary: str) -> None:
        """Let come what has come before the consumers had subscribed."""
        self._log.notice(f"Running: {summary}")
        self._is_ready()
        early, self._early = self._early, None
        # What is retained, configuration for example, before what waited while this process was away.
        for message in sorted(early or (), key=lambda message: not message.retain):
            self._route(message)
        assert self._loop is not None
        self._letters.open(self._loop)

    def suspend(self) -> None:
        """End the process, in which nothing runs any more. Another one gets its messages."""
        self.has_failed = True
        self._put(("stop",))

    def values(self) -> dict[str, int]:
        """Return the statistics. Any thread."""
        values = self._statistics.values()
        values["queue/inbound/messages"] = self._room.messages
        values["queue/inbound/bytes"] = self._room.bytes
        values["queue/outbound/messages"] = self._connection.leaving
        return values

    def say_statistics(self) -> None:
        """Write them to the log."""
        self._log.notice("Statistics: " + json.dumps(self.values(), sort_keys=True))

    def beat(self) -> float:
        """Return 0: nobody else watches."""
        return 0.0

    def rest(self) -> None:
        """Do nothing."""

    def options(self) -> Options:
        """Return the administrator's options."""
        options: Options = self._options
        return options
