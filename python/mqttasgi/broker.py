"""The broker that this process is, for code that is no consumer: views, tasks, signals, WebSocket consumers.

`publish` and `subscribe` are to MQTT what a consumer's methods of these names are. docs/anywhere.md has
examples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Optional, Union

from . import _host
from ._events import subscription_options
from ._host import OutsideBroker as OutsideBroker
from ._mailbox import Mailbox
from ._mqtt import Payload, check_int
from ._properties import Properties
from ._types import MqttMessage

#: What may wait for a reader that is slower than its messages, if it does not say otherwise.
QUEUE_SIZE, QUEUE_BYTES = 1000, 16_777_216

#: The bounds of a queue can be no larger.
_MOST = 2**63 - 1


async def publish(
    topic: str,
    payload: Payload,
    qos: int = 1,
    retain: bool = False,
    properties: Optional[Properties] = None,
) -> None:
    """Publish a message to clients and consumers, with properties for those that speak MQTT 5 (3.3.2.3).

    Returns once the message is on its way to the broker, and waits for room where too many are. Sync code
    calls it by `async_to_sync`; it may come from any thread. Raises `ValueError` or `TypeError` for a topic,
    QoS, payload or property that MQTT does not allow, `OutsideBroker` where there is no broker.
    """
    await _host.find("broker.publish()").publish(topic, payload, qos, retain, properties)


def subscribe(
    topic: Union[str, Iterable[str]],
    qos: int = 1,
    *,
    retain_as_published: bool = False,
    retain_handling: int = 0,
    queue_size: int = QUEUE_SIZE,
    queue_bytes: int = QUEUE_BYTES,
) -> Messages:
    """Return the messages of a topic filter, or of several, for `async with` and `async for`.

    They come while the block runs, each once, retained ones first; nothing is kept from before or for after.
    At most `queue_size` messages of together `queue_bytes` wait: those that find no room push out the oldest,
    and `Messages.lost` counts that. The options are those of `MqttConsumer.subscribe`. Raises `ValueError`
    or `TypeError` for what MQTT does not allow.
    """
    several = isinstance(topic, Iterable) and not isinstance(topic, (str, bytes))
    filters: tuple[Any, ...] = tuple(dict.fromkeys(topic)) if several else (topic,)
    if not filters:
        raise ValueError("broker.subscribe() needs a topic filter, or several")
    asked = {"qos": qos, "retain_as_published": retain_as_published, "retain_handling": retain_handling}
    options = [subscription_options({"topic": topic_filter, **asked}) for topic_filter in filters]
    check_int("queue_size", queue_size, 1, _MOST)
    check_int("queue_bytes", queue_bytes, 1, _MOST)
    return Messages(Mailbox(filters, options[0], queue_size, queue_bytes))


class Messages:
    """What `subscribe` returns: subscribed from the beginning of its `async with` block to the end of that.

    Iterating ends when the broker stops, after the messages that were waiting. On the event loop of the
    consumers only.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        #: Where it is subscribed; None: it has not been yet.
        self._host: Optional[_host.Host] = None
        self._reads_log = any("$SYS/" in topic_filter for topic_filter in mailbox.filters)

    @property
    def lost(self) -> int:
        """How many messages were dropped because too many were waiting."""
        return self._mailbox.lost

    async def __aenter__(self) -> Messages:
        """Subscribe; what is published from then on is received."""
        if self._host is not None:
            raise RuntimeError(
                f"{self._mailbox} has had its block; each `async with` needs a call of its own"
            )
        host = _host.find(str(self._mailbox))
        self._host = host
        await host.subscribe(self._mailbox)
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """End the subscription, and drop what waits."""
        assert self._host is not None
        if self._reads_log:
            self._host.note(None)
        ended = self._host.unsubscribe(self._mailbox)
        if kind is not GeneratorExit:  # then nothing can be waited for
            await asyncio.shield(ended)

    def __aiter__(self) -> Messages:
        """Return itself: who begins anew goes on with the next message."""
        if self._host is None:
            raise RuntimeError(
                f"{self._mailbox} brings messages inside of a block: "
                "async with broker.subscribe(...) as messages: async for message in messages: ..."
            )
        return self

    async def __anext__(self) -> MqttMessage:
        """Return the next message."""
        if self._reads_log and self._host is not None:
            self._host.note(None)
        message = await self._mailbox.get()
        if message is None:
            raise StopAsyncIteration
        if self._reads_log and self._host is not None:
            self._host.note(message["topic"])
        return message
