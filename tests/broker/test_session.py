"""What only the session brings: retained messages, wills, $SYS, shared subscriptions, QoS 2 once, what was kept."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import BrokerFactory
from support.broker import Broker
from support.processes import PATIENCE, wait_until


class Driver:
    """Drives consumers of `apps.remote` and hears what they got."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.client = broker.client()
        for topic in ("did", "got", "gone", "ready"):
            self.client.subscribe(topic, 1)

    def do(self, method: str, to: int = 0, /, **arguments: Any) -> Any:
        self.client.publish(f"do/{to}/{method}", json.dumps(arguments), qos=1)
        return json.loads(self.client.wait_for("did", timeout=10).payload)["result"]

    def got(self, to: int = 0) -> tuple[str, str, int, bool]:
        """The next message that consumer received: topic, payload, QoS, retain."""
        got = json.loads(self.client.wait_for("got", timeout=10).payload)
        assert got["app_id"] == to
        return got["topic"], got["payload"], got["qos"], got["retain"]

    def spawn(self, app_id: int) -> None:
        self.do("spawn_worker", app_id=app_id, consumer_path="apps.remote.Remote", consumer_params={})
        wait_until(
            lambda: any(
                m.topic == "ready" and m.payload == str(app_id).encode() for m in self.client.messages
            ),
            5,
            "the worker",
        )

    def nothing_more(self, topic: str = "end/of/it") -> None:
        """Everything that was sent has been received, on either lane."""
        self.do("subscribe", topic=topic, qos=2)
        self.client.publish(topic, "2", 2)
        assert self.got()[:2] == (topic, "2")
        self.do("unsubscribe", topic=topic)
        self.do("subscribe", topic=f"{topic}/direct", qos=1)
        self.client.publish(f"{topic}/direct", "1", 1)
        assert self.got()[:2] == (f"{topic}/direct", "1")
        self.do("unsubscribe", topic=f"{topic}/direct")


def start(broker: BrokerFactory, **arguments: Any) -> Driver:
    started = broker("apps.remote:application", **arguments)
    started.wait_for_log("Session with the listener")
    return Driver(started)


# ---- retained messages ----


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_messages_reach_who_subscribes_each_time(broker: BrokerFactory, qos: int) -> None:
    driver = start(broker)
    driver.spawn(1)
    driver.client.publish("state/a", "on", 2, retain=True)
    driver.client.publish("state/b", "off", 1, retain=True)
    driver.do("subscribe", topic="state/a", qos=qos)
    assert driver.got() == ("state/a", "on", qos, True)
    driver.do("subscribe", 1, topic="state/#", qos=qos)
    kept = {driver.got(1) for _ in range(2)}
    assert kept == {("state/a", "on", qos, True), ("state/b", "off", min(qos, 1), True)}
    driver.do("subscribe", topic="state/a", qos=qos)
    assert driver.got() == ("state/a", "on", qos, True)
    driver.client.publish("state/a", "", 1, retain=True)
    heard = {(json.loads(driver.client.wait_for("got").payload)["app_id"]) for _ in range(2)}
    assert heard == {0, 1}
    driver.do("subscribe", topic="state/a", qos=qos)
    driver.nothing_more()


def test_retained_messages_of_before_the_start(broker: BrokerFactory) -> None:
    """The master's connect() subscribes before there is a listener."""
    started = broker("apps.mirror:application", environment={"TEST_FILTERS": "filters"}, persistence=True)
    (started.folder / "filters").write_text('{"state/#": 1}')
    started.client().publish("state/a", "on", 1, retain=True)
    started.restart()
    client = started.client()
    client.subscribe("did", 1)
    report: list[Any] = []

    def come() -> bool:
        client.publish("do/0/report", '{"number": 1}', 1)
        report.extend(json.loads(client.wait_for("did").payload)["result"])
        return bool(report)

    wait_until(come, 10, "the retained message")
    assert report == [["state/a", "b24=", 1, True]]


