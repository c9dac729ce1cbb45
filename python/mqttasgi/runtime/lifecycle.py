"""How consumers begin, are started again when they fail, and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Optional

from .._types import Application
from .consumer import HostedConsumer
from .durable import is_stored
from .restarts import Restarts

if TYPE_CHECKING:
    from .run import Run
    from .service import Service


class Lifecycle:
    """Decides what a run's beginning and end mean for its consumer, and for all. Loop thread only."""

    def __init__(self, service: Service, retries: int) -> None:
        """Take how often in a row a consumer that cannot start is started again; 0: for ever."""
        self._service = service
        self._restarts = Restarts(service, retries)

    def add(
        self,
        app_id: Any,
        instance_type: str,
        name: str,
        application: Application,
        parameters: Optional[dict[str, Any]],
    ) -> HostedConsumer:
        """Add a consumer that is about to be started."""
        roster = self._service.roster
        consumer = HostedConsumer(
            self._service, roster.new_handle(), app_id, instance_type, name, application, parameters
        )
        self._service.durable.begin(consumer)
        self._service.beginning.wait_for()
        roster.add(consumer)
        return consumer

    def connected(self, consumer: HostedConsumer) -> None:
        """Go on where a consumer's connect() has returned; told once in each run."""
        service = self._service
        consumer.history.enter("running")
        if consumer.is_master:
            service.beginning.start()
        for topic_filter in consumer.subscriptions.take_stale():
            service.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        if consumer.failures:
            service.log.warning(f"Consumer {consumer} runs again.")
        service.beginning.wait_no_more(consumer)

    def ended(self, run: Run) -> None:
        """Forget the consumer of a run that has returned, or start it again where it has raised."""
        service, consumer = self._service, run.consumer
        comes_again = service.encores.take(consumer)
        run.end()
        consumer.run = None
        consumer.history.handled += run.handled
        error = self._error_of(run)
        if error is not None:
            consumer.history.fail(error)
        service.durable.ended(run, error)
        if comes_again and (error is None or run.task.cancelled()) and self.may_start(consumer):
            self._keep_for_next_run(consumer)
            consumer.start()
            return
        if error is not None:
            if self._is_started_again(run, error):
                return
            if consumer.is_master and service.beginning.has_started and not service.farewell.has_begun:
                # Before its subscriptions end: the broker is to keep messages for them.
                service.bridge.suspend()
        is_given_up = (error is not None or consumer.is_master) and self.may_start(consumer)
        self.forget(consumer, has_failed=error is not None)
        if is_given_up:
            service.roster.give_up(consumer)
            consumer.history.enter("ended" if error is None else "failed")
        if not service.beginning.has_started:
            self._ended_before_start(consumer, error)
        service.farewell.ended(consumer)

    def _error_of(self, run: Run) -> Optional[BaseException]:
        """Return what has ended a run, and log it if that has not been done."""
        error: Optional[BaseException]
        if run.task.cancelled():
            # By the application: what is cancelled from here ends with the loop.
            if self._service.farewell.has_begun or self._service.stopped:
                return None
            error = asyncio.CancelledError("its task was cancelled")
        else:
            error = run.task.exception()  # what the run's own task had to let pass
            if error is None:
                return run.task.result()
        self._service.log.failure(run.consumer.source, run.topic, error)
        return error

    def _ended_before_start(self, consumer: HostedConsumer, error: Optional[BaseException]) -> None:
        service = self._service
        if isinstance(error, ConnectionRefusedError):
            service.log.error(
                "The broker lets nobody in before the master consumer's connect() has returned. "
                "A client of this broker that connect() starts has to connect later, in a task of its own."
            )
        if consumer.is_master and not service.stopped:
            if error is None:
                service.log.error(f"Consumer {consumer} returned before its connect() had been handled.")
            service.finish()

    def _is_started_again(self, run: Run, error: BaseException) -> bool:
        consumer = run.consumer
        if not self._restarts.allow(run, error):
            return False
        self._keep_for_next_run(consumer)
        self._restarts.plan(consumer)
        return True

    def _keep_for_next_run(self, consumer: HostedConsumer) -> None:
        # One that watches anew is told of all who are there.
        self._watch_no_more(consumer)
        consumer.subscriptions.doubt()
        self._service.beginning.wait_no_more(consumer)

    def may_start(self, consumer: HostedConsumer) -> bool:
        """Whether one that is there may have another run: it was not killed, and the broker does not stop."""
        service = self._service
        if service.farewell.has_begun or service.stopped or not service.roster.has_app_id(consumer):
            return False
        # The broker does not start without it.
        return not consumer.is_master or service.beginning.has_started or service.master_may_fail

    def revive(self, consumer: HostedConsumer) -> None:
        """Start one that was given up, as another consumer in its place."""
        other = self.add(
            consumer.app_id, consumer.instance_type, consumer.name, consumer.application, consumer.parameters
        )
        # So its workers are still the master's, and nobody's else.
        other.parent, other.runs, other.history = consumer.parent, consumer.runs, consumer.history
        other.start()

    def _watch_no_more(self, consumer: HostedConsumer) -> None:
        if consumer.watches:
            consumer.watches = False
            self._service.bridge.unwatch_clients(consumer.handle, 0)

    def end_subscriptions(self, consumer: HostedConsumer) -> None:
        """Let nothing new come for a consumer."""
        for topic_filter in consumer.subscriptions.clear():
            self._service.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        self._watch_no_more(consumer)

    def keeps_subscriptions(self, consumer: HostedConsumer, has_failed: bool = False) -> bool:
        """Whether a consumer that ends now leaves them to its next run, or to who has its name then."""
        service = self._service
        if service.encores.is_asked(consumer):
            return True
        if not service.durable.is_on or not service.roster.has_app_id(consumer):
            return False
        return has_failed or service.farewell.has_begun or service.stopped

    def forget(self, consumer: HostedConsumer, has_failed: bool = False) -> None:
        """End everything that is kept here for a consumer which does not run and, `has_failed`, will not."""
        service = self._service
        keeps = self.keeps_subscriptions(consumer, has_failed)
        if keeps:
            self._watch_no_more(consumer)
        else:
            self.end_subscriptions(consumer)
        service.roster.remove(consumer)
        service.inside.changed("consumers")
        service.durable.end(consumer, keeps)
        dropped = consumer.inbox.empty()
        dropped += sum(not is_stored(delivery) for delivery in service.take_held(consumer.handle))
        service.bridge.add("messages/dropped/consumer_ended", dropped)
        if not service.stopped:
            service.beginning.wait_no_more(consumer)
