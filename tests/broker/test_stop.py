"""Stopping, and what an application's errors do to the broker: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.processes import SANITIZER


@pytest.mark.parametrize("end", ["returns", "raises", "thread", "hangs", "blocks"])
def test_the_broker_stops_whatever_disconnect_does(broker: BrokerFactory, end: str) -> None:
    started = broker(
        "apps.ending:application",
        environment={"TEST_END": end},
        expect_traceback="LookupError: at the end" if end == "raises" else False,
    )
    started.wait_for_log("mqttasgi: apps: connected")
    assert started.stop(timeout=15) == 0
    log = started.log()
    assert "mqttasgi: apps: disconnecting" in log
    assert ("did not finish its disconnect()" in log) == (end == "hangs")
    assert ("did not end within" in log) == (end == "blocks")


@pytest.mark.parametrize("path", ["apps.remote:Fragile", "apps.remote.Fragile"])
def test_a_worker_that_raises_leaves_everybody_else_alone(broker: BrokerFactory, path: str) -> None:
    started = broker("apps.remote:application", expect_traceback="KeyError: 'never'")
    client = started.client()
    for topic in ("did", "ready"):
        client.subscribe(topic, qos=1)
    worker = {"app_id": 1, "consumer_path": path, "consumer_params": {}}
    for _ in range(3):
        client.publish("do/0/spawn_worker", json.dumps(worker), qos=1)
        # The spawn's answer and the worker's word come in either order.
        assert sorted(client.wait_for("+").topic for _ in range(2)) == ["did", "ready"]
        since = len(started.log())
        client.publish("do/1/raise_it", "{}", qos=1)
        started.wait_for_log(r"ended with an error handling a message on topic 'do/1/raise_it'", since=since)
        started.wait_for_log(r"KeyError: 'never'", since=since)


def test_sys_exit_in_a_consumer_does_not_end_the_broker(broker: BrokerFactory) -> None:
    started = broker("apps.remote:application", expect_traceback="SystemExit: 3")
    client = started.client()
    for topic in ("did", "ready"):
        client.subscribe(topic, qos=1)
    worker = {"app_id": 1, "consumer_path": "apps.remote.Fragile", "consumer_params": {}}
    client.publish("do/0/spawn_worker", json.dumps(worker), qos=1)
    assert sorted(client.wait_for("+").topic for _ in range(2)) == ["did", "ready"]
    client.publish("do/1/explode", "{}", qos=1)
    started.wait_for_log("SystemExit: 3")
    client.publish("do/0/unsubscribe", json.dumps({"topic": "x"}), qos=1)
    assert json.loads(client.wait_for("did").payload)["method"] == "unsubscribe"


@pytest.mark.skipif(SANITIZER == "thread", reason="ThreadSanitizer knows one table of descriptors only")
def test_the_brokers_sockets_are_not_the_applications(broker: BrokerFactory) -> None:
    """What the application cannot see it cannot close, nor hand to a child process."""
    started = broker("apps.descriptors:application", options={"loop": "asyncio"})
    client = started.client()
    for topic in ("found", "looked"):
        client.subscribe(topic, qos=1)
    client.publish("look", b"", qos=1)
    client.wait_for("looked")
    sockets = {message.payload.decode() for message in client.messages if message.topic == "found"}
    # asyncio has a pair of its own.
    assert len(sockets) <= 2
    listening = {os.readlink(entry) for entry in Path(f"/proc/{started.pid}/fd").iterdir()}
    assert not sockets & listening
