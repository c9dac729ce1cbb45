"""What pages of the process see and do, in a real broker: consumers, clients, the log."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed, mosquitto_version
from support.client import Client
from support.consumers import Recorders
from support.ports import free_port
from support.processes import wait_until

APPLICATION = "apps.inside:application"
NEW = mosquitto_version() >= (2, 1)

ADMINISTRATIVE = 0x98
V311, V5 = 4, 5


class Pages(Recorders):
    """The consumers of `apps.inside`."""

    consumer_path = "apps.inside.Inside"

    def view(self, app_id: str) -> dict[str, Any]:
        """Return what is shown of a consumer, "" for the master."""
        (found,) = (view for view in self.call("look") if view["app_id"] == app_id)
        return dict(found)

    def wait_for_state(self, app_id: str, state: str) -> None:
        wait_until(lambda: self.view(app_id)["state"] == state, 15, f"consumer {app_id!r} being {state}")

    def kept(self, app_id: int) -> list[int]:
        """Return what a consumer has heard on `k/#` in all of its runs."""
        self.call("nothing", app_id, over=2)
        return [int(payload) for payload in self.call("what_was_kept", app_id=app_id)]


def start(broker: BrokerFactory, **arguments: Any) -> tuple[Broker, Pages]:
    options = {"connect_events": True, **arguments.pop("options", {})}
    started = broker(APPLICATION, options=options, **arguments)
    started.wait_for_log("Session with the listener")
    return started, Pages(started)


@pytest.fixture
def started(broker: BrokerFactory) -> tuple[Broker, Pages]:
    return start(broker)


# ---- clients ----


def test_clients_come_and_go(started: tuple[Broker, Pages]) -> None:
    """Those who were there before anybody looked, too; never the plugin's own."""
    broker, pages = started
    broker.client(client_id="old", protocol=V311)
    assert pages.call("open")
    seen = pages.call("see")
    assert set(seen) == {"old", pages.client.client_id}
    assert seen["old"] == ("old", "", "127.0.0.1", "MQTT 3.1.1", "", 0.0)
    pages.call("watch")
    before = time.time()
    broker.client(client_id="new")
    seen = pages.call("see")
    assert seen["new"][:5] == ("new", "", "127.0.0.1", "MQTT 5", "")
    assert before - 1 <= seen["new"][5] <= time.time() + 1
    broker.client(client_id="old", protocol=V5)  # takes over
    wait_until(lambda: pages.call("see")["old"][3] == "MQTT 5", 5, "the other client")
    pages.call("close")
    assert "clients" in pages.call("told")
    pages.call("watch_no_more")
    for _ in range(3):  # and again, from the beginning
        assert pages.call("open")
        assert set(pages.call("see")) == {"old", "new", pages.client.client_id}
        pages.call("close")


def test_without_connect_events(broker: BrokerFactory) -> None:
    _, pages = start(broker, options={"connect_events": False})
    assert pages.call("open") is NEW
    pages.call("close")


@pytest.mark.parametrize("protocol", [V311, V5])
def test_a_client_is_disconnected(started: tuple[Broker, Pages], protocol: int) -> None:
    broker, pages = started
    reasons: list[int] = []
    hears = broker.client()
    hears.subscribe("will", qos=1)
    pages.call("watch_clients")
    pages.subscribe("will")
    lamp = broker.client(client_id="lamp", protocol=protocol, will=("will", "gone", 1, False))
    lamp.paho.on_disconnect = lambda *told: reasons.append(told[3].value)
    pages.call("open")
    assert pages.call("kick", client_id="lamp")
    assert hears.wait_for("will").payload == b"gone"
    story = pages.wait_for_end_of("lamp")
    if NEW:
        assert story[-1][2]["code"] == ADMINISTRATIVE
    wait_until(lambda: len(reasons) == 1, 5, "the end of the connection")
    if protocol == V5:
        assert reasons == [ADMINISTRATIVE]
    assert set(pages.call("see")) == {hears.client_id, pages.client.client_id}
    assert [entry[1]["payload"] for entry in pages.history() if entry[0] == "message"] == [b"gone"]
    assert not pages.call("kick", client_id="nobody")
    # One that is back is as good as new.
    again = broker.client(client_id="lamp", protocol=protocol)
    again.subscribe("x")
    hears.publish("x", "y", qos=1)
    assert again.wait_for("x").payload == b"y"


