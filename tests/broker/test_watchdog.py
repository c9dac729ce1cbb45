"""A consumer that blocks the event loop is named in the log, and the broker's clients notice nothing."""

from __future__ import annotations

import re

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.processes import wait_until

#: Seconds; the consumers of `apps.blocking` block for longer.
LIMIT = 0.4


def start(broker: BrokerFactory, limit: float = LIMIT, **options: object) -> Broker:
    return broker("apps.blocking:application", options={"watchdog": limit, **options})


def start_and_settle(broker: BrokerFactory, **options: object) -> tuple[Broker, int]:
    """Return the broker and the length of its log when the consumers of the start have connected.

    Where that takes longer than `LIMIT`, on a slow machine or with a sanitizer, the watchdog says so, too.
    """
    started = start(broker, **options)
    started.wait_for_log("application runs in Mosquitto")
    told = "has not reacted for", "reacts again"
    wait_until(lambda: len({len(lines(started, words)) for words in told}) == 1, 5, "the loop to react")
    return started, len(started.log())


def lines(started: Broker, pattern: str, since: int = 0) -> list[str]:
    return re.findall(f"mqttasgi: .*{pattern}.*", started.log()[since:])


@pytest.mark.parametrize(
    ("worker", "how", "who", "loop"),
    [
        (0, "sleep", r"apps\.blocking:application \(master, app_id 0\)", "asyncio"),
        (0, "sleep", r"apps\.blocking:application \(master, app_id 0\)", "uvloop"),
        (1, "compute", r"apps\.blocking\.Blocking \(worker, app_id 1\)", "uvloop"),
        (2, "sleep", r"apps\.blocking\.Layered \(worker, app_id 2\)", "asyncio"),
        (3, "sleep", r"apps\.blocking\.plain \(worker, app_id 3\)", "asyncio"),
    ],
)
def test_who_blocks_is_named_with_the_stack(
    broker: BrokerFactory, worker: int, how: str, who: str, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    started, since = start_and_settle(broker, loop=loop)
    client, other = started.client(), started.client()
    client.subscribe("done", qos=1)
    other.subscribe("ordinary", qos=1)
    client.publish(f"do/{worker}/{how}", "1", qos=1)
    started.wait_for_log(
        f"Consumer {who} blocks the event loop, handling a message on topic 'do/{worker}/{how}': the loop has not "
        "reacted for",
        since=since,
    )
    # It blocks still, and the broker serves.
    other.publish("ordinary", "x", qos=1)
    assert other.wait_for("ordinary").payload == b"x"
    client.wait_for("done")
    started.wait_for_log("The event loop reacts again", since=since)
    # With the application's frame, and once.
    assert "apps/blocking.py" in started.log() and "time." in started.log()
    assert len(lines(started, "has not reacted for", since)) == 1


def test_each_time_once(broker: BrokerFactory) -> None:
    started, since = start_and_settle(broker)
    client = started.client()
    client.subscribe("done", qos=1)
    for number in range(1, 4):
        client.publish("do/0/sleep", "x", qos=1)
        client.wait_for("done")
        wait_until(
            lambda: len(lines(started, "reacts again", since)) == number,  # noqa: B023
            5,
            "the word that it reacts again",
        )
        assert len(lines(started, "has not reacted for", since)) == number


def test_a_task_and_an_event_of_the_layer(broker: BrokerFactory) -> None:
    started, since = start_and_settle(broker)
    client = started.client()
    client.publish("do/1/in_a_task", "x", qos=1)
    started.wait_for_log(
        r"A task .*(consumer apps\.blocking\.Blocking \(worker, app_id 1\)|application).* blocks the event",
        since=since,
    )
    started.wait_for_log("reacts again", since=since)
    client.publish("do/2/tell_the_group", "x", qos=1)
    started.wait_for_log(
        r"Consumer apps\.blocking\.Layered \(worker, app_id 2\) blocks the event loop, handling an event of type "
        "'slow.event'"
    )


def test_who_holds_pythons_lock(broker: BrokerFactory) -> None:
    """Nothing of Python's can run then; the plugin says so, and Python's stack follows."""
    started = start(broker)
    client, other = started.client(), started.client()
    client.subscribe("done", qos=1)
    client.publish("do/1/hold_the_lock", "x", qos=1)
    started.wait_for_log("Python has not run for .* holds its global lock")
    other.subscribe("ordinary", qos=1)
    other.publish("ordinary", "x", qos=1)
    other.wait_for("ordinary")
    client.wait_for("done")
    # Python's watchdog comes to its turn when the lock is free, a moment before or after the consumer goes on.
    started.wait_for_log(
        r"app_id 1\) blocks the event loop, handling a message on topic 'do/1/hold_the_lock'|has not reacted for [23]\."
    )
    assert len(lines(started, "Python has not run for")) == 1


def test_off(broker: BrokerFactory) -> None:
    started = start(broker, 0)
    client = started.client()
    client.subscribe("done", qos=1)
    for how in ("sleep", "hold_the_lock"):
        client.publish(f"do/0/{how}", "x", qos=1)
        client.wait_for("done")
    assert "reacted" not in started.log() and "has not run" not in started.log()


def test_what_is_below_the_limit_is_not_told(broker: BrokerFactory) -> None:
    started = start(broker, 30)
    client = started.client()
    client.subscribe("done", qos=1)
    client.publish("do/0/sleep", "x", qos=1)
    client.wait_for("done")
    client.publish("do/0/nothing", "x", qos=1)
    client.wait_for("done")
    assert "reacted" not in started.log()


def test_the_end_is_not_held_up(broker: BrokerFactory) -> None:
    started = start(broker, shutdown_timeout=0.3)
    started.client().publish("do/0/sleep", "x", qos=1)
    started.wait_for_log("blocks the event loop")
    assert started.stop() == 0
    assert "did not end within shutdown_timeout" in started.log()
