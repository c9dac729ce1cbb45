"""What the plugin's built-in module `_mqttasgi` offers, so that the runtime can be tested without a broker.

Every function returns at once and must be called with the GIL, as all Python is. The C side is
plugin/python/pymodule.c.
"""

from __future__ import annotations

from typing import Literal, Optional, Protocol, TypedDict, Union

from .._types import Event

#: In the handle of a guest (MESSAGE_GUEST in plugin/shared/message.h).
GUEST = 1 << 63
#: In the options of a subscription, in one of the two bits that MQTT reserves: not shared, where filters are.
NOT_SHARED = 0x40


class Options(TypedDict):
    """The options that concern Python: those that plugin/options/table.h describes and says FOR_PYTHON of."""

    application: str
    #: Folders, `:` between them; empty where none was given.
    python_path: str
    loop: str
    verbosity: int
    #: `full` or `off`.
    session: str
    #: False: the session outlives the broker's process, and an application that has failed.
    cleansession: bool
    #: How often in a row a consumer that fails is started again; 0: for ever.
    retries: int
    #: Seconds that consumers have for their disconnect() when the broker stops.
    shutdown_timeout: float
    #: Seconds for which the event loop may be blocked before the log says so; 0: any time.
    watchdog: float
    #: What may wait for one consumer, in messages and in bytes; 0: no bound of its own.
    consumer_queue_size: int
    consumer_queue_bytes: int
    #: Which messages make room: `drop_newest` or `drop_oldest`.
    overload: str
    #: Lines a second that one consumer may write to the broker's log; 0: any number.
    log_lines: int
    #: The file in which the broker keeps messages until they have been handled; empty: it keeps none.
    durable: str
    #: How often a message that is kept is tried before it becomes a dead letter.
    durable_tries: int
    #: Where HTTP is served; empty: nowhere.
    http: str
    #: Files; empty: no TLS.
    http_cert: str
    http_key: str
    #: Whose X-Forwarded- headers are believed, `,` between them.
    http_proxies: str
    #: Connections that may be open, and bytes of a request's body.
    http_connections: int
    http_body: int
    #: Whether to import the application and end.
    check: bool
    #: The variables of the `.env` file.
    variables: list[tuple[str, str]]


class Message(Protocol):
    """A message of the inbound queue; it counts towards the queue's bound as long as it lives.

    It is an event for consumers: a PUBLISH, or about a client.
    """

    @property
    def topic(self) -> str:
        """Empty where it is about a client."""
        ...

    @property
    def payload(self) -> bytes: ...

    @property
    def qos(self) -> int:
        """The QoS it came with; a consumer gets the lower of this and its own."""
        ...

    @property
    def retain(self) -> bool:
        """Whether the broker had kept it from before the subscription."""
        ...

    @property
    def session(self) -> bool:
        """Whether it came through the session, not the direct lane."""
        ...

    @property
    def is_droppable(self) -> bool:
        """Whether it may be lost where there is no room."""
        ...

    @property
    def stored(self) -> int:
        """What the broker's file knows it by; 0: it is not there.

        It is not kept for consumers that get it at QoS 0.
        """
        ...

    @property
    def tries(self) -> int:
        """How often its consumer has failed at it before it was read from that file."""
        ...

    @property
    def size(self) -> int:
        """The bytes that count towards a queue's bound."""
        ...

    def event(self, options: int) -> Event:
        """Return a new event for a consumer, with the options of its delivery.

        One about a client still lacks what `complete_client_event` adds.
        """
        ...


#: (consumer's handle, message, options of the subscriptions that match: QoS in bits 0 and 1,
#: retain_as_published in bit 3; bit 4 where the consumer may have had it before, which is its `redelivered`;
#: for a retained message from bit 8 on the identifier of its subscription)
Delivery = tuple[int, Message, int]

Control = Union[
    #: The sequence of a question, and 0, what the broker could not do (MOSQ_ERR_*), or the reason code that
    #: it has refused a subscription with (MQTT 5, 3.9.3).
    tuple[Literal["answer"], int, int],
    #: The outbound queue was full and has room again.
    tuple[Literal["writable"]],
    #: All consumers keep back what comes the direct lane; the number of the hold, which rises.
    tuple[Literal["hold"], int],
    #: They go on with what came until that hold, earlier ones included.
    tuple[Literal["release"], int],
    #: The consumer with this handle keeps back what is not retained; True: it has subscribed again.
    tuple[Literal["hold_consumer"], int, bool],
    #: It goes on, unless there are other such holds of it.
    tuple[Literal["release_consumer"], int],
    #: What the options `verbosity` and `log_lines` say now.
    tuple[Literal["options"], int, int],
    #: Every consumer is to end, then the loop.
    tuple[Literal["stop"]],
]

#: Deliveries, and the control that came behind them; None: there was none, and these are the last.
Batch = tuple[list[Delivery], Optional[Control]]


