"""What the plugin publishes below `$SYS/broker/mqttasgi/`: each number is moved by what it counts."""

from __future__ import annotations

from pathlib import Path

from conftest import BrokerFactory
from support.broker import Broker, passwords
from support.client import Client
from support.consumers import Consumers
from support.processes import wait_until
from support.statistics import PREFIX, Statistics

EVERY_SECOND = ("sys_interval 1",)


def test_messages_times_and_the_process(broker: BrokerFactory) -> None:
    """By both lanes; what the plugin itself publishes is no message of the application's."""
    started = broker("apps.echo:application", lines=EVERY_SECOND)
    started.wait_for_log("Session with the listener")
    client = started.client()
    client.subscribe("out/#", 2)
    for qos in (0, 1, 2):
        for number in range(10):
            client.publish("in/x", str(number), qos)
    for _ in range(30):
        client.wait_for("out/#")
    statistics = Statistics(started)
    statistics.wait_for(messages__received=30, messages__sent=30, consumers__running=1, session__state="up")
    statistics.wait_for_intervals(2)
    found = statistics.all()
    assert (found["messages/received"], found["messages/sent"]) == ("30", "30")
    assert 0 < int(found["handling/p50"]) <= int(found["handling/p99"])
    assert int(found["wake_ups"]) > 0
    assert started.rss() / 2 < int(found["memory"]) < started.rss() * 2
    # What only others count, or what did not happen.
    for name in ("messages/dropped/queue", "messages/refused", "consumers/failed", "queue/inbound/messages"):
        assert found[name] == "0"


def test_only_changes_come_again_and_all_is_retained(broker: BrokerFactory) -> None:
    started = broker("apps.echo:application", lines=EVERY_SECOND)
    first = Statistics(started)
    first.wait_for_intervals(2)
    came: dict[str, list[bytes]] = {}
    for message in list(first.client.messages):
        came.setdefault(message.topic.removeprefix(PREFIX), []).append(message.payload)
    for name, payloads in came.items():
        assert all(one != next_ for one, next_ in zip(payloads, payloads[1:])), (name, payloads)
    assert came["messages/sent"] == [b"0"]
    second = Statistics(started)
    assert set(second.all()) <= set(first.all())
    wait_until(lambda: set(second.all()) == set(first.all()), 5, "what is retained")
    assert len(first.all()) > 20


