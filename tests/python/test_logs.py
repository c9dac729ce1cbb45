"""What reaches the broker's log, and logging's handlers beside it."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Callable

import pytest
from fake_bridge import FakeBridge
from running import Start, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import logs
from mqttasgi.runtime.lines import Lines


def test_log_records_reach_the_broker_line_by_line() -> None:
    bridge = FakeBridge()
    logger = logging.getLogger("tests.lamp")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logs.BrokerLogHandler(bridge))
    try:
        raise ValueError("no bulb")
    except ValueError:
        logger.exception("first\nsecond")
    for level in (logging.WARNING, logging.INFO, logging.DEBUG):
        logger.log(level, "%s", level)
    assert bridge.lines[0] == (bridge.LOG_ERR, "tests.lamp: first")
    assert bridge.lines[1] == (bridge.LOG_ERR, "second")
    assert (bridge.LOG_ERR, "ValueError: no bulb") in bridge.lines
    assert bridge.lines[-3:] == [
        (bridge.LOG_WARNING, "tests.lamp: 30"),
        (bridge.LOG_INFO, "tests.lamp: 20"),
        (bridge.LOG_DEBUG, "tests.lamp: 10"),
    ]
    bridge.close()


def test_verbosity_changes_unless_the_application_has_taken_the_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    before = root.level
    monkeypatch.setattr(logs, "_level", logging.WARNING)
    try:
        root.setLevel(logging.WARNING)
        levels = []
        for verbosity in (0, 1, 2, 0):
            logs.set_verbosity(verbosity)
            levels.append(root.level)
        assert levels == [logging.WARNING, logging.INFO, logging.DEBUG, logging.WARNING]
        root.setLevel(logging.ERROR)
        logs.set_verbosity(2)
        assert root.level == logging.ERROR
    finally:
        root.setLevel(before)


def test_a_record_is_written_once() -> None:
    """However many of its loggers have such a handler."""
    bridge = FakeBridge()
    parent, logger = logging.getLogger("tests.twice"), logging.getLogger("tests.twice.lamp")
    for each in (parent, logger):
        each.propagate = each is logger
        each.addHandler(logs.BrokerLogHandler(bridge))
    logger.warning("dim")
    assert bridge.lines == [(bridge.LOG_WARNING, "tests.twice.lamp: dim")]
    bridge.close()


# ---- errors that nobody has caught ----

customer: ContextVar[str] = ContextVar("customer", default="nobody")


class Kept(logging.Handler):
    """An error tracker, as it were."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.customers: list[str] = []
        #: What else it does with each record.
        self.also: Callable[[], object] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.customers.append(customer.get())
        self.also()

    def error(self) -> tuple[Any, ...]:
        """What is known of the only record: logger, level, error, consumer, app_id, topic."""
        (record,) = self.records
        error = record.exc_info[1]
        return (record.name, record.levelname, repr(error), record.consumer, record.app_id, record.topic)


