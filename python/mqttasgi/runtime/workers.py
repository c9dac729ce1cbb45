"""What the master may do with workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from .application import load_application

if TYPE_CHECKING:
    from .consumer import HostedConsumer
    from .run import Run
    from .service import Service


class Workers:
    """Starts and ends workers for the master's runs. Loop thread only."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def spawn(
        self,
        parent: Run,
        app_id: Any,
        consumer_path: str,
        consumer_params: Optional[dict[str, Any]] = None,
    ) -> None:
        """Start a worker."""
        _check_is_master(parent, "spawn", app_id)
        other = self._service.roster.by_app_id.get(app_id)
        if other is not None:
            # A master that was restarted finds its last run's workers, and may say anew what they are.
            if other.parent in (0, parent.number):
                raise ValueError(f"app_id {app_id!r} is taken by {other}; a worker needs one of its own")
            if (other.name, other.parameters or {}) == (consumer_path, consumer_params or {}):
                other.parent = parent.number
                return
        application = self._service.context.run(load_application, consumer_path)
        if other is not None:
            self._end(other)
        worker = self._service.lifecycle.add(app_id, "worker", consumer_path, application, consumer_params)
        worker.parent = parent.number
        worker.start()

    def kill(self, parent: Run, app_id: Any) -> None:
        """Tell a worker to disconnect, after the messages it already has."""
        _check_is_master(parent, "kill", app_id)
        worker = self._service.roster.by_app_id.get(app_id)
        if worker is None or worker.is_master:
            raise ValueError(f"there is no worker with app_id {app_id!r} to kill")
        self._end(worker)

    def _end(self, worker: HostedConsumer) -> None:
        if worker.restart is not None:
            self._service.lifecycle.forget(worker)
            return
        self._service.encores.take(worker)
        self._service.roster.free_app_id(worker)
        self._service.lifecycle.end_subscriptions(worker)
        for delivery in self._service.take_held(worker.handle):
            worker.inbox.go_on(delivery)
        worker.history.enter("ended")
        worker.disconnect()


def _check_is_master(parent: Run, verb: str, app_id: Any) -> None:
    if not parent.consumer.is_master:
        raise PermissionError(
            f"{parent.consumer} may not {verb} worker {app_id!r}: only the master (app_id 0) may"
        )
