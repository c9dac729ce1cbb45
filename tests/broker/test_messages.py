"""Messages through the direct lane: what a consumer hears, what others hear from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker
from support.client import Client
from support.consumers import identity
from support.elsewhere import delivered
from support.processes import wait_until


def do(client: Client, method: str, to: int = 0, /, **arguments: Any) -> Any:
    """Calls a method of the `apps.remote` consumer with the app_id `to` and returns what came of it."""
    client.publish(f"do/{to}/{method}", json.dumps(arguments), qos=1)
    return json.loads(client.wait_for("did").payload)["result"]


def wait_for_worker(client: Client, times: int = 1) -> None:
    """Waits until worker 1 has said that often that it can be called, which may come before the spawn's answer."""

    def said() -> int:
        return sum(message.topic == "ready" and message.payload == b"1" for message in client.messages)

    wait_until(lambda: said() >= times, 5, "the worker's word")


@pytest.fixture
def remote(broker: BrokerFactory) -> Broker:
    return broker("apps.remote:application")


@pytest.fixture
def client(remote: Broker) -> Client:
    client = remote.client()
    for topic in ("did", "got", "gone", "ready"):
        client.subscribe(topic, qos=1)
    return client


@pytest.mark.parametrize("publish_qos", [0, 1, 2])
@pytest.mark.parametrize("subscribe_qos", [0, 1, 2])
def test_a_message_arrives_at_the_lower_qos(
    broker: BrokerFactory, publish_qos: int, subscribe_qos: int
) -> None:
    started = broker("apps.echo:application", environment={"TEST_QOS": str(subscribe_qos)})
    client = started.client()
    client.subscribe("out/#", qos=2)
    client.publish("in/a/b", b"\x00payload\xff", qos=publish_qos)
    message = client.wait_for("out/a/b")
    assert message.payload == b"\x00payload\xff"
    assert message.qos == delivered(min(publish_qos, subscribe_qos))
    assert not message.retain


def test_empty_and_large_payloads_and_long_topics(broker: BrokerFactory) -> None:
    client = broker("apps.echo:application").client()
    client.subscribe("out/#", qos=1)
    for payload in (b"", b"x", bytes(1_900_000)):
        client.publish("in/size", payload, qos=1)
        assert client.wait_for("out/size").payload == payload
    topic = "ü/" * 100 + "x" * 60_000
    client.publish(f"in/{topic}", b"1", qos=1)
    assert client.wait_for(f"out/{topic}").payload == b"1"


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_version(broker: BrokerFactory, protocol: int) -> None:
    client = broker("apps.echo:application").client(protocol=protocol)
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"


def test_order_per_publisher(broker: BrokerFactory) -> None:
    started = broker("apps.echo:application")
    client = started.client()
    client.subscribe("out/#", qos=1)
    publishers = [started.client() for _ in range(4)]
    for number in range(250):
        for index, publisher in enumerate(publishers):
            # One QoS each: between QoS 0 and 1 the broker itself keeps no order.
            publisher.publish(f"in/{index}", str(number), qos=index % 2)
    heard: dict[str, list[int]] = {}
    for _ in range(1000):
        message = client.wait_for(timeout=20)
        heard.setdefault(message.topic, []).append(int(message.payload))
    assert heard == {f"out/{index}": list(range(250)) for index in range(4)}


def test_a_message_that_matches_several_filters_arrives_once(broker: BrokerFactory) -> None:
    client = broker("apps.echo:application", environment={"TEST_FILTERS": "in/# in/+ in/x"}).client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    client.publish("in/y", b"2")
    assert [client.wait_for().payload for _ in range(2)] == [b"1", b"2"]


def test_what_is_published_after_subscribe_returned_is_received(client: Client) -> None:
    for number in range(50):
        assert do(client, "subscribe", topic=f"t/{number}", qos=1) is None
        client.publish(f"t/{number}", str(number), qos=1)
        got = json.loads(client.wait_for("got").payload)
        assert got == {
            "app_id": 0,
            "topic": f"t/{number}",
            "payload": str(number),
            "qos": 1,
            "retain": False,
            "redelivered": False,
            "properties": {},
            "client": identity(client.client_id),
        }


def test_unsubscribing_ends_it(client: Client) -> None:
    do(client, "subscribe", topic="a", qos=0)
    do(client, "subscribe", topic="b", qos=0)
    do(client, "unsubscribe", topic="a")
    client.publish("a", b"1")
    client.publish("b", b"2")
    assert json.loads(client.wait_for("got").payload)["topic"] == "b"
    assert do(client, "unsubscribe", topic="never/subscribed") is None


def test_resubscribing_changes_the_qos(client: Client) -> None:
    for qos in (0, 2, 1):
        do(client, "subscribe", topic="a", qos=qos)
        client.publish("a", b"", qos=2)
        assert json.loads(client.wait_for("got").payload)["qos"] == delivered(qos)


def test_consumers_hear_themselves_and_each_other(client: Client) -> None:
    do(client, "spawn_worker", app_id=1, consumer_path="apps.remote.Remote", consumer_params={})
    do(client, "subscribe", topic="news", qos=1)
    wait_for_worker(client)
    do(client, "subscribe", 1, topic="news", qos=0)
    do(client, "publish", topic="news", payload="x", qos=1)
    heard = sorted(
        (got["app_id"], got["qos"]) for got in (json.loads(client.wait_for("got").payload) for _ in range(2))
    )
    assert heard == [(0, 1), (1, 0)]


