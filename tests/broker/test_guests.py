"""Code beside consumers publishes and subscribes in a real broker: `mqttasgi.broker`, and the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed
from support.consumers import CallFailed, Recorders, Writer
from support.processes import wait_until
from support.statistics import Statistics


class Hosts(Recorders):
    """The consumers of `apps.guests`."""

    consumer_path = "apps.guests.Host"

    def all_messages(self) -> list[dict[str, Any]]:
        """Return what the master has received since the beginning."""
        return [entry[1] for entry in self.history() if entry[0] == "message"]

    def told(self, name: str, until: bytes) -> list[dict[str, Any]]:
        """Return what came for a guest since the last call, up to a message with this payload."""
        got: list[dict[str, Any]] = []

        def came() -> bool:
            got.extend(self.call("told", name=name))
            return any(message["payload"] == until for message in got)

        wait_until(came, 15, f"the message {until!r}", lambda: f"there came {got}")
        return got


@pytest.fixture
def started(broker: BrokerFactory) -> Broker:
    return broker("apps.guests:application")


@pytest.fixture
def hosts(started: Broker) -> Hosts:
    return Hosts(started)


def payloads(messages: list[dict[str, Any]]) -> list[str]:
    return [message["payload"].decode() for message in messages]


# ---- publishing ----


def test_publishing_from_anywhere(started: Broker, hosts: Hosts) -> None:
    """Clients, consumers and guests hear it."""
    client = started.client()
    client.subscribe("out/#", qos=2)
    hosts.subscribe("out/#")
    hosts.call("open", name="all", topic="out/#", qos=2)
    places = ["here", "task", "view", "signal", "executor", "thread", "loop"]
    for number, place in enumerate(places):
        hosts.call(
            "publish_from",
            where=place,
            topic=f"out/{place}",
            payload=place,
            qos=number % 3,
            properties={"content_type": "x"},
        )
        message = client.wait_for(f"out/{place}")
        assert (message.payload, message.qos) == (place.encode(), number % 3)
        assert message.properties.ContentType == "x"
    assert payloads(hosts.messages()) == places
    assert payloads(hosts.told("all", places[-1].encode())) == places


def test_what_is_retained_stays(started: Broker, hosts: Hosts) -> None:
    hosts.call("publish_from", where="view", topic="state", payload="on", retain=True)
    client = started.client()
    client.subscribe("state")
    assert client.wait_for("state").retain


def test_what_mqtt_forbids_raises_where_it_is_published(hosts: Hosts) -> None:
    for place in ("here", "view", "thread"):
        with pytest.raises(CallFailed, match="ValueError: topic 'a/#' contains the wildcard"):
            hosts.call("publish_from", where=place, topic="a/#", payload="")


def test_threads_publish_all_at_once_and_in_order(broker: BrokerFactory) -> None:
    """Through a queue that is full most of the time."""
    started = broker("apps.guests:application", options={"queue_size": 10})
    hosts = Hosts(started)
    client = started.client()
    client.subscribe("from/#", qos=1)
    hosts.finish(hosts.begin("publish_from_threads", threads=8, times=100), timeout=60)
    heard: dict[str, list[int]] = {}
    for _ in range(800):
        message = client.wait_for(timeout=20)
        heard.setdefault(message.topic, []).append(int(message.payload))
    assert heard == {f"from/{number}": list(range(100)) for number in range(8)}


def test_before_the_application_runs(broker: BrokerFactory) -> None:
    with pytest.raises(BrokerFailed) as failed:
        broker(
            "apps.guests:application",
            environment={"TEST_AT_IMPORT": "1"},
            expect_traceback="TEST_AT_IMPORT",
        )
    assert "broker.publish() while the application is being imported" in str(failed.value)


# ---- subscribing ----


def test_a_guest_gets_what_a_consumer_gets(started: Broker, hosts: Hosts) -> None:
    """Retained, live at each QoS, with properties and publisher, a last will, what consumers publish."""
    client = started.client(client_id="lamp")
    for number in range(20):
        client.publish(f"home/{number}", f"kept {number}", qos=1, retain=True)
    hosts.subscribe("home/#", retain_as_published=True)
    hosts.call("open", name="guest", topic="home/#", qos=2, retain_as_published=True)
    for qos in (0, 1, 2):
        client.publish("home/live", f"live {qos}", qos=qos, retain=qos == 1)
        hosts.call("nothing", over=2)  # QoS 2 comes by another way
    dying = started.client(client_id="dying", will=("home/will", "gone", 1, False))
    dying.abort()
    wait_until(lambda: "gone" in payloads(hosts.all_messages()), 15, "the last will")
    hosts.call("publish", topic="home/own", payload="own")
    hosts.call("publish_from", where="here", topic="home/end", payload="the end")
    got = hosts.told("guest", b"the end")
    expected = hosts.all_messages()

    def key(message: dict[str, Any]) -> str:
        return str(message["topic"])

    # The broker sends retained messages in an order of its own.
    assert sorted(got[:20], key=key) == sorted(expected[:20], key=key)
    assert got[20:] == expected[20:]
    assert payloads(got[20:]) == ["live 0", "live 1", "live 2", "gone", "own", "the end"]
    assert got[20]["client"]["id"] == "lamp"


def test_several_filters_and_two_guests(started: Broker, hosts: Hosts) -> None:
    hosts.call("open", name="one", topic=["a/#", "+/x", "b"])
    hosts.call("open", name="other", topic="a/#", qos=0)
    client = started.client()
    for topic in ("a/x", "b", "c", "a/y"):
        client.publish(topic, topic, qos=1)
    assert payloads(hosts.told("one", b"a/y")) == ["a/x", "b", "a/y"]
    assert [(m["topic"], m["qos"]) for m in hosts.told("other", b"a/y")] == [("a/x", 0), ("a/y", 0)]
    hosts.call("close", name="one")
    client.publish("a/x", "again", qos=1)
    assert payloads(hosts.told("other", b"again")) == ["again"]
    assert hosts.call("told", name="one") == []


def test_guests_share(started: Broker, hosts: Hosts) -> None:
    for name in ("one", "other"):
        hosts.call("open", name=name, topic="$share/g/a", qos=1)
    client = started.client()
    for number in range(10):
        client.publish("a", str(number), qos=1)
    got: list[str] = []

    def all_came() -> bool:
        for name in ("one", "other"):
            got.extend(payloads(hosts.call("told", name=name)))
        return len(got) >= 10

    wait_until(all_came, 15, "ten messages", lambda: f"there came {got}")
    assert sorted(got) == [str(number) for number in range(10)]


def test_guests_come_and_go(broker: BrokerFactory) -> None:
    """While messages come live: what is retained is first, and nothing is left of them."""
    started = broker("apps.guests:application", lines=["sys_interval 1"])
    hosts = Hosts(started)
    client = started.client()
    for number in range(3):
        client.publish(f"kept/{number}", "kept", qos=1, retain=True)
    started.wait_for_log("Session with the listener")
    with Writer(started.client(), [f"kept/{number}" for number in range(3)], qos=1) as writer:
        writer.advance(10)
        number = hosts.begin("visit_often", visitors=15, times=10)
        assert hosts.finish(number, timeout=60) == (150, 1)
    statistics = Statistics(started)
    statistics.wait_for_intervals(2)
    statistics.wait_for(messages__dropped__consumer_ended=0, consumers__running=1)


def test_a_guest_that_does_not_read_disturbs_nobody(broker: BrokerFactory) -> None:
    started = broker("apps.guests:application", lines=["sys_interval 1"])
    hosts = Hosts(started)
    hosts.subscribe("flood/#", qos=1)
    hosts.call("open", name="lazy", reads=False, topic="flood/#", queue_size=100)
    client = started.client()
    for number in range(3000):
        client.paho.publish("flood/x", str(number), qos=1)
    client.publish("flood/x", "the end", qos=1)
    heard: list[str] = []

    def all_came() -> bool:
        heard.extend(payloads(hosts.messages()))
        return "the end" in heard

    wait_until(all_came, 30, "the end of the flood")
    assert heard == [*map(str, range(3000)), "the end"]
    assert hosts.call("lost", name="lazy") == 2901
    assert hosts.call("waiting", name="lazy") == [
        *(str(number).encode() for number in range(2901, 3000)),
        b"the end",
    ]
    started.wait_for_log(
        r"messages for readers of broker\.subscribe\(\) dropped, the oldest first; the last of "
        r"broker\.subscribe\('flood/#'\), .* queue_size \(100\)"
    )
    Statistics(started).wait_for(messages__dropped__consumer_queue=2901)


def test_a_consumer_that_fails_does_not_end_a_guest(broker: BrokerFactory) -> None:
    started = broker("apps.guests:application", expect_traceback="RuntimeError: as told")
    hosts = Hosts(started)
    hosts.spawn(1)
    hosts.call("open", name="guest", topic="a")
    client = started.client()
    client.publish("do/1/fail", "{}", qos=1)
    started.wait_for_log("app_id 1.* is restarted in")
    client.publish("a", "1", qos=1)
    assert payloads(hosts.told("guest", b"1")) == ["1"]


def test_who_logs_what_it_reads_of_the_log_does_not_feed_it(broker: BrokerFactory) -> None:
    started = broker("apps.guests:application", lines=["log_dest topic"])
    started.wait_for_log("Session with the listener")
    hosts = Hosts(started)
    hosts.call("open", name="log", topic="$SYS/broker/log/#", logs=True)
    started.client(client_id="somebody")
    got: list[str] = []

    def came() -> bool:
        got.extend(payloads(hosts.call("told", name="log")))
        return any("somebody" in line for line in got)

    wait_until(came, 15, "a line of the log")
    started.wait_for_log("left out of this log from now on: those that it writes while it handles a line")


# ---- the end ----


def test_at_the_stop_reading_ends_and_last_words_go_out(started: Broker, hosts: Hosts) -> None:
    client = started.client()
    client.subscribe("ended", qos=1)
    hosts.call("open", name="guest", topic="a")
    assert started.stop() == 0
    assert client.wait_for("ended").payload == b"guest"


def test_a_thread_that_publishes_is_told_of_the_stop(started: Broker, hosts: Hosts) -> None:
    client = started.client()
    client.subscribe("beat")
    hosts.call("publish_for_ever")
    client.wait_for("beat")
    assert started.stop() == 0
    assert "thread: broker.publish() to 'beat': the broker stops and takes no more" in started.log()


def test_the_broker_keeps_nothing_for_guests(broker: BrokerFactory) -> None:
    """Their filters end with the session's connection, also where that of the consumers stay."""
    started = broker(
        "apps.guests:application",
        persistence=True,
        options={"cleansession": False, "client_id": "hub"},
    )
    hosts = Hosts(started)
    started.wait_for_log("Session with the listener")
    hosts.subscribe("k/own", qos=1)
    hosts.subscribe("k/both", qos=1)
    hosts.call("open", name="guest", topic=["k/guest", "k/both"])
    assert started.stop() == 0
    plain = Broker(started.folder, plugin=None, persistence=True, port=started.port).start()
    client = plain.client()
    for topic in ("k/guest", "k/own", "k/both"):
        client.publish(topic, topic, qos=1)
    plain.finish()
    since = len(started.log())
    started.start()
    for topic in ("k/own", "k/both"):
        started.wait_for_log(f"Sending PUBLISH to hub .*'{topic}'", since=since)
    # The session is up again: nothing more is to come.
    started.wait_for_log("Session with the listener", since=since)
    assert "'k/guest'" not in started.log()[since:]