def test_never_an_older_retained_value_after_a_newer_live_one(broker: BrokerFactory) -> None:
    driver = start(broker)
    writer = driver.broker.client()
    for number in range(2000):
        writer.publish("counter", str(number), number % 2, retain=True, wait=number % 100 == 0)
        if number % 100 == 50:
            driver.client.publish("do/0/subscribe", json.dumps({"topic": "counter", "qos": 1}), 0, wait=False)
            driver.client.publish("do/0/unsubscribe", json.dumps({"topic": "counter"}), 0, wait=False)
    writer.publish("counter", "2000", 1, retain=True)
    driver.do("subscribe", topic="counter", qos=1)
    values: list[tuple[int, bool]] = []
    while not values or values[-1][0] < 2000:
        _, payload, _, retain = driver.got()
        values.append((int(payload), retain))
    # QoS 0 and 1 of one publisher are no order of their own; each is in order.
    for parity in (0, 1):
        lane = [value for value, _ in values if value % 2 == parity]
        late = next((i for i, v in enumerate(lane[1:]) if v < lane[i]), None)
        assert late is None, [v for v in values if abs(v[0] - lane[late]) < 30]
    live = [value for value, retain in values if not retain]
    assert len(live) == len(set(live))


def test_many_retained_messages_while_others_are_published(broker: BrokerFactory, tmp_path: Path) -> None:
    started = broker("apps.mirror:application", environment={"TEST_FILTERS": str(tmp_path / "filters")})
    started.wait_for_log("Session with the listener")
    client, live = started.client(), started.client()
    client.subscribe("did", 1)
    count = 5000
    for number in range(count):
        # The broker refuses more than 20 at once (its Receive Maximum).
        client.publish(f"many/{number}", str(number), number % 3, retain=True, wait=number % 3 == 2)
    client.publish("do/0/subscribe", '{"number": 1, "topic": "live", "qos": 1}', 1)
    client.wait_for("did")
    client.publish("do/0/subscribe", '{"number": 2, "topic": "many/#", "qos": 2}', 1)
    for number in range(1000):
        live.publish("live", str(number), 1, wait=number == 999)
    client.wait_for("did", timeout=20)
    client.publish("do/0/report", '{"number": 3}', 1)
    received = json.loads(client.wait_for("did", timeout=20).payload)["result"]
    kept = {topic: qos for topic, _, qos, retain in received if retain}
    assert kept == {f"many/{number}": number % 3 for number in range(count)}
    assert len(received) == count + 1000
    lively = [int(base64.b64decode(payload)) for topic, payload, _, _ in received if topic == "live"]
    assert lively == list(range(1000))


# ---- wills, $SYS, other plugins ----


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_last_wills(broker: BrokerFactory, qos: int) -> None:
    driver = start(broker)
    driver.do("subscribe", topic="gone/#", qos=2)
    dying = driver.broker.client(will=("gone/at/once", "offline", qos, False))
    dying.publish("gone/at/once", "offline", 1)  # the same, alive
    assert driver.got() == ("gone/at/once", "offline", 1, False)
    dying.abort()
    assert driver.got() == ("gone/at/once", "offline", qos, False)
    driver.nothing_more()


def test_a_delayed_will(broker: BrokerFactory) -> None:
    driver = start(broker)
    driver.do("subscribe", topic="later", qos=1)
    will, connect = Properties(PacketTypes.WILLMESSAGE), Properties(PacketTypes.CONNECT)
    will.WillDelayInterval = 1
    connect.SessionExpiryInterval = 60
    dying = driver.broker.client(will=("later", "offline", 1, True, will), connect_properties=connect)
    dying.abort()
    assert driver.got() == ("later", "offline", 1, False)
    driver.do("subscribe", topic="later", qos=1)
    assert driver.got() == ("later", "offline", 1, True)


def test_a_will_comes_before_what_follows_it(broker: BrokerFactory) -> None:
    driver = start(broker)
    driver.do("subscribe", topic="availability", qos=1)
    for _ in range(20):
        device = driver.broker.client(will=("availability", "offline", 1, True))
        device.publish("availability", "online", 1, retain=True)
        device.abort()
    states = [driver.got()[1] for _ in range(40)]
    assert states == ["online", "offline"] * 20


def test_the_brokers_own_topics(broker: BrokerFactory) -> None:
    driver = start(broker, lines=["sys_interval 1"])
    driver.do("subscribe", topic="$SYS/broker/version", qos=0)
    topic, payload, _, retain = driver.got()
    assert (topic, retain) == ("$SYS/broker/version", True)
    assert payload.startswith("mosquitto version")
    driver.do("subscribe", topic="$SYS/broker/uptime", qos=0)
    assert driver.got()[3]
    assert not driver.got()[3]


