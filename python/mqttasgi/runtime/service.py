"""Runs consumers on the loop thread, between the inbound and the outbound queue.

One direction each way: the plugin's messages come through `Runtime._take` and are fed to the consumers they
are for; what consumers send goes through `Consumer.send` to the plugin.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import sys
from typing import Any, Optional

from .. import _versions
from .._types import Application
from . import advice, interpreter, logs, processes, summary
from .application import ApplicationError, load_application
from .bridge import Bridge, Control, Delivery, Options
from .consumer import DISCONNECT, Consumer, run_application
from .holds import GeneralHold
from .lines import Lines
from .loop import close, keep_open, new_event_loop, run_for_ever
from .overload import Overload
from .threads import LoopExecutor
from .watchdog import Watchdog

#: Messages taken from the inbound queue before the consumers run again.
TAKE_MAX = 256
#: Seconds before a consumer that failed is restarted: at first, and at most after doubling with each failure.
RESTART_DELAY, RESTART_DELAY_MAX = 1.0, 30.0
#: Seconds without a failure after which earlier ones do not count any more; nor do they after an event
#: that was handled.
HEALTHY_AFTER = 60.0


def restart_delay(failures: int) -> float:
    """Seconds before a consumer that has failed so often in a row is started again."""
    return min(RESTART_DELAY_MAX, RESTART_DELAY * float(2 ** min(failures - 1, 30)))


class Runtime:
    """All consumers of this process. Loop thread only."""

    def __init__(
        self,
        bridge: Bridge,
        loop: asyncio.AbstractEventLoop,
        has_session: bool = True,
        retries: int = 3,
        shutdown_timeout: float = 5.0,
        overload: Optional[Overload] = None,
        lines: Optional[Lines] = None,
    ) -> None:
        self.bridge = bridge
        self._lines = lines or Lines(bridge)
        self.overload = overload or Overload(bridge)
        self.loop = loop
        self.has_session = has_session
        #: How often in a row a consumer that fails is started again; 0: for ever.
        self.retries = retries
        #: Seconds that consumers have for their disconnect(); the rest is for the log.
        self.farewell = 0.8 * shutdown_timeout
        #: The context variables that each consumer begins with: those of the start, with what modules set
        #: while they are imported. Whoever spawns a consumer, or failed before it, has others.
        self.context = contextvars.copy_context()
        self.stopped = False
        self._started = False
        self._settled = False
        #: Consumers whose connect() has not returned.
        self._connecting = 0
        #: Consumers that have failed and wait for their next start.
        self._restarting = 0
        #: What waits for the session, whomever it is for; None: nothing does.
        self.general_hold: Optional[GeneralHold] = None
        self._handles = itertools.count(1)
        self._sequences = itertools.count(1)
        #: Every consumer that has not ended, by handle; those that were killed included.
        self._consumers: dict[int, Consumer] = {}
        #: The consumers that have an app_id, by it.
        self._by_app_id: dict[Any, Consumer] = {}
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._writable: Optional[asyncio.Future[None]] = None
        #: Those whose disconnect() the broker's end waits for; None: it does not end.
        self._leaving: Optional[set[Consumer]] = None

    # ---- from the plugin ----

    def start(self, path: str, application: Application) -> None:
        """Starts the master and begins to take messages."""
        self.context = contextvars.copy_context()
        self.loop.add_reader(self.bridge.fileno(), self._take)
        self._add(0, "master", path, application, None).start()

    def _take(self) -> None:
        count = 0
        for deliveries, control in self.bridge.take(TAKE_MAX):
            count += len(deliveries)
            self._deliver(deliveries)
            if self.overload.drops_oldest:
                deliveries.clear()  # they count as long as they live
            if control is not None:
                count += 1
                self._control(control)
        if self.overload.drops_oldest:
            self.overload.trim(self._consumers.values(), self.loop.time())
        if count >= TAKE_MAX:
            self.loop.call_soon(self._take)

    def _deliver(self, deliveries: list[Delivery]) -> None:
        consumers = self._consumers
        hold = self.general_hold
        for delivery in deliveries:
            consumer = consumers.get(delivery[0])
            if consumer is None:
                self.bridge.add("messages/dropped/consumer_ended", 1)
            elif hold is not None and not delivery[1].session:
                hold.add(delivery)
            else:
                consumer.feed(delivery)

    def _control(self, control: Control) -> None:
        if control[0] == "answer":
            future = self._answers.pop(control[1])
            if not future.done():
                future.set_result(control[2])
        elif control[0] == "writable":
            if self._writable is not None:
                self._writable.set_result(None)
                self._writable = None
        elif control[0] == "hold":
            if self.general_hold is None:
                self.general_hold = GeneralHold()
            self.general_hold.hold(control[1])
        elif control[0] == "release":
            self._release(control[1])
        elif control[0] == "hold_consumer":
            if control[1] in self._consumers:
                self._consumers[control[1]].hold(again=control[2])
        elif control[0] == "release_consumer":
            if control[1] in self._consumers:
                self._consumers[control[1]].release()
        elif control[0] == "verbosity":
            logs.set_verbosity(control[1])
        elif self._leaving is None:
            self._stop()

    def _release(self, number: int) -> None:
        if self.general_hold is not None:
            for delivery in self.general_hold.release(number):
                self._consumers[delivery[0]].go_on(delivery)
            if self.general_hold.is_over:
                self.general_hold = None

    # ---- from consumers ----

    async def until_writable(self) -> None:
        """Returns when the outbound queue, which was full, has room."""
        if self._writable is None:
            self._writable = self.loop.create_future()
        # Several wait for the same word; one that is cancelled must not take it from the others.
        await asyncio.shield(self._writable)

    async def subscribe(self, consumer: Consumer, topic_filter: str, options: int) -> None:
        """Returns when the subscription is in force."""
        sequence, future = self._question()
        self.bridge.subscribe(consumer.handle, topic_filter, options, sequence)
        if await future:
            raise MemoryError(f"the broker had no memory for a subscription to {topic_filter!r}")

    async def unsubscribe(self, consumer: Consumer, topic_filter: str) -> None:
        """Returns when the subscription has ended."""
        sequence, future = self._question()
        self.bridge.unsubscribe(consumer.handle, topic_filter, sequence)
        await future

    async def watch_clients(self, consumer: Consumer) -> None:
        """Returns when the consumer is told of clients that connect and disconnect."""
        sequence, future = self._question()
        self.bridge.watch_clients(consumer.handle, sequence)
        if await future:
            raise MemoryError(f"the broker had no memory to tell {consumer} of its clients")

    def _question(self) -> tuple[int, asyncio.Future[int]]:
        sequence = next(self._sequences)
        future: asyncio.Future[int] = self.loop.create_future()
        self._answers[sequence] = future
        return sequence, future

    def spawn(
        self,
        parent: Consumer,
        app_id: Any,
        consumer_path: str,
        consumer_params: Optional[dict[str, Any]] = None,
    ) -> None:
        """Starts a worker."""
        self._check_is_master(parent, "spawn", app_id)
        other = self._by_app_id.get(app_id)
        if other is not None:
            # A master that was restarted finds its predecessor's workers, and may say anew what they are.
            if other.parent is None or other.parent is parent:
                raise ValueError(f"app_id {app_id!r} is taken by {other}; a worker needs one of its own")
            if (other.name, other.parameters or {}) == (consumer_path, consumer_params or {}):
                other.parent = parent
                return
        application = self.context.run(load_application, consumer_path)
        if other is not None:
            self.kill(parent, app_id)
        worker = self._add(app_id, "worker", consumer_path, application, consumer_params)
        worker.parent = parent
        worker.start()

    def kill(self, parent: Consumer, app_id: Any) -> None:
        """Tells a worker to disconnect, after the messages it already has."""
        self._check_is_master(parent, "kill", app_id)
        worker = self._by_app_id.get(app_id)
        if worker is None or worker.instance_type == "master":
            raise ValueError(f"there is no worker with app_id {app_id!r} to kill")
        if worker.restart is not None:
            self._forget(worker)
            return
        del self._by_app_id[app_id]
        self._end_subscriptions(worker)
        if self.general_hold is not None:
            for delivery in self.general_hold.take(worker.handle):
                worker.go_on(delivery)
        worker.feed(dict(DISCONNECT))

    @staticmethod
    def _check_is_master(parent: Consumer, verb: str, app_id: Any) -> None:
        if parent.instance_type != "master":
            raise PermissionError(
                f"{parent} may not {verb} worker {app_id!r}: only the master (app_id 0) may"
            )

    def find(self, app_id: Any) -> Optional[Consumer]:
        """The consumer that has this very object as its app_id. Any thread, so no code of the application's
        is run, as its __hash__() or __eq__() would be.
        """
        for consumer in list(self._consumers.values()):
            if consumer.app_id is app_id:
                return consumer
        return None

    # ---- consumers' beginning and end ----

    def _add(
        self,
        app_id: Any,
        instance_type: str,
        name: str,
        application: Application,
        parameters: Optional[dict[str, Any]],
    ) -> Consumer:
        consumer = Consumer(self, next(self._handles), app_id, instance_type, name, application, parameters)
        self._connecting += 1
        self._consumers[consumer.handle] = consumer
        self._by_app_id[app_id] = consumer
        self._tell_numbers()
        return consumer

    def _tell_numbers(self) -> None:
        """Tells statistics how many consumers there are."""
        self.bridge.set("consumers/running", len(self._consumers) - self._restarting)
        self.bridge.set("consumers/restarting", self._restarting)

    def restarted(self) -> None:
        """Told by a consumer that has taken a failed one's place and now starts."""
        self._restarting -= 1
        self.bridge.add("consumers/restarted", 1)
        self._tell_numbers()

    def _end_subscriptions(self, consumer: Consumer) -> None:
        for topic_filter in consumer.subscriptions:
            self.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        consumer.subscriptions.clear()
        if consumer.watches:
            consumer.watches = False
            self.bridge.unwatch_clients(consumer.handle)

    def connected(self, consumer: Consumer) -> None:
        """Told once by each consumer, when its connect() has returned."""
        if consumer.instance_type == "master" and not self._started:
            self._started = True
            self.bridge.started()
        for topic_filter in consumer.stale:
            del consumer.subscriptions[topic_filter]
            consumer.identifiers.pop(topic_filter, None)
            self.bridge.unsubscribe(consumer.handle, topic_filter, 0)
        consumer.stale.clear()
        if consumer.failures:
            self.bridge.log(self.bridge.LOG_WARNING, f"Consumer {consumer} runs again.")
        self._count_connected(consumer)

    def _count_connected(self, consumer: Consumer) -> None:
        if consumer.counted:
            return
        consumer.counted = True
        self._connecting -= 1
        if self._started and not self._connecting and not self._settled:
            self._settled = True
            self.bridge.settled(summary.text(self._consumers.values()))

    def ended(self, consumer: Consumer) -> None:
        """Forgets a consumer whose application has returned, or restarts one that has raised."""
        consumer.ended = True
        error: Optional[BaseException]
        if consumer.task.cancelled():
            # By the application: what is cancelled from here ends with the loop.
            error = (
                None
                if self._leaving is not None or self.stopped
                else asyncio.CancelledError("its task was cancelled")
            )
        else:
            error = consumer.task.exception() or consumer.task.result()
        if error is not None:
            if consumer.task.cancelled() or consumer.task.exception() is error:
                self.log_failure(consumer, error)  # what _run() had to let pass
            if self._is_restarted(consumer):
                return
            if consumer.instance_type == "master" and self._started and self._leaving is None:
                # Before its subscriptions end: the broker is to keep messages for them.
                self.bridge.suspend()
        self._forget(consumer)
        if not self._started and isinstance(error, ConnectionRefusedError):
            self.log(
                "The broker lets nobody in before the master consumer's connect() has returned. "
                "A client of this broker that connect() starts has to connect later, in a task of its own."
            )
        if not self._started and consumer.instance_type == "master" and not self.stopped:
            if error is None:
                self.log(f"Consumer {consumer} returned before its connect() had been handled.")
            self._finish()
        if self._leaving is not None:
            self._leaving.discard(consumer)
            if not self._leaving and not self.stopped:
                self._finish()

    def _forget(self, consumer: Consumer) -> None:
        """Ends everything that is kept for a consumer."""
        consumer.ended = True
        if consumer.restart is not None:
            consumer.restart.cancel()
            self._restarting -= 1
        self._end_subscriptions(consumer)
        del self._consumers[consumer.handle]
        dropped = consumer.forget()
        if self.general_hold is not None:
            dropped += len(self.general_hold.take(consumer.handle))
        self.bridge.add("messages/dropped/consumer_ended", dropped)
        self._tell_numbers()
        if self._by_app_id.get(consumer.app_id) is consumer:
            del self._by_app_id[consumer.app_id]
        if not self.stopped:
            self._count_connected(consumer)

    def _is_restarted(self, consumer: Consumer) -> bool:
        """Sees to it that a consumer which has failed is started again, if it is to be."""
        if self._leaving is not None or self.stopped or self._by_app_id.get(consumer.app_id) is not consumer:
            return False
        if consumer.instance_type == "master" and not self._started:
            return False  # the broker does not start without it
        if consumer.connected and self.loop.time() - consumer.connected_at >= HEALTHY_AFTER:
            consumer.failures = 0
        consumer.failures += 1
        if self.retries and consumer.failures > self.retries:
            self.log(
                f"Consumer {consumer} has failed {consumer.failures} times in a row and is given up. It "
                "has handled no message in between; restart the broker when it is mended. "
                "plugin_opt_retries says how often it is tried, 0 for ever."
            )
            self.bridge.add("consumers/failed", 1)
            return False
        if consumer.watches:
            # One that watches anew is told of all who are there.
            self.bridge.unwatch_clients(consumer.handle)
        successor = consumer.successor()
        self._consumers[consumer.handle] = successor
        self._by_app_id[consumer.app_id] = successor
        if not successor.counted:
            self._count_connected(successor)
        delay = restart_delay(successor.failures)
        self.log(f"Consumer {consumer} is restarted in {delay:g} s.")
        successor.restart = self.loop.call_later(delay, successor.start)
        self._restarting += 1
        self._tell_numbers()
        return True

    # ---- the end ----

    def _stop(self) -> None:
        """Lets every consumer disconnect, for a bounded time. No task waits for that: an application that
        cancels all tasks would end it.
        """
        self._leaving = set()
        for consumer in list(self._consumers.values()):
            if consumer.restart is not None:
                self._forget(consumer)
        consumers = list(self._consumers.values())
        self._release(sys.maxsize)
        for consumer in consumers:
            if consumer.app_id in self._by_app_id:
                consumer.feed(dict(DISCONNECT))
        self._leaving.update(consumers)
        if consumers:
            self.loop.call_later(self.farewell, self._end_late, consumers)
        else:
            self._finish()

    def _end_late(self, consumers: list[Consumer]) -> None:
        for consumer in consumers:
            if not consumer.task.done():
                self.log(
                    f"Consumer {consumer} did not finish its disconnect() within "
                    f"{self.farewell:g} seconds and is cancelled."
                )
                consumer.task.cancel()
        self._finish()

    def _finish(self) -> None:
        self.stopped = True
        self.loop.stop()

    # ---- the log ----

    def log(self, text: str) -> None:
        """Writes an error to the broker's log, whatever the application has done to `logging`."""
        for line in text.splitlines():
            self.bridge.log(self.bridge.LOG_ERR, line)

    def log_exception(self, text: str, error: BaseException) -> None:
        """The same with a traceback, and through `logging` as well."""
        logs.report(self.bridge, text, error, lines=self._lines)

    def log_failure(self, consumer: Consumer, error: BaseException) -> None:
        """The same for what has ended a consumer."""
        where = f" handling a message on topic {consumer.topic!r}" if consumer.topic else ""
        text = f"Consumer {consumer} ended with an error{where}:"
        logs.report(self.bridge, text, error, logs.CONSUMER, consumer.source, consumer.topic)