def test_the_durable_inbox_keeps_nothing_for_guests(broker: BrokerFactory, tmp_path: Path) -> None:
    """What was for a guest alone was never there, so nothing of it can be redelivered."""
    started = broker(
        "apps.guests:application", lines=["sys_interval 1"], options={"durable": tmp_path / "inbox"}
    )
    hosts = Hosts(started)
    hosts.call("open", name="guest", reads=False, topic="a/#", qos=2)
    client = started.client()
    for qos in (1, 2):
        client.publish("a/x", "1", qos=qos)
    hosts.call("nothing", over=2)
    got: list[bytes] = []

    def both_came() -> bool:
        got.extend(hosts.call("waiting", name="guest"))
        return len(got) == 2

    wait_until(both_came, 15, "both messages")
    statistics = Statistics(started)
    statistics.wait_for_intervals(2)
    statistics.wait_for(durable__messages=0)


# ---- metrics ----


@pytest.mark.parametrize("interval", [1, 0])
def test_metrics(broker: BrokerFactory, interval: int) -> None:
    """They do not need $SYS, and agree with it where it is there."""
    pytest.importorskip("prometheus_client")
    started = broker("apps.guests:application", lines=[f"sys_interval {interval}"])
    hosts = Hosts(started)
    hosts.call("publish_from", where="here", topic="a", payload="")

    def samples() -> dict[str, float]:
        text = hosts.call("scrape")
        lines = [line for line in text.splitlines() if line.startswith("mqttasgi_")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    wait_until(lambda: samples()["mqttasgi_memory_bytes"] > 0, 30, "the first look at the memory")
    wait_until(lambda: samples().get("mqttasgi_session_up") == 1, 30, "the session")
    got = samples()
    assert got["mqttasgi_consumers_running"] == 1
    assert got["mqttasgi_messages_sent_total"] > 0
    assert got['mqttasgi_queue_messages{queue="inbound"}'] >= 0
    assert got["mqttasgi_updated_timestamp_seconds"] > 1e9
    assert not [name for name in got if "durable" in name]
    if interval:
        statistics = Statistics(started)
        statistics.wait_for_intervals(2)
        assert float(statistics.all()["messages/sent"]) >= got["mqttasgi_messages_sent_total"]
        assert statistics.all()["session/state"] == "up"
