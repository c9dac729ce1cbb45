"""What applications send beside messages: subscriptions, workers, the wish to be told of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._types import Event

if TYPE_CHECKING:
    from .run import Run
    from .service import Service


async def carry_out(service: Service, run: Run, event: Event) -> None:
    """Do what a run asks for by an event that `check_event` has let pass. Return when it is in force."""
    kind = event["type"]
    if kind == "mqtt.sub":
        await _subscribe(service, run, event["mqtt"])
    elif kind == "mqtt.usub":
        await _unsubscribe(service, run, event["mqtt"]["topic"])
    elif kind == "mqtt.client.watch":
        await _watch_clients(service, run)
    elif kind == "mqttasgi.worker.spawn":
        service.workers.spawn(run, **event["command"])
    else:
        service.workers.kill(run, **event["command"])


def check_can_share(service: Service, topic_filter: str) -> None:
    """Refuse a shared subscription where nothing could bring its messages."""
    if not service.has_session and topic_filter.startswith("$share/"):
        raise ValueError(
            f"filter {topic_filter!r}: shared subscriptions need the session, which is turned off; "
            "set plugin_opt_session full"
        )


async def _subscribe(service: Service, run: Run, mqtt: dict[str, Any]) -> None:
    consumer = run.consumer
    topic_filter = mqtt["topic"]
    if run.ended:
        raise RuntimeError(f"{consumer} has ended and cannot subscribe to {topic_filter!r}")
    check_can_share(service, topic_filter)
    options = consumer.subscriptions.add(mqtt)
    if "$SYS/" in topic_filter:
        consumer.source.reads_log = True
    await service.requests.subscribe(consumer.handle, topic_filter, options)


async def _unsubscribe(service: Service, run: Run, topic_filter: str) -> None:
    if run.is_leaving and service.lifecycle.keeps_subscriptions(run.consumer):
        return  # what clients publish until the broker has stopped, or its next run subscribes, is kept
    # The filters of a run that has ended are the next one's.
    if not run.ended and run.consumer.subscriptions.remove(topic_filter):
        await service.requests.unsubscribe(run.consumer.handle, topic_filter)


async def _watch_clients(service: Service, run: Run) -> None:
    consumer = run.consumer
    if run.ended:
        raise RuntimeError(f"{consumer} has ended and cannot watch clients")
    consumer.watches = True
    await service.requests.watch_clients(consumer.handle, consumer)