def test_who_is_not_disconnected(started: tuple[Broker, Pages]) -> None:
    broker, pages = started
    broker.client(client_id="la")
    pages.call("open")
    for name in ("la\0mp", "\ud800", "", "x" * 100_000):
        assert not pages.call("kick", client_id=name), name
    assert "la" in pages.call("see")


@pytest.mark.parametrize("connect_events", [True, False])
@pytest.mark.parametrize("protocol", [V311, V5])
def test_who_is_offline_is_not_disconnected(
    broker: BrokerFactory, protocol: int, connect_events: bool
) -> None:
    """Mosquitto finds a client whose session it keeps, and says that it has disconnected it."""
    started, pages = start(broker, options={"connect_events": connect_events})
    lamp = started.client(client_id="lamp", protocol=protocol, clean=False)
    assert pages.call("kick", client_id="lamp")
    wait_until(lambda: not lamp.connected, 5, "the end of the connection")
    assert not pages.call("kick", client_id="lamp")
    started.client(client_id="lamp", protocol=protocol, clean=False)
    assert pages.call("kick", client_id="lamp")


def test_a_client_by_websockets_is_disconnected(broker: BrokerFactory) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "protocol websockets"]
    try:
        started, pages = start(broker, lines=lines)
    except BrokerFailed as failure:
        assert "ebsockets" in failure.log
        pytest.skip("this Mosquitto has no websockets")
    page = started.client(client_id="page", port=port, transport="websockets")
    assert pages.call("kick", client_id="page")
    wait_until(lambda: not page.connected, 5, "the end of the connection")
    wait_until(lambda: not pages.call("kick", client_id="page"), 5, "the end of the client")


def test_the_session_is_not_disconnected(broker: BrokerFactory) -> None:
    started, pages = start(broker, options={"client_id": "the-session"})
    assert not pages.call("kick", client_id="the-session")
    client = started.client()
    client.publish("k/x", "1", qos=2)
    assert pages.kept(0) == [1]
    assert "the-session disconnected" not in started.log()


def test_a_client_whose_own_message_asks_for_it(started: tuple[Broker, Pages]) -> None:
    """The broker is in the middle of its PUBLISH, or has just been: with many more behind it."""
    broker, pages = started
    hears = broker.client()
    hears.subscribe("k/#", qos=1)
    for turn in range(20):
        asks = broker.client(client_id=f"asks-{turn}", will=("will", "x", 1, False))
        command = repr({"number": -1 - turn, "arguments": {"client_id": asks.client_id}})
        asks.paho.publish("do/0/kick", command, qos=turn % 3)
        for number in range(50):
            asks.paho.publish("k/x", str(number), qos=turn % 3)
        wait_until(lambda: not asks.connected, 5, "the end")  # noqa: B023
    assert broker.running
    assert pages.call("kick", client_id="asks-0") is False


def test_many_clients_at_once(started: tuple[Broker, Pages]) -> None:
    broker, pages = started
    clients = [
        broker.client(client_id=f"c{number}", clean=number % 2 == 0, protocol=(V311, V5)[number % 3 == 0])
        for number in range(60)
    ]
    for client in clients:
        client.subscribe("k/#", qos=1)
    numbers = [pages.begin("kick", client_id=client.client_id) for client in clients]
    publisher = broker.client()
    for number in range(100):
        publisher.publish("k/x", str(number), qos=number % 3)
    assert all(pages.finish(number) for number in numbers)
    wait_until(lambda: not any(client.connected for client in clients), 10, "the end of all")
    assert sorted(pages.kept(0)) == list(range(100))


# ---- consumers ----


@pytest.mark.parametrize("durable", [False, True])
def test_a_worker_is_started_again(broker: BrokerFactory, durable: bool, tmp_path: Any) -> None:
    options = {"durable": tmp_path / "inbox", "client_id": "hub"} if durable else {}
    started, pages = start(broker, options=options)
    pages.spawn(1)
    client = started.client()
    left = started.client()
    left.subscribe("left", qos=1)
    handle = pages.view("1")["handle"]
    for number in range(400):
        client.publish("k/x", str(number), qos=number % 3 if not durable else 1 + number % 2)
        if number % 100 == 50:
            assert pages.call("restart", handle=handle)
    wait_until(lambda: pages.view("1")["restarts"] >= 4, 10, "its runs")
    pages.wait_for_state("1", "running")
    wait_until(lambda: len(pages.kept(1)) >= 400, 10, "all messages")
    assert sorted(pages.kept(1)) == list(range(400))
    assert sorted(pages.kept(0)) == list(range(400))
    view = pages.view("1")
    assert (view["handle"], view["error"], view["waiting"]) == (handle, "", 0)
    assert [left.wait_for("left").payload for _ in range(4)] == [b"1"] * 4
    assert "started again, as somebody has asked for" in started.log()


