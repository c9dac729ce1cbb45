"""Which consumers that have failed are started again, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._backoff import pause
from .away import is_away

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .run import Run
    from .service import Service

#: Seconds before a consumer that failed is restarted: at first, and at most after doubling with each failure.
RESTART_DELAY, RESTART_DELAY_MAX = 1.0, 30.0
#: Seconds without a failure after which earlier ones do not count any more; nor do they after an event
#: that was handled.
HEALTHY_AFTER = 60.0


def restart_delay(failures: int) -> float:
    """Return the seconds before a consumer that has failed so often in a row is started again."""
    return pause(failures, RESTART_DELAY, RESTART_DELAY_MAX)


class Restarts:
    """Starts consumers that fail again, so many times in a row. Loop thread only."""

    def __init__(self, service: Service, retries: int) -> None:
        self._service = service
        self._retries = retries

    def allow(self, run: Run, error: BaseException) -> bool:
        """Count a failure. Return False where the consumer is not to be started again."""
        service, consumer = self._service, run.consumer
        if not service.lifecycle.may_start(consumer):
            return False
        if run.connected_at is not None and service.loop.time() - run.connected_at >= HEALTHY_AFTER:
            consumer.failures = consumer.failed_starts = 0
        consumer.failures += 1
        if run.has_received:
            # A message costs itself, not the consumer.
            consumer.failed_starts = 0
            return True
        if is_away(error):
            return True  # it can start when its server is back
        consumer.failed_starts += 1
        if not self._retries or consumer.failed_starts <= self._retries:
            return True
        service.log.error(
            f"Consumer {consumer} has failed {consumer.failed_starts} times in a row before it got a message "
            "and is given up; start all again when it is mended. The option retries says how often it is "
            "tried, 0 for ever."
        )
        service.bridge.add("consumers/failed", 1)
        return False

    def plan(self, consumer: HostedConsumer) -> None:
        """Start it again later."""
        delay = restart_delay(consumer.failures)
        self._service.log.error(f"Consumer {consumer} is restarted in {delay:g} s.")
        consumer.restart = self._service.loop.call_later(delay, consumer.start)
        self._service.roster.failed()
        consumer.history.enter("restarting")