def _load(runtime: Runtime, path: str) -> Optional[Application]:
    try:
        return load_application(path)
    except ApplicationError as error:
        runtime.log(f"Cannot start the application: {error}.")
    except BaseException as error:
        runtime.log_exception(f"Cannot import the application {path}: {type(error).__name__}: {error}", error)
    return None


def run() -> None:
    """Called by the plugin on the loop thread: runs the application until the broker stops."""
    import _mqttasgi  # type: ignore[import-not-found]

    bridge: Bridge = _mqttasgi
    options: Options = bridge.options()
    lines = interpreter.prepare(bridge, options)
    complaint = _versions.difference(bridge.VERSION) or _versions.stranger()
    if complaint:
        bridge.log(bridge.LOG_WARNING, complaint)
    loop = lines.loop = new_event_loop(options["loop"])
    asyncio.set_event_loop(loop)
    loop.set_default_executor(LoopExecutor())
    loop.set_exception_handler(logs.loop_exception_handler(bridge, lines))
    keep_open(loop)
    processes.stay_out_of(loop)
    overload = Overload(
        bridge, options["consumer_queue_size"], options["consumer_queue_bytes"], options["overload"]
    )
    runtime = Runtime(
        bridge,
        loop,
        options["session"] != "off",
        options["retries"],
        options["shutdown_timeout"],
        overload,
        lines,
    )
    # Before the loop runs: Django refuses database access from inside a running one.
    application = _load(runtime, options["application"])
    logs.keep_loggers()
    if application is not None:
        advice.look_at_databases(options["check"])
    if application is not None and options["check"]:
        bridge.started()
    elif application is not None:
        loop.call_soon(runtime.start, options["application"], application)
        with Watchdog(runtime, options["watchdog"], run_application.__code__):
            run_for_ever(runtime)
    close(runtime)