OTHER_PLUGIN = r"""
#include <string.h>
#include <mosquitto.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if !__has_include(<mosquitto/broker.h>)
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif

static mosquitto_plugin_id_t *self;

int mosquitto_plugin_version(int count, const int *versions) { (void)count; (void)versions; return 5; }

static int on_message(int event, void *data, void *userdata)
{
	struct mosquitto_evt_message *message = data;

	(void)event;
	(void)userdata;
	if (strcmp(message->topic, "trigger") == 0) {
		(void)mosquitto_broker_publish_copy(NULL, "from/another/plugin", (int)message->payloadlen, message->payload, 1,
				false, NULL);
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	self = id;
	return mosquitto_callback_register(self, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_unregister(self, MOSQ_EVT_MESSAGE, on_message, NULL);
}
"""


def test_messages_of_another_plugin(broker: BrokerFactory, tmp_path: Path) -> None:
    """Loaded before ours: then copies are recognised, not refused, whatever the version."""
    (tmp_path / "other.c").write_text(OTHER_PLUGIN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "other.so", tmp_path / "other.c"], check=True)
    driver = start(broker, lines=[f"plugin {tmp_path}/other.so"])
    driver.do("subscribe", topic="#", qos=1)
    driver.do("unsubscribe", topic="#")
    driver.do("subscribe", topic="from/#", qos=1)
    for payload in ("1", "2", "2"):
        driver.client.publish("trigger", payload, 1)
        assert driver.got() == ("from/another/plugin", payload, 1, False)
        driver.client.publish("from/a/client", payload, 1)
        assert driver.got() == ("from/a/client", payload, 1, False)
    driver.nothing_more()


# ---- nothing twice ----


@pytest.mark.parametrize("session", ["full", "off"])
def test_no_message_comes_twice(broker: BrokerFactory, session: str) -> None:
    started = broker("apps.remote:application", options={"session": session})
    if session == "full":
        started.wait_for_log("Session with the listener")
    driver = Driver(started)
    for topic in ("t/#", "t/+", "+/x", "t/x"):
        driver.do("subscribe", topic=topic, qos=2)
    for qos in (0, 1, 2):
        for _ in range(5):
            driver.client.publish("t/x", "the same", qos)
            assert driver.got() == ("t/x", "the same", qos, False)
        driver.do("publish", topic="t/x", payload="the same", qos=qos)
        assert driver.got() == ("t/x", "the same", qos, False)
    driver.nothing_more("other/end")


def test_many_consumers_on_one_filter(broker: BrokerFactory) -> None:
    driver = start(broker)
    for app_id in range(1, 6):
        driver.spawn(app_id)
        driver.do("subscribe", app_id, topic="all/+", qos=app_id % 3)
    for qos in (0, 1, 2):
        driver.client.publish("all/x", "x", qos)
        heard = [json.loads(driver.client.wait_for("got").payload) for _ in range(5)]
        assert sorted((got["app_id"], got["qos"]) for got in heard) == [
            (app_id, min(qos, app_id % 3)) for app_id in range(1, 6)
        ]


def send_raw(port: int, packets: list[bytes]) -> None:
    """A client that says what it should not, and waits for an answer to each packet."""
    with socket.create_connection(("127.0.0.1", port), timeout=5 * PATIENCE) as connection:
        for packet in packets:
            connection.sendall(packet)
            assert connection.recv(4096)


def test_qos_2_once_though_it_is_sent_again(broker: BrokerFactory) -> None:
    driver = start(broker)
    driver.do("subscribe", topic="once", qos=2)
    connect = b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", 6) + b"sender"
    body = struct.pack("!H", 4) + b"once" + struct.pack("!H", 7) + b"payload"
    publish, again = bytes([0x34, len(body)]) + body, bytes([0x3C, len(body)]) + body
    send_raw(driver.broker.port, [connect, publish, again, b"\x62\x02\x00\x07"])
    assert driver.got() == ("once", "payload", 2, False)
    driver.nothing_more()


def test_unsubscribing_with_messages_in_flight(broker: BrokerFactory) -> None:
    driver = start(broker)
    other = driver.broker.client()
    for qos in (1, 2, 0):
        driver.do("subscribe", topic="busy", qos=qos)
        for number in range(200):
            other.publish("busy", f"{qos} {number}", 2, wait=False)
        driver.do("unsubscribe", topic="busy")
        other.publish("elsewhere", b"", 2)
        numbers = []
        driver.do("subscribe", topic="marker", qos=2)
        other.publish("marker", b"", 2)
        while True:
            topic, payload, _, _ = driver.got()
            if topic == "marker":
                break
            numbers.append(int(payload.split()[1]))
        driver.do("unsubscribe", topic="marker")
        assert numbers == sorted(set(numbers))


