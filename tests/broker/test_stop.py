"""Stopping, and what an application's errors do to the broker: nothing."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.packets import PUBACK, PacketClient
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_last_words_reach_subscribers_and_persistence(broker: BrokerFactory, number: int) -> None:
    started = broker("apps.ending:application", environment={"TEST_END": "says goodbye"}, persistence=True)
    client = started.client()
    client.subscribe("state", qos=1)
    assert client.wait_for("state").payload == b"online"
    client.subscribe("last words", qos=2)
    os.kill(started.pid, number)
    assert client.wait_for("state").payload == b"offline"
    # QoS 2 takes two more packets each way, for which the broker does not wait.
    words = [int(message.payload) for message in client.messages if message.topic == "last words"]
    assert [word for word in words if word % 3 < 2] == [word for word in range(12) if word % 3 < 2]
    assert started.wait() == 0
    started.start()
    client = started.client()
    client.subscribe("state", qos=1)
    assert client.wait_for("state").retain


@pytest.mark.inside("broker")
def test_the_broker_serves_on_while_consumers_disconnect(broker: BrokerFactory) -> None:
    started = broker(
        "apps.ending:application", environment={"TEST_END": "hangs"}, options={"shutdown_timeout": 3600}
    )
    client = started.client()
    client.subscribe("#", qos=1)
    os.kill(started.pid, signal.SIGTERM)
    while client.wait_for("state").payload != b"offline":
        pass
    client.publish("mine", b"1", qos=1)
    assert client.wait_for("mine").payload == b"1"
    started.client().publish("mine", b"2", qos=2)
    assert client.wait_for("mine").payload == b"2"
    # A second signal is meant.
    os.kill(started.pid, signal.SIGTERM)
    assert started.wait() == 0
    assert "did not end within" not in started.log()


@pytest.fixture(scope="module")
def ending_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin that lets the broker leave its loop when a message comes to `end`."""
    plugin = tmp_path_factory.mktemp("plugin") / "ending_plugin.so"
    compiler = os.environ.get("CC", "gcc")
    source = Path(__file__).resolve().parents[1] / "support" / "ending_plugin.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-g", "-O1", "-o", plugin, source], check=True)
    return plugin


@pytest.mark.inside("broker")
def test_the_broker_ends_by_itself(broker: BrokerFactory, ending_plugin: Path) -> None:
    """Nobody has sent a signal: its clients are freed when consumers disconnect."""
    started = broker(
        "apps.ending:application",
        environment={"TEST_END": "asks for more"},
        lines=[f"plugin {ending_plugin}"],
    )
    started.wait_for_session()
    for number in range(20):
        started.client(client_id=f"client {number}").publish("hello", b"1", qos=1)
    # Sends it and no more: the broker may be gone before an ordinary client knows that it has sent it.
    with PacketClient(started.port, "ends the broker") as client:
        client.publish("end", b"", 0)
        assert started.wait() == 0
    log = started.log()
    assert "mqttasgi: apps: asked for more" in log
    assert "The broker ended before the application did: 13 messages that consumers published" in log


@pytest.mark.inside("broker")
def test_what_comes_while_the_broker_stops_is_handled_once(broker: BrokerFactory) -> None:
    """Where cleansession is false: before the stop, or after the restart."""
    started = broker(
        "apps.numbers:application",
        options={"cleansession": False, "client_id": "numbers", "log_lines": 0},
        persistence=True,
        lines=["max_queued_messages 0"],  # else Mosquitto keeps no more than 1,000
    )
    taken: list[int] = []
    numbers = itertools.count()
    since = 0
    for _ in range(4):
        started.wait_for_session(since=since)
        publish_until_the_end(started, numbers, taken)
        assert started.wait() == 0
        assert "The application ends: the broker keeps" in started.log()[since:]
        since = len(started.log())
        started.start()
    client = started.client()
    client.subscribe("number", qos=1)
    client.publish("number", "last", qos=1)
    started.wait_for_log("numbers: last$")
    heard = [int(found) for found in re.findall(r"numbers: (\d+)$", started.log(), re.MULTILINE)]
    assert heard == sorted(set(heard))
    assert set(taken) <= set(heard)


def publish_until_the_end(started: Broker, numbers: Iterator[int], taken: list[int]) -> None:
    """Publish at QoS 1, stop the broker in the midst of it, and keep the numbers that it has taken."""
    with PacketClient(started.port, "counts") as client:
        for sent in itertools.count():
            if sent == 200:
                os.kill(started.pid, signal.SIGTERM)
            number = next(numbers)
            try:
                client.publish("number", str(number).encode(), 1, sent % 65535 + 1)
                client.expect(PUBACK, sent % 65535 + 1)
            except ConnectionError:
                return
            taken.append(number)


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


@pytest.mark.inside("broker")
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
