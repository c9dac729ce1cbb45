"""A consumer that fails is started again, and nobody else notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.consumers import Consumers, Heard
from support.elsewhere import delivered


def start(broker: BrokerFactory, folder: Path, filters: dict[str, int], **options: Any) -> Broker:
    """Start listeners of which the master subscribes to these filters, and wait for the session."""
    file = folder / "subscriptions.json"
    file.write_text(json.dumps(filters))
    started = broker(
        "apps.listener:application",
        options=options,
        environment={"TEST_SUBSCRIPTIONS": str(file)},
        expect_traceback="RuntimeError: as told",
    )
    started.wait_for_session()
    return started


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_comes_meanwhile_waits(broker: BrokerFactory, tmp_path: Path, qos: int) -> None:
    started = start(broker, tmp_path, {"k/#": 2})
    client = started.client()
    client.publish("k/x", "before", qos)
    client.publish("do/0/fail", "{}", qos)
    for number in range(500):
        client.publish("k/x", str(number), qos)
    started.wait_for_log(r"\(master, app_id 0\) ended with an error handling a message on topic 'do/0/fail'")
    started.wait_for_log("is restarted in 1 s")
    for number in range(500, 1000):
        client.publish("k/x", str(number), qos)
    started.wait_for_log("runs again")
    heard = Consumers(started).heard()
    assert heard == [Heard("k/x", str(number), delivered(qos), False) for number in range(1000)]


def test_it_gets_what_is_retained_as_a_new_one_does(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker, tmp_path, {"r/#": 1})
    client = started.client()
    client.publish("r/x", "1", qos=1, retain=True)
    assert Consumers(started).heard() == [Heard("r/x", "1", 1, False)]
    client.publish("do/0/fail", "{}", qos=1)
    started.wait_for_log("runs again")
    assert Consumers(started).heard() == [Heard("r/x", "1", 1, True)]


def test_a_worker_and_its_master(broker: BrokerFactory, tmp_path: Path) -> None:
    """Each fails for itself; clients and the other notice nothing."""
    started = start(broker, tmp_path, {})
    consumers = Consumers(started)
    consumers.spawn(1)
    consumers.subscribe("k/x", to=1)
    client = started.client()
    client.publish("do/0/fail", "{}", qos=1)
    client.publish("k/x", "1", qos=1)
    assert consumers.heard(to=1) == [Heard("k/x", "1", 1, False)]
    started.wait_for_log(r"\(master, app_id 0\) runs again")
    client.publish("do/1/fail", "{}", qos=1)
    consumers.subscribe("k/y")
    client.publish("k/y", "2", qos=1)
    assert consumers.heard() == [Heard("k/y", "2", 1, False)]
    started.wait_for_log(r"\(worker, app_id 1\) runs again")


def test_given_up(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker, tmp_path, {}, retries=1)
    consumers = Consumers(started)
    consumers.spawn(1)
    client = started.client()
    for _ in range(3):  # which cost themselves only
        since = len(started.log())
        client.publish("do/1/fail", "{}", qos=1)
        started.wait_for_log(r"\(worker, app_id 1\) runs again", since=since)
    client.publish("do/1/break", "{}", qos=1)
    started.wait_for_log(
        r"\(worker, app_id 1\) has failed 2 times in a row before it got a message and is given up",
        timeout=30,
    )
    # Its app_id is free, and the others go on.
    consumers.spawn(1)
    assert consumers.heard(to=1) == []