# ---- shared subscriptions ----


def test_a_consumer_and_a_client_share_the_load(broker: BrokerFactory) -> None:
    driver = start(broker)
    client = driver.broker.client()
    client.subscribe("$share/crew/jobs/+", 1)
    driver.do("subscribe", topic="$share/crew/jobs/+", qos=1)
    driver.spawn(1)
    driver.do("subscribe", 1, topic="jobs/x", qos=1)  # not of the crew: hears everything
    for number in range(40):
        driver.client.publish("jobs/x", str(number), 1)

    def heard(app_id: int) -> list[int]:
        got = [json.loads(m.payload) for m in driver.client.messages if m.topic == "got"]
        return [int(message["payload"]) for message in got if message["app_id"] == app_id]

    wait_until(lambda: len(heard(1)) == 40, 5, "the worker's messages")
    wait_until(lambda: len(heard(0)) + len(client.messages) == 40, 5, "the crew's messages")
    assert heard(1) == list(range(40))
    assert sorted(heard(0) + [int(m.payload) for m in client.messages]) == list(range(40))
    assert 5 < len(client.messages) < 35


def test_two_consumers_share_the_load(broker: BrokerFactory) -> None:
    driver = start(broker)
    driver.spawn(1)
    for app_id in (0, 1):
        driver.do("subscribe", app_id, topic="$share/crew/jobs", qos=2)
    heard: list[tuple[int, str]] = []
    for number in range(20):
        driver.client.publish("jobs", str(number), number % 3)
        got = json.loads(driver.client.wait_for("got").payload)
        heard.append((got["app_id"], got["payload"]))
    assert [payload for _, payload in heard] == [str(number) for number in range(20)]
    assert [app_id for app_id, _ in heard].count(0) == 10
    driver.nothing_more()


def test_without_a_session_nothing_is_shared(broker: BrokerFactory) -> None:
    driver = Driver(broker("apps.remote:application", options={"session": "off"}))
    result = driver.do("subscribe", topic="$share/crew/jobs", qos=0)
    assert result.startswith("ValueError: filter '$share/crew/jobs'") and "plugin_opt_session" in result


# ---- cleansession false ----


def test_what_comes_while_the_application_has_failed_is_handled_later(
    broker: BrokerFactory, tmp_path: Path
) -> None:
    filters = tmp_path / "filters"
    filters.write_text('{"in/#": 2, "unimportant": 0}')
    started = broker(
        "apps.mirror:application",
        environment={"TEST_FILTERS": str(filters)},
        options={"cleansession": False},
        persistence=True,
        expect_traceback="as told",
    )
    started.wait_for_log("Session with the listener")
    client = started.client()
    client.publish("do/0/fail", '{"number": 1}', 1)
    started.wait_for_log("The application has failed: the broker keeps its QoS 1 and 2 messages")
    for number in range(100):
        client.publish(f"in/{number % 3}", str(number), 1 + number % 2)
    client.publish("in/0", "not kept", 0)
    client.publish("unimportant", "not kept", 1)
    position = len(started.log())
    started.restart()
    client = started.client()
    for number in range(100, 120):
        client.publish(f"in/{number % 3}", str(number), 1)
    started.wait_for_log("Session with the listener", since=position)
    client.subscribe("did", 1)
    received: list[Any] = []

    def complete() -> bool:
        client.publish("do/0/report", '{"number": 2}', 1)
        received.extend(json.loads(client.wait_for("did", timeout=10).payload)["result"])
        return len(received) >= 120

    wait_until(complete, 10, "what was kept", lambda: str(received))
    numbers = [int(base64.b64decode(payload)) for _, payload, _, _ in received]
    assert sorted(numbers) == list(range(120))
    # In order per publisher and QoS; and what was kept before what came after the restart.
    for qos in (1, 2):
        lane = [number for number in numbers if number < 100 and 1 + number % 2 == qos]
        assert lane == sorted(lane)
    assert set(numbers[:100]) == set(range(100))
    assert numbers[100:] == list(range(100, 120))