class Bridge(Protocol):
    """The module `_mqttasgi`."""

    LOG_ERR: int
    LOG_WARNING: int
    LOG_NOTICE: int
    LOG_INFO: int
    LOG_DEBUG: int
    #: The plugin's.
    VERSION: str

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when take() has something new."""
        ...

    def take(self, limit: int) -> list[Batch]:
        """Return what waits in the inbound queue, in its order.

        That are at most `limit` messages and controls, each message with all its deliveries.
        """
        ...

    def is_over(self, sixteenths: int) -> bool:
        """Whether more than so many sixteenths of queue_size or queue_bytes are taken up.

        Messages that take() has returned and that still live count, too.
        """
        ...

    def publish(
        self, consumer: int, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes
    ) -> bool:
        """Queue a PUBLISH. False: the queue is full; "writable" will come when it has room.

        `consumer` is the handle of who publishes, for no_local; 0: nobody. `properties` are as on the wire
        (MQTT 5, 2.2.2.2), without their length in front.
        """
        ...

    def subscribe(self, consumer: int, topic_filter: str, options: int, sequence: int) -> None:
        """Queue a subscription. An "answer" with the sequence comes when it is in force; none for 0.

        `options` is the byte of MQTT 5, 3.8.3.1: QoS in bits 0 and 1, no_local in bit 2, retain_as_published
        in bit 3, retain_handling in bits 4 and 5; NOT_SHARED; from bit 8 on the identifier, 0 for none.
        """
        ...

    def unsubscribe(self, consumer: int, topic_filter: str, sequence: int) -> None:
        """Queue the end of a subscription, answered like subscribe()."""
        ...

    def watch_clients(self, consumer: int, sequence: int) -> None:
        """Queue a consumer's wish to be told of clients that come and go, answered like subscribe()."""
        ...

    def unwatch_clients(self, consumer: int, sequence: int) -> None:
        """Queue the end of that, also for one that does not watch, answered like subscribe()."""
        ...

    def tells_connects(self) -> bool:
        """Whether those who watch clients hear of those that connect, not only of those that go."""
        ...

    def kick(self, client_id: str, sequence: int) -> None:
        """Queue that a client is to be disconnected, answered like subscribe().

        The answer is not 0 where there is none with this id, or it is the session. `ValueError` for an id
        with a NUL or a lone surrogate.
        """
        ...

    def log(self, level: int, line: str) -> bool:
        """Queue a line for the broker's log. False: the queue is full and the line lost."""
        ...

    def log_lines(self, after: int) -> list[tuple[int, float, int, str]]:
        """Return the last lines of the broker's log that are the plugin's or the application's.

        Those behind the line with this number, as far as they are still kept: (number, which rises by one;
        time.time(); one of Mosquitto's levels; text). Any thread.
        """
        ...

    def last_log_line(self) -> int:
        """Return the number of the last of them; 0: there is none. Any thread."""
        ...

    def started(self) -> None:
        """Let the broker accept clients."""
        ...

    def settled(self, summary: str) -> None:
        """Let the session fetch what the broker kept: the consumers of the start have subscribed.

        The summary is for the log, once it is known whether there is a session.
        """
        ...

    def suspend(self) -> None:
        """End the session, so that the broker keeps what it can for the application, which has failed."""
        ...

    def add(self, name: str, by: int) -> None:
        """Add to a statistic; plugin/shared/statistics.c has the names. `ValueError` where there is none."""
        ...

    def set(self, name: str, value: int) -> None:
        """Set a statistic."""
        ...

    def raise_to(self, name: str, value: int) -> None:
        """Set a statistic, unless it is more already."""
        ...

    def values(self) -> dict[str, int]:
        """Return the statistics by their names, as they are now. Any thread.

        Some, of which only the broker thread knows more, are as of `time`: those that are neither counted
        nor about a queue. The session's state is a number of `enum statistics_session`.
        """
        ...

    def beat(self) -> float:
        """Say that Python runs, and will say so again.

        Returns:
            For how many seconds the broker, while it ran itself, had not heard so.
        """
        ...

    def rest(self) -> None:
        """Say that no more beats will come."""
        ...

    def handled(self, since: int) -> int:
        """Count that a message was handled from `since` until now, unless that is 0.

        Returns:
            What to say for `since` the next time: the time now, in nanoseconds.
        """
        ...

    # ---- only where messages are kept in a file ----

    def consumer(self, handle: int, name: str) -> None:
        """Let what is kept for a name come, to the consumer with this handle, which has it from now on.

        Another one may still have it, which was killed and handles what it already got.
        """
        ...

    def consumer_gone(self, handle: int, keeps: bool) -> None:
        """Let nothing more come for a consumer.

        Where it `keeps` its subscriptions, they stay in force, and what comes is for whoever has its name
        next. Otherwise unsubscribe() was called for them. What it was given and has not handled stays kept.
        """
        ...

    def done(self, handled: list[tuple[int, int]]) -> None:
        """Forget messages for consumers that have handled them: (consumer's handle, `Message.stored`)."""
        ...

    def failed(self, handle: int, stored: int, tries: int, traceback: str, dead: bool) -> None:
        """Note that a consumer has failed at a message, so many times by now.

        Where it is `dead` by that, it is the broker's; otherwise the consumer's next run gets it again.
        """
        ...

    # ---- what was set ----

    def options(self) -> Options:
        """Return the administrator's options."""
        ...
