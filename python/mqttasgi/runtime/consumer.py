"""A consumer as the plugin knows it: what stays of it while its application fails and is started again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Optional

from .._types import SCOPE, Application, Event
from .history import History
from .inbox import Inbox
from .lines import Source
from .run import Run
from .subscriptions import Subscriptions

if TYPE_CHECKING:
    from .service import Service

CONNECT: Event = {"type": "mqtt.connect", "mqtt": {}}
DISCONNECT: Event = {"type": "mqtt.disconnect", "mqtt": {}}


class HostedConsumer:
    """The master or a worker, from when it is added until it has ended for good. Loop thread only.

    What one run of its application is, `Run` knows. In between, while it waits to be started again, the
    plugin notices nothing: deliveries go on into its inbox.
    """

    __slots__ = (
        "_service",
        "app_id",
        "application",
        "counted",
        "failed_starts",
        "failures",
        "handle",
        "history",
        "inbox",
        "instance_type",
        "name",
        "parameters",
        "parent",
        "restart",
        "run",
        "runs",
        "source",
        "subscriptions",
        "watches",
    )

    def __init__(
        self,
        service: Service,
        handle: int,
        app_id: Any,
        instance_type: str,
        name: str,
        application: Application,
        parameters: Optional[dict[str, Any]],
    ) -> None:
        self._service = service
        #: What the plugin knows it by.
        self.handle = handle
        self.app_id = app_id
        self.instance_type = instance_type
        self.name = name
        self.application = application
        self.parameters = parameters
        #: The number of the master's run that has spawned this worker; 0: it is the master.
        self.parent = 0
        #: What the log knows it by.
        self.source = Source(name, app_id, instance_type)
        self.inbox = Inbox(service, self.source)
        #: What a page shows of it.
        self.history = History(service.inside.changed)
        self.subscriptions = Subscriptions()
        #: Its run has asked to be told of clients.
        self.watches = False
        #: Its first connect() is not waited for any more.
        self.counted = False
        #: How often it has failed in a row, without an event handled in between.
        self.failures = 0
        #: How often it has failed in a row before it got an event.
        self.failed_starts = 0
        #: What starts it again later; None: nothing has to.
        self.restart: Optional[asyncio.TimerHandle] = None
        #: How often it has been started.
        self.runs = 0
        #: None: it is not running.
        self.run: Optional[Run] = None

    def __str__(self) -> str:
        return str(self.source)

    @property
    def is_master(self) -> bool:
        """Whether it is the consumer that the option `application` names."""
        return self.instance_type == "master"

    def start(self) -> None:
        """Run the application, beginning with `mqtt.connect`."""
        if self.restart is not None:
            self.restart = None
            self._service.roster.restarted()
        self.runs += 1
        self.inbox.queue.appendleft(dict(CONNECT))
        run = Run(self._service, self)
        run.start(
            {
                **self._service.scope,
                **(self.parameters or {}),
                **SCOPE,
                "asgi": {"version": "3.0", "spec_version": "2.0"},
                "app_id": self.app_id,
                "instance_type": self.instance_type,
            }
        )
        self.run = run
        self.history.enter("starting")

    def disconnect(self, before_what_waits: bool = False) -> None:
        """Tell its run to end, after what waits, or after what it is handling."""
        if before_what_waits:
            self.inbox.feed_first(dict(DISCONNECT))
        else:
            self.inbox.feed(dict(DISCONNECT))