def test_a_flood(broker: BrokerFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    started = broker(
        "apps.slow:application",
        options={"queue_size": 5, "session": "off"},
        lines=EVERY_SECOND,
        environment={"TEST_GO": str(go)},
    )
    client = started.client()
    client.subscribe("taken", qos=1)
    client.publish("slow/x", "0", qos=1)
    # It has left the queue.
    client.wait_for("taken")
    for number in range(1, 20):
        client.publish("slow/x", str(number), qos=1)
    statistics = Statistics(started)

    def all_are_counted() -> bool:
        found = statistics.all()
        return int(found.get("messages/received", 0)) + int(found.get("messages/dropped/queue", 0)) == 20

    wait_until(all_are_counted, 10, "the messages received and dropped")
    statistics.wait_for(queue__inbound__messages=5)
    found = statistics.all()
    assert found["messages/dropped/queue"] == "14"
    assert int(found["queue/inbound/bytes"]) > 0
    assert found["session/state"] == "off"
    assert found["handling/p99"] == "0"
    go.touch()
    statistics.wait_for(queue__inbound__messages=0, queue__inbound__bytes=0)
    # It looked for the file at least twice, 10 ms apart; percentiles are right to an eighth.
    wait_until(lambda: int(statistics.all()["handling/p99"]) >= 8750, 10, "the time of the first message")


def test_consumers_that_fail(broker: BrokerFactory) -> None:
    """Restarts, with what waits meanwhile; then it is given up, and what waited is dropped."""
    started = broker(
        "apps.listener:application",
        options={"retries": 1},
        lines=EVERY_SECOND,
        expect_traceback="RuntimeError: as told",
    )
    consumers = Consumers(started)
    consumers.spawn(7)
    consumers.subscribe("k/#", to=7)
    statistics = Statistics(started)
    statistics.wait_for(consumers__running=2, consumers__restarted=0, consumers__failed=0)
    client = started.client()
    client.publish("do/7/break", "{}", qos=1)
    started.wait_for_log("is restarted in 1 s")
    for number in range(5):
        client.publish("k/x", str(number), qos=1, wait=number == 4)
    started.wait_for_log("is given up", timeout=20)
    statistics.wait_for(
        consumers__running=1,
        consumers__restarting=0,
        consumers__restarted=2,
        consumers__failed=1,
        messages__dropped__consumer_ended=5,
    )


def test_the_session_goes(broker: BrokerFactory, tmp_path: Path) -> None:
    started = broker("apps.echo:application", lines=[*EVERY_SECOND, passwords(tmp_path, ann="hall")])
    statistics = Statistics(started, username="ann", password="hall")
    statistics.wait_for(session__state="up")
    # Mosquitto then disconnects who has not logged in.
    started.rewrite(started.configuration().replace("allow_anonymous true", "allow_anonymous false"))
    started.reload()
    statistics.wait_for(session__state="down")


def test_a_consumer_gets_each_once(broker: BrokerFactory) -> None:
    """As an ordinary subscriber does, through the session."""
    started = broker("apps.listener:application", lines=EVERY_SECOND)
    started.wait_for_log("Session with the listener")
    consumers = Consumers(started)
    consumers.subscribe(f"{PREFIX}uptime")
    consumers.subscribe(f"{PREFIX}consumers/#")
    heard = consumers.heard()

    def uptimes() -> list[int]:
        return [int(m.payload) for m in heard if m.topic == f"{PREFIX}uptime"]

    def three_have_come() -> bool:
        heard.extend(consumers.heard())
        return len(uptimes()) > 3

    wait_until(three_have_come, 15, "three intervals")
    assert uptimes() == sorted(set(uptimes()))
    assert [m.retain for m in heard if m.topic == f"{PREFIX}uptime"][:2] == [True, False]
    others = sorted(
        (m.topic.removeprefix(PREFIX), m.payload, m.retain) for m in heard if "consumers/" in m.topic
    )
    assert others == [
        ("consumers/failed", "0", True),
        ("consumers/restarted", "0", True),
        ("consumers/restarting", "0", True),
        ("consumers/running", "1", True),
    ]


def test_a_restart_begins_anew(broker: BrokerFactory) -> None:
    started = broker("apps.echo:application", lines=EVERY_SECOND, persistence=True)
    client = started.client()
    client.subscribe("out/#", 1)
    client.publish("in/x", "1", qos=1)
    client.wait_for("out/#")
    Statistics(started).wait_for(messages__received=1)
    started.restart()
    statistics = Statistics(started)
    statistics.wait_for_intervals(1)
    assert {m.payload for m in statistics.client.messages if m.topic == f"{PREFIX}messages/received"} == {
        b"0"
    }


def _has_retained(started: Broker) -> bool:
    """Whether the broker has kept any of them."""
    with Client(started.port) as client:
        client.subscribe(f"{PREFIX}#")
        client.subscribe("own")
        client.publish("own", qos=0)
        client.wait_for("own")
        return len(client.messages) > 1


def test_sys_interval_is_read_again(broker: BrokerFactory, tmp_path: Path) -> None:
    """Also from a folder; 0 takes back what was published."""
    more = tmp_path / "more"
    more.mkdir()
    (more / "a.conf").write_text("sys_interval 0\n")
    started = broker("apps.echo:application", lines=["sys_interval 1", f"include_dir {more}"])
    started.wait_for_log("Session with the listener")  # and so it has ticked
    assert not _has_retained(started)
    statistics = Statistics(started)
    (more / "a.conf").write_text("")
    started.reload()
    statistics.wait_for_intervals(2)
    assert _has_retained(started)
    (more / "a.conf").write_text("sys_interval 0\n")
    started.reload()
    statistics.wait_for(uptime="", messages__sent="")
    assert not _has_retained(started)
