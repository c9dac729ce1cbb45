"""Tells the broker's log what an application receives and sends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable

logger = logging.getLogger(__name__)

Event = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]


def witness(application: Application) -> Application:
    """Return the same application, watched.

    A line is `<master or worker> <app_id> <verb> <event> <topic> <qos>`. The verbs: `received`; `handled`, when the
    application asks for the next event; `sent`, when the server has taken the event; `ended`, without an error.
    """

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        who = f"{scope['instance_type']} {scope['app_id']}"
        in_hand = ""

        async def watched_receive() -> Event:
            nonlocal in_hand
            if in_hand:
                logger.info("%s handled %s", who, in_hand)
                in_hand = ""
            event: Event = await receive()
            in_hand = _summary(event)
            logger.info("%s received %s", who, in_hand)
            return event

        async def watched_send(event: Event) -> None:
            await send(event)
            logger.info("%s sent %s", who, _summary(event))

        await application(scope, watched_receive, watched_send)
        logger.info("%s ended", who)

    return watched


def _summary(event: Event) -> str:
    mqtt = event.get("mqtt", {})
    return " ".join(map(str, [event["type"], *(mqtt[key] for key in ("topic", "qos") if key in mqtt)]))