def test_a_retained_publish_is_kept_and_cleared_by_the_broker(remote: Broker, client: Client) -> None:
    do(client, "publish", topic="state", payload="on", qos=1, retain=True)
    late = remote.client()
    late.subscribe("state")
    message = late.wait_for("state")
    assert (message.payload, message.retain) == (b"on", True)
    do(client, "publish", topic="state", payload="", qos=1, retain=True)
    later = remote.client()
    later.subscribe("#")
    do(client, "publish", topic="after", payload="", qos=0)
    assert later.wait_for().topic == "after" or later.messages[0].topic in ("do/0/publish", "did")
    assert all(message.topic != "state" for message in later.messages)


def test_dollar_topics_need_a_filter_that_names_them(client: Client) -> None:
    do(client, "subscribe", topic="#", qos=0)
    do(client, "subscribe", topic="$mine/+", qos=0)
    do(client, "publish", topic="$mine/x", payload="1")
    topics = [json.loads(client.wait_for("got").payload)["topic"]]
    while topics[-1] != "$mine/x":
        topics.append(json.loads(client.wait_for("got").payload)["topic"])
    assert topics.count("$mine/x") == 1


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("publish", {"topic": "a/+", "payload": ""}, "ValueError: topic 'a/+' contains the wildcard '+'"),
        ("publish", {"topic": "", "payload": ""}, "ValueError: topic '' is empty"),
        ("publish", {"topic": "a", "payload": [1]}, "TypeError: payload must be bytes"),
        ("publish", {"topic": "a", "payload": "", "qos": 3}, "ValueError: qos must be 0, 1 or 2, not 3"),
        ("subscribe", {"topic": "a/#/b", "qos": 0}, "ValueError: filter 'a/#/b'"),
        ("subscribe", {"topic": "a", "qos": None}, "TypeError: qos must be 0, 1 or 2, not None"),
        ("kill_worker", {"app_id": 5}, "ValueError: there is no worker with app_id 5"),
        (
            "spawn_worker",
            {"app_id": 0, "consumer_path": "apps.remote.Remote", "consumer_params": {}},
            "ValueError: app_id 0 is taken by apps.remote:application (master, app_id 0)",
        ),
        (
            "spawn_worker",
            {"app_id": 1, "consumer_path": "apps.nothing.Here", "consumer_params": {}},
            "ApplicationError: there is no module 'apps.nothing'",
        ),
    ],
)
def test_errors_are_raised_at_the_call(client: Client, method: str, arguments: Any, error: str) -> None:
    assert do(client, method, **arguments).startswith(error)


def test_workers_are_spawned_and_killed_by_the_master_alone(client: Client) -> None:
    worker = {"consumer_path": "apps.remote:Remote", "consumer_params": {"room": "hall"}}
    assert do(client, "spawn_worker", app_id=1, **worker) is None
    wait_for_worker(client)
    assert do(client, "spawn_worker", 1, app_id=2, **worker).startswith("PermissionError: ")
    assert do(client, "kill_worker", 1, app_id=0).startswith("PermissionError: ")
    assert do(client, "subscribe", 1, topic="hall", qos=0) is None
    assert do(client, "kill_worker", app_id=1) is None
    assert client.wait_for("gone").payload == b"1"
    client.publish("hall", b"nobody is here")
    assert do(client, "spawn_worker", app_id=1, **worker) is None
    wait_for_worker(client, times=2)
    assert do(client, "subscribe", 1, topic="hall", qos=0) is None
    client.publish("hall", b"somebody is here")
    assert json.loads(client.wait_for("got").payload)["payload"] == "somebody is here"


def test_a_plain_asgi_application(broker: BrokerFactory) -> None:
    client = broker("apps.plain:application").client()
    client.subscribe("answer", qos=1)
    client.publish("plain/x", b"42", qos=1)
    assert client.wait_for("answer").payload == b"42"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "auto"])
@pytest.mark.parametrize("spin", [0, 100])
def test_loops_and_spinning(broker: BrokerFactory, loop: str, spin: int) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    client = broker("apps.echo:application", options={"loop": loop, "spin": spin}).client()
    client.subscribe("out/#", qos=1)
    for number in range(200):
        client.publish("in/x", str(number), qos=1)
        assert client.wait_for("out/x").payload == str(number).encode()


@pytest.mark.inside("queue")
def test_a_full_queue_drops_the_newest_and_says_so(broker: BrokerFactory, tmp_path: Any) -> None:
    go = tmp_path / "go"
    started = broker("apps.slow:application", options={"queue_size": 10}, environment={"TEST_GO": str(go)})
    client = started.client()
    client.subscribe("handled", qos=1)
    client.subscribe("taken", qos=1)
    # Only then has it left the queue.
    client.publish("slow/x", b"0", qos=1)
    client.wait_for("taken")
    for number in range(1, 50):
        client.publish("slow/x", str(number), qos=1)
    started.wait_for_log(
        r"messages for consumers dropped, the newest first: the queue is full\. The last .* topic 'slow/x'"
    )
    go.touch()
    # Ten more had room.
    assert [int(client.wait_for("handled").payload) for _ in range(11)] == list(range(11))
    client.publish("slow/x", b"again", qos=1)
    assert client.wait_for("handled").payload == b"again"


def test_publishing_waits_when_the_way_out_is_full(broker: BrokerFactory) -> None:
    started = broker("apps.flood:application", options={"queue_size": 100})
    client = started.client()
    client.subscribe("flood", qos=0)
    client.publish("go", b"20000", qos=1)
    for number in range(20_000):
        assert int(client.wait_for("flood", timeout=20).payload) == number