def test_a_master_that_asks_for_it_itself(started: tuple[Broker, Pages]) -> None:
    broker, pages = started
    pages.spawn(1)
    client = broker.client()
    client.publish("k/x", "1", qos=1)
    pages.begin("restart", handle=1)
    client.publish("k/x", "2", qos=1)
    wait_until(lambda: pages.view("")["restarts"] == 1, 10, "its next run")
    assert pages.kept(0) == [1, 2]
    assert pages.view("1")["restarts"] == 0
    values = pages.call("values")
    assert (values["consumers/running"], values["consumers/failed"]) == (2, 0)


@pytest.mark.parametrize("durable", [False, True])
def test_a_worker_that_was_given_up(broker: BrokerFactory, durable: bool, tmp_path: Any) -> None:
    """With a durable inbox it gets what came meanwhile, too."""
    options: dict[str, Any] = {"durable": tmp_path / "inbox", "client_id": "hub"} if durable else {}
    started, pages = start(
        broker, options={"retries": 1, **options}, expect_traceback="RuntimeError: as told"
    )
    pages.spawn(1)
    pages.call("refuse", app_id=1, times=2)
    pages.begin("fail", 1)
    pages.wait_for_state("1", "failed")
    view = pages.view("1")
    assert "RuntimeError: as told" in view["error"] and view["error_time"] <= view["since"]
    client = started.client()
    client.publish("k/x", "1", qos=1)
    assert pages.call("restart", handle=view["handle"])
    pages.wait_for_state("1", "running")
    client.publish("k/x", "2", qos=1)
    assert pages.kept(1) == ([1, 2] if durable else [2])
    assert not pages.call("restart", handle=view["handle"])
    assert pages.view("1")["restarts"] >= 2


# ---- the log ----


def test_the_log_is_what_the_broker_logs(started: tuple[Broker, Pages]) -> None:
    """Of the plugin's C, the runtime and the application, in the broker's order; and no more often."""
    broker, pages = started
    pages.call("watch")
    pages.call("log", text="first\nsecond ü")
    lines = pages.call("lines")
    logged = re.findall(r"mqttasgi: (.*)$", broker.log(), re.MULTILINE)
    assert [text for *_, text in lines] == logged[: len(lines)]
    assert [number for number, *_ in lines] == list(range(1, len(lines) + 1))
    assert any("Session with the listener" in text for *_, text in lines)
    assert lines[-1][2:] == ("warning", "second ü")
    assert abs(lines[-1][1] - time.time()) < 60
    last = lines[-1][0]
    pages.call("log", text="third")
    assert [text for *_, text in pages.call("lines", after=last)] == ["apps: third"]
    wait_until(lambda: "log" in pages.call("told"), 5, "the word of it")
    pages.call("watch_no_more")


def test_the_log_is_bounded(broker: BrokerFactory) -> None:
    _, pages = start(broker, options={"log_lines": 0})
    pages.call("log", text="line #", times=3000)
    lines = pages.call("lines")
    assert len(lines) == 1000
    assert [text for *_, text in lines[-3:]] == [f"apps: line {number}" for number in (2997, 2998, 2999)]
    pages.call("log", text="ü" * 10_000, times=200)
    lines = pages.call("lines")
    assert sum(len(text.encode()) for *_, text in lines) <= 262_144
    assert all(set(text.removeprefix("apps: ")) == {"ü"} for *_, text in lines)


def test_at_the_stop(started: tuple[Broker, Pages]) -> None:
    broker, pages = started
    assert pages.call("open")
    pages.call("watch")
    clients = [Client(broker.port, client_id=f"c{number}") for number in range(5)]
    for number in range(5):
        pages.begin("kick", client_id=f"c{number}")
    assert broker.stop() == 0
    for client in clients:
        client.close()
