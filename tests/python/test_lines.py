"""How many lines an application may write to the broker's log."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fake_bridge import FakeBridge
from running import Start, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import lines as lines_module
from mqttasgi.runtime import logs
from mqttasgi.runtime.lines import Lines, Source

ANN = BOB = Source("unused", None, "")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers that have written nothing yet."""
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "ANN", Source("mysite.Ann", 0, "master"))
    monkeypatch.setattr(here, "BOB", Source("mysite.Bob", 1, "worker"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def written(bridge: FakeBridge) -> int:
    """How many lines that are not about lines."""
    return sum("left out" not in line for _, line in bridge.lines)


def test_a_consumer_has_its_rate_and_ten_seconds_of_it_at_once(bridge: FakeBridge) -> None:
    clock = Clock()
    lines = Lines(bridge, 10, clock)
    for _ in range(1000):
        lines.say(bridge.LOG_INFO, ["x"], ANN)
    assert written(bridge) == 100
    assert bridge.statistics["log/dropped"] == 900
    for _ in range(30):
        clock.now += 1
        for _ in range(100):
            lines.say(bridge.LOG_INFO, ["x"], ANN)
    assert written(bridge) == 100 + 30 * 10
    # It has not used up what others may write.
    lines.say(bridge.LOG_INFO, ["y"], BOB)
    assert bridge.lines[-1] == (bridge.LOG_INFO, "y")


def test_all_together_have_five_times_as_much(bridge: FakeBridge) -> None:
    lines = Lines(bridge, 10, Clock())
    for number in range(20):
        one = Source("mysite.Many", number, "worker")
        for _ in range(100):
            lines.say(bridge.LOG_INFO, ["x"], one)
    assert written(bridge) == 500


def test_records_are_written_whole(bridge: FakeBridge) -> None:
    """Unless one alone has more lines than anything may."""
    lines = Lines(bridge, 10, Clock())
    for _ in range(99):
        lines.say(bridge.LOG_INFO, ["x"], ANN)
    lines.say(bridge.LOG_ERR, ["traceback"] * 60, ANN)
    assert written(bridge) == 159
    lines.say(bridge.LOG_ERR, ["flood"] * 1000, BOB)
    assert written(bridge) == 259
    assert bridge.statistics["log/dropped"] == 900


def test_long_lines_count_as_what_the_broker_makes_of_them(bridge: FakeBridge) -> None:
    lines = Lines(bridge, 10, Clock())
    for _ in range(100):
        lines.say(bridge.LOG_INFO, ["x" * 10_000], ANN)
    assert written(bridge) == 10
    lines.say(bridge.LOG_INFO, ["x" * 10_000_000], BOB)
    assert written(bridge) == 10


def test_any_number(bridge: FakeBridge) -> None:
    lines = Lines(bridge, 0)
    lines.say(bridge.LOG_INFO, ["x"] * 100_000, ANN)
    assert written(bridge) == 100_000


def test_another_rate(bridge: FakeBridge) -> None:
    """In force at once, for who has written already, too; the same rate again gives nobody anything."""
    lines = Lines(bridge, 10, Clock())
    lines.say(bridge.LOG_INFO, ["x"] * 150, ANN)
    assert written(bridge) == 100
    lines.set_rate(10)
    lines.say(bridge.LOG_INFO, ["x"], ANN)
    assert written(bridge) == 100
    lines.set_rate(2)
    assert "left out of this log: 51. Each consumer may write 10 lines a second" in bridge.lines[-1][1]
    lines.say(bridge.LOG_INFO, ["x"] * 150, ANN)
    assert written(bridge) == 100 + 20
    for number in range(10):
        lines.say(bridge.LOG_INFO, ["x"] * 150, Source("mysite.Many", number, "worker"))
    assert written(bridge) == 100 + 2 * 10 * 5
    lines.set_rate(0)
    lines.say(bridge.LOG_INFO, ["x"] * 150, ANN)
    assert written(bridge) == 100 + 2 * 10 * 5 + 150
    lines.set_rate(2)
    lines.say(bridge.LOG_INFO, ["x"] * 150, ANN)
    assert written(bridge) == 100 + 2 * 10 * 5 + 150 + 20


def test_one_line_says_what_was_left_out_and_whose(bridge: FakeBridge) -> None:
    clock = Clock()
    lines = Lines(bridge, 10, clock)
    for whose, count in ((ANN, 130), (BOB, 120)):
        for _ in range(count):
            lines.say(bridge.LOG_INFO, ["x"], whose)
    lines.say_what_was_left_out()
    lines.say_what_was_left_out()
    about = [line for line in bridge.lines if "left out" in line[1]]
    assert about == [
        (
            bridge.LOG_WARNING,
            "Lines of mysite.Ann (master, app_id 0) left out of this log: 30, and of others: 20. Each consumer may "
            "write 10 lines a second, all together 50; plugin_opt_log_lines says how many, 0 any number.",
        )
    ]


def test_without_a_loop_the_next_line_says_it(bridge: FakeBridge) -> None:
    clock = Clock()
    lines = Lines(bridge, 10, clock)
    for _ in range(101):
        lines.say(bridge.LOG_INFO, ["x"])
    clock.now += 5
    lines.say(bridge.LOG_INFO, ["y"])
    assert "Lines of code outside of consumers" in bridge.lines[-2][1]
    assert bridge.lines[-1][1] == "y"


# ---- consumers ----


@pytest_asyncio.fixture
async def logger(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[logging.Logger]:
    """One that writes to the broker's log, which may have 10 lines a second of each."""
    monkeypatch.setattr(lines_module, "SAY_AFTER", 0.0)
    logger = logging.getLogger("tests.lines")
    logger.propagate = False
    lines = Lines(bridge, 10)
    lines.loop = asyncio.get_running_loop()
    handler = logs.BrokerLogHandler(bridge, lines)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


class Logs(MqttConsumer):
    """Logs what it reads, in itself, in a task or in a thread."""

    channel_layer_alias = "none"
    filters: tuple[str, ...] = ("in/#",)
    tasks: list[Any] = []  # noqa: RUF012

    async def connect(self) -> None:
        for topic_filter in self.filters:
            await self.subscribe(topic_filter, 0)

    async def receive(self, mqtt_message: Any) -> None:
        topic, payload = mqtt_message["topic"], mqtt_message["payload"].decode()
        if payload == "task":
            self.tasks.append(asyncio.ensure_future(self.log(topic)))
        elif payload == "thread":
            await asyncio.to_thread(logging.getLogger("tests.lines").warning, "saw %s", topic)
        elif payload == "raise":
            raise LookupError("there is no lamp")
        else:
            await self.log(topic)

    async def log(self, topic: str) -> None:
        logging.getLogger("tests.lines").warning("saw %s", topic)
        await self.publish("handled", b"")


@pytest.mark.usefixtures("logger")
async def test_a_consumer_that_logs_each_message(bridge: FakeBridge, start: Start) -> None:
    await start(Logs.as_asgi())
    for number in range(150):
        bridge.deliver(f"in/{number}")
    await until(lambda: len(bridge.published) == 150)
    await until(lambda: "left out of this log" in bridge.text())
    assert bridge.text().count("saw in/") < 130
    assert "Lines of tests:application (master, app_id 0) left out of this log: " in bridge.text()


class ReadsLog(Logs):
    filters = ("in/#", "$SYS/#")


@pytest.mark.parametrize("how", ["itself", "task", "thread"])
@pytest.mark.usefixtures("logger")
async def test_what_handling_the_brokers_log_causes_is_not_logged(
    bridge: FakeBridge, start: Start, how: str
) -> None:
    await start(ReadsLog.as_asgi())
    for _ in range(3):
        bridge.deliver("$SYS/broker/log/W", how.encode())
    bridge.deliver("$SYS/broker/uptime")
    bridge.deliver("in/x")
    await until(lambda: "saw in/x" in bridge.text())
    await settle()
    await until(lambda: bridge.statistics["log/dropped"] == 3)
    text = bridge.text()
    assert "saw $SYS/broker/uptime" in text
    assert "saw $SYS/broker/log" not in text
    # Said once, or that would be what it reads next.
    assert text.count("Lines of tests:application (master, app_id 0) left out of this log from now on") == 1
    assert sum("left out" in line for _, line in bridge.lines) == 1


@pytest.mark.usefixtures("logger")
async def test_an_error_there_is_logged_and_so_is_that_of_its_next_run(
    bridge: FakeBridge, start: Start
) -> None:
    await start(ReadsLog.as_asgi())
    for _ in range(2):
        bridge.deliver("$SYS/broker/log/E", b"raise")
    await until(lambda: bridge.text().count("runs again") == 2)
    assert bridge.text().count("LookupError: there is no lamp") == 2


async def test_errors_of_tasks_are_bounded(bridge: FakeBridge, start: Start) -> None:
    loop = asyncio.get_running_loop()
    lines = Lines(bridge, 10)
    loop.set_exception_handler(logs.loop_exception_handler(bridge, lines))

    async def fail() -> None:
        raise LookupError("there is no lamp")

    tasks = [asyncio.ensure_future(fail()) for _ in range(200)]
    await asyncio.wait(tasks)
    tasks.clear()
    gc.collect()
    await until(lambda: bridge.statistics["log/dropped"] > 1000)
    loop.set_exception_handler(None)
    assert 1 <= bridge.text().count("LookupError: there is no lamp") <= 100