@pytest.fixture
def tracker(bridge: FakeBridge) -> Iterator[Kept]:
    """What the application's LOGGING sets up, which does not mention any logger of ours."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    hooks = threading.excepthook, sys.unraisablehook
    loggers = {name: logging.getLogger(name) for name in ("mqttasgi", "asyncio")}
    handlers = {name: logger.handlers[:] for name, logger in loggers.items()}
    logging.getLogger("mqttasgi.consumer")
    logs.prepare(bridge, 0, Lines(bridge))
    logging.config.dictConfig({"version": 1, "root": {"level": "WARNING", "handlers": []}})
    assert loggers["asyncio"].disabled
    tracker = Kept()
    root.addHandler(tracker)
    yield tracker
    root.handlers[:], root.level = before
    threading.excepthook, sys.unraisablehook = hooks
    for name, logger in loggers.items():
        logger.handlers[:] = handlers[name]
    for found in logging.root.manager.loggerDict.values():
        if isinstance(found, logging.Logger):
            found.disabled = False


class Fails(MqttConsumer):
    channel_layer_alias = "none"
    tasks: list[asyncio.Task[None]] = []  # noqa: RUF012

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)
        if self.scope["instance_type"] == "master":
            await self.spawn_worker("lamp", f"{__name__}.Fails")

    async def receive(self, mqtt_message: Any) -> None:
        customer.set("Ann")
        if mqtt_message["topic"] == "in/task":
            self.tasks.append(asyncio.ensure_future(self.fail()))
        elif mqtt_message["topic"] == "in/cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        else:
            await self.fail()

    async def fail(self) -> None:
        raise LookupError("there is no lamp")

    async def disconnect(self) -> None:
        customer.set("nobody any more")


@pytest.mark.parametrize(("handle", "app_id"), [(1, 0), (2, "lamp")])
async def test_what_ends_a_consumer(
    bridge: FakeBridge, start: Start, tracker: Kept, handle: int, app_id: Any
) -> None:
    await start(Fails.as_asgi())
    await until(lambda: len(bridge.subscriptions) == 2)
    bridge.deliver("in/x", handle=handle)
    await until(lambda: "runs again" in bridge.text())
    name = {1: "tests:application", 2: f"{__name__}.Fails"}[handle]
    error = "LookupError('there is no lamp')"
    assert tracker.error() == ("mqttasgi.consumer", "ERROR", error, name, app_id, "in/x")
    kind = "master" if handle == 1 else "worker"
    assert tracker.records[0].getMessage() == (
        f"Consumer {name} ({kind}, app_id {app_id!r}) ended with an error handling a message on topic 'in/x'"
    )
    # Once, although the record has gone past the handler of the broker's log, too.
    assert bridge.text().count("LookupError: there is no lamp") == 1
    assert bridge.text().count("ended with an error") == 1


async def test_a_handler_finds_the_consumers_context(bridge: FakeBridge, start: Start, tracker: Kept) -> None:
    """Error trackers keep there what they were told of it."""
    await start(Fails.as_asgi())
    bridge.deliver("in/x")
    await until(lambda: bool(tracker.records))
    assert tracker.customers == ["Ann"]


async def test_a_consumer_that_was_cancelled(bridge: FakeBridge, start: Start, tracker: Kept) -> None:
    await start(Fails.as_asgi())
    bridge.deliver("in/cancel")
    await until(lambda: bool(tracker.records))
    assert tracker.error()[:3] == (
        "mqttasgi.consumer",
        "ERROR",
        "CancelledError('its task was cancelled')",
    )


async def test_a_disconnect_that_fails_after_that(bridge: FakeBridge, start: Start, tracker: Kept) -> None:
    class FailsTwice(Fails):
        async def disconnect(self) -> None:
            raise OSError("nor a socket")

    logs.keep_loggers()
    await start(FailsTwice.as_asgi())
    bridge.deliver("in/x")
    await until(lambda: len(tracker.records) == 2)
    assert [str(record.exc_info[1]) for record in tracker.records] == ["nor a socket", "there is no lamp"]
    # Its handler is still the broker's log's.
    assert "OSError: nor a socket" in bridge.text()


async def test_a_task_of_a_consumers(bridge: FakeBridge, start: Start, tracker: Kept) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.loop_exception_handler(bridge))
    await start(Fails.as_asgi())
    bridge.deliver("in/task")
    await until(lambda: bool(Fails.tasks) and Fails.tasks[0].done())
    Fails.tasks.clear()
    gc.collect()
    await until(lambda: bool(tracker.records))
    loop.set_exception_handler(None)
    logger, level, error, consumer, app_id, _ = tracker.error()
    assert (logger, level, error) == ("asyncio", "ERROR", "LookupError('there is no lamp')")
    if sys.version_info >= (3, 12):
        assert (consumer, app_id) == ("tests:application", 0)
    text = bridge.text()
    assert text.count("Task exception was never retrieved") == 1
    assert "coro=<Fails.fail() done" in text
    assert text.count("LookupError: there is no lamp") == 1


async def test_a_callback_on_the_loop(bridge: FakeBridge, tracker: Kept) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.loop_exception_handler(bridge))
    loop.call_soon({}.__getitem__, "lamp")
    loop.call_exception_handler({"message": "dim", "lamp": 7})
    await until(lambda: len(tracker.records) == 2)
    loop.set_exception_handler(None)
    assert tracker.records[0].exc_info is None
    assert "dim\nlamp: 7" in bridge.text()
    assert repr(tracker.records[1].exc_info[1]) == "KeyError('lamp')"


def test_threads_and_what_python_ignores(bridge: FakeBridge, tracker: Kept) -> None:
    class Bad:
        def __del__(self) -> None:
            raise OSError("gone")

    thread = threading.Thread(target={}.__getitem__, args=("lamp",), name="counting")
    thread.start()
    thread.join()
    Bad()
    gc.collect()
    assert [record.name for record in tracker.records] == ["mqttasgi.application"] * 2
    assert [repr(record.exc_info[1]) for record in tracker.records] == ["KeyError('lamp')", "OSError('gone')"]
    assert "Thread counting of the application ended with an error:" in bridge.text()
    assert bridge.text().count("OSError: gone") == 1


@pytest.mark.parametrize("error", [LookupError("the tracker is away"), SystemExit(3)])
async def test_a_handler_that_fails(
    bridge: FakeBridge, start: Start, tracker: Kept, error: BaseException
) -> None:
    def fails() -> None:
        raise error

    tracker.also = fails
    await start(Fails.as_asgi())
    bridge.deliver("in/x")
    await until(lambda: "runs again" in bridge.text())
    assert "LookupError: there is no lamp" in bridge.text()
    assert "A handler of the application's logging has failed" in bridge.text()


def test_a_handler_is_not_told_of_its_own_errors(bridge: FakeBridge, tracker: Kept) -> None:
    tracker.also = lambda: logs.report(bridge, "Again:", OSError("mine"))
    logs.report(bridge, "First:", OSError("theirs"))
    assert [record.getMessage() for record in tracker.records] == ["First"]
    assert "OSError: mine" in bridge.text()
    # The next one again.
    tracker.also = lambda: None
    logs.report(bridge, "Second:", OSError("theirs"))
    assert len(tracker.records) == 2


def test_loggers_of_ours_are_turned_on_again(bridge: FakeBridge, tracker: Kept) -> None:
    other = logging.getLogger("tests.other")
    ours = logging.getLogger("mqttasgi.layers")
    ours.disabled = other.disabled = True
    logs.keep_loggers()
    ours.warning("The server is away.")
    assert other.disabled
    assert not logging.getLogger("asyncio").disabled
    # The root logger has no handler for the broker's log any more.
    assert "mqttasgi.layers: The server is away." in bridge.text()
