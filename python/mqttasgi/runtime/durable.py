"""What the broker is told of the messages that it keeps in a file until their consumers have handled them.

With the option `durable`, a message of QoS 1 or 2 is in that file before it is acknowledged, and leaves it
when it has been handled here. One that a consumer fails at is tried again by its next runs, before anything
newer, until it becomes a dead letter.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Optional, Protocol

from . import logs
from .away import is_away
from .bridge import Delivery, Message

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .run import Run
    from .service import Service

#: In the options of a delivery: the consumer may have had it before.
REDELIVERED = 0x10
#: The broker is told of handled messages when there are so many, or so many seconds after the first. Those of
#: which it does not know yet come again after a crash.
HANDLED_MAX, HANDLED_AFTER = 256, 0.02
#: Bytes of a traceback that a dead letter keeps.
TRACEBACK_MAX = 65_536


def is_stored(delivery: Delivery) -> bool:
    """Whether the broker has it in its file for this consumer, whose own QoS may be 0."""
    return bool(delivery[2] & 3 and delivery[1].stored)


class Witness(Protocol):
    """Notes which stored messages are being handled, for when the process dies of it. Loop thread only."""

    def begins(self, handle: int, message: Message) -> None:
        """Note what a consumer is about to get."""

    def ends(self, handle: int) -> None:
        """Note that it handles nothing any more."""

    def over(self, handle: int, message: Message) -> None:
        """Note that it has handled a message."""


class Durable:
    """Tells the broker what was handled, what failed and who is there. Loop thread only.

    What it keeps itself is bounded: which messages were handled in the last moment, and for each consumer how
    often it has failed at its oldest one.
    """

    def __init__(self, service: Service, tries: int) -> None:
        """Take how often a message is tried; 0: the broker keeps none."""
        self._service = service
        self._tries_max = tries
        self.is_on = tries > 0
        #: None: nobody wants to know.
        self.witness: Optional[Witness] = None
        self._handled: list[tuple[int, int]] = []
        #: Flushes them.
        self._timer: Optional[asyncio.TimerHandle] = None
        #: Handle of a consumer -> (the message that it failed at last, how often).
        self._tries: dict[int, tuple[int, int]] = {}

    # ---- who is there ----

    def begin(self, consumer: HostedConsumer) -> None:
        """Let what is kept for a consumer come, which has not run yet.

        Raises what the repr() of its app_id does.
        """
        if self.is_on:
            self._service.bridge.consumer(consumer.handle, _lasting_name(consumer))

    def end(self, consumer: HostedConsumer, keeps: bool) -> None:
        """Let nothing more come for a consumer that has ended, and be kept what does if it `keeps` that."""
        if self.is_on:
            self.flush()
            self._tries.pop(consumer.handle, None)
            self._service.bridge.consumer_gone(consumer.handle, keeps)

    # ---- what was handled ----

    def done(self, delivery: Delivery) -> None:
        """Say, within a moment, that a stored message has been handled."""
        handled = self._handled
        handled.append((delivery[0], delivery[1].stored))
        if len(handled) == 1:
            self._timer = self._service.loop.call_later(HANDLED_AFTER, self.flush)
        elif len(handled) >= HANDLED_MAX:
            self.flush()

    def flush(self) -> None:
        """Say it now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._handled:
            handled, self._handled = self._handled, []
            self._service.bridge.done(handled)

    # ---- what was not ----

    def ended(self, run: Run, error: Optional[BaseException]) -> None:
        """Decide about the message that a run was handling when it ended, perhaps with an error."""
        handling = run.handling
        delivery = handling.take() if handling is not None else None
        if handling is None or delivery is None:
            return
        if self._service.stopped or (error is None and run.task.cancelled()):
            return  # cancelled as the broker stops: it comes again after the next start
        if handling.was_interrupted:
            run.consumer.inbox.give_back(_again(delivery))
        elif error is None:
            self.done(delivery)
        else:
            self._failed(run.consumer, delivery, error)

    def _failed(self, consumer: HostedConsumer, delivery: Delivery, error: BaseException) -> None:
        if is_away(error):
            # However long that lasts, the message is not to blame.
            consumer.inbox.give_back(_again(delivery))
            return
        handle, message, _ = delivery
        stored, tries = self._tries.pop(handle, (0, 0))
        tries = (tries if stored == message.stored else message.tries) + 1
        is_dead = tries >= self._tries_max
        self._service.bridge.failed(handle, message.stored, tries, traceback_of(error), is_dead)
        if not is_dead:
            self._tries[handle] = message.stored, tries
            consumer.inbox.give_back(_again(delivery))
            return
        self._service.log.error(
            f"Consumer {consumer} has failed {tries} time{'' if tries == 1 else 's'} at the message on topic "
            f"{message.topic!r:.400}: it is a dead letter now, and the consumer goes on with the next. "
            "`mqttasgi dead list` shows what is in the file named by durable; durable_tries says how often a "
            "message is tried."
        )


class Handling:
    """Which stored message a run is handling. Loop thread only."""

    __slots__ = ("_delivery", "_durable", "was_interrupted")

    def __init__(self, durable: Durable) -> None:
        self._durable = durable
        self._delivery: Optional[Delivery] = None
        #: Something else has ended the run meanwhile.
        self.was_interrupted = False

    def begin(self, delivery: Delivery) -> None:
        """Note what the application is about to get."""
        if is_stored(delivery):
            self._delivery = delivery
            if self._durable.witness is not None:
                self._durable.witness.begins(delivery[0], delivery[1])

    def end(self) -> None:
        """Note that the application has handled what it got: it asks for the next."""
        delivery = self.take()
        if delivery is not None:
            if self._durable.witness is not None:
                self._durable.witness.over(delivery[0], delivery[1])
            self._durable.done(delivery)

    def take(self) -> Optional[Delivery]:
        """Return the message that is being handled, and know nothing of it any more."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None and self._durable.witness is not None:
            self._durable.witness.ends(delivery[0])
        return delivery


def _again(delivery: Delivery) -> Delivery:
    handle, message, options = delivery
    return handle, message, options | REDELIVERED


def _lasting_name(consumer: HostedConsumer) -> str:
    """Return what the broker knows a consumer by over its restarts."""
    if consumer.is_master:
        return "master"
    # A path may have what is no UTF-8.
    return f"worker {consumer.app_id!r} {consumer.name}".encode("utf-8", "backslashreplace").decode()


def traceback_of(error: BaseException) -> str:
    """Return a traceback with its beginning and its end, if it is too long for the whole.

    It has no NUL, at which a database's shell would end it.
    """
    text = "\n".join(logs.error_lines(error)).replace("\0", "\\0").encode("utf-8", "backslashreplace")
    if len(text) > TRACEBACK_MAX:
        half = TRACEBACK_MAX // 2 - 10
        text = text[:half] + b"\n[...]\n" + text[-half:]
    return text.decode("utf-8", "ignore")  # which may have been cut within a character
