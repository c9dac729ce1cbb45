"""Who comes and goes: `client_connected()` and `client_disconnected()` of consumers that watch clients."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from conftest import BrokerFactory
from support.broker import Broker, mosquitto_version, passwords
from support.client import Client
from support.consumers import Recorders, identity
from support.packets import (
    DISCONNECT,
    PUBACK,
    PacketClient,
    connect_packet,
    packet,
    publish_packet,
    release_packet,
    shout,
    string,
)
from support.processes import PATIENCE, wait_until

APPLICATION = "apps.recorder:application"
NEW = mosquitto_version() >= (2, 1)
SUPPORT = Path(__file__).resolve().parents[1] / "support"

NORMAL, LOST, TIMEOUT, TAKEN_OVER, ADMINISTRATIVE = 0, 0x80, 0x8D, 0x8E, 0x98
"""Reason codes of MQTT 5."""

V31, V311, V5 = 3, 4, 5


def start(broker: BrokerFactory, **arguments: Any) -> Broker:
    """Starts a broker with `apps.recorder` and connect events, and waits for its session."""
    options = {"connect_events": True, **arguments.pop("options", {})}
    started = broker(APPLICATION, options=options, **arguments)
    started.wait_for_log("Session with the listener")
    return started


def watch(started: Broker, **arguments: Any) -> Recorders:
    """Lets the master watch clients, and hear what they publish to `w/#`."""
    recorders = Recorders(started, **arguments)
    recorders.call("watch_clients")
    recorders.subscribe("w/#")
    return recorders


@pytest.fixture
def started(broker: BrokerFactory) -> Broker:
    return start(broker)


@pytest.fixture
def watching(started: Broker) -> Recorders:
    return watch(started)


def kinds(story: list[tuple[Any, ...]]) -> list[str]:
    return [entry[0] for entry in story]


def check_reason(reason: dict[str, Any], code: int, session_ends: bool | None) -> None:
    """Checks why a client went. Mosquitto 2.0 does not tell plugins."""
    assert set(reason) == {"code", "name", "session_ends"}
    assert reason["code"] == (code if NEW else None)
    assert isinstance(reason["name"], str) and reason["name"]
    assert (reason["name"] == "unknown") is not NEW
    assert reason["session_ends"] is session_ends


def ends(protocol: int, clean: bool) -> bool | None:
    """What is said of the session's end: 2.0 does not tell plugins what an MQTT 5 client wished."""
    return clean if protocol != V5 or NEW else None


def persistent(protocol: int) -> dict[str, Any]:
    """Arguments for a client whose session outlives the connection."""
    if protocol != V5:
        return {"protocol": protocol, "clean": False}
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    return {"protocol": protocol, "connect_properties": properties}


# ---- coming and going ----


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
@pytest.mark.parametrize("protocol", [V31, V311, V5])
def test_a_client_that_says_goodbye(started: Broker, watching: Recorders, protocol: int, clean: bool) -> None:
    arguments = {"protocol": protocol} if clean else persistent(protocol)
    client = started.client(client_id="lamp", **arguments)
    assert watching.story("lamp") == [("connected", identity("lamp", protocol))]
    client.close()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "disconnected"]
    assert story[0][1] == story[1][1] == identity("lamp", protocol)
    check_reason(story[1][2], NORMAL, ends(protocol, clean))


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
@pytest.mark.parametrize("protocol", [V31, V311, V5])
def test_a_connection_that_is_lost(started: Broker, watching: Recorders, protocol: int, clean: bool) -> None:
    arguments = {"protocol": protocol} if clean else persistent(protocol)
    started.client(client_id="lamp", **arguments).abort()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "disconnected"]
    assert story[1][1] == identity("lamp", protocol)
    check_reason(story[1][2], LOST, ends(protocol, clean))


@pytest.mark.parametrize("protocol", [V311, V5])
def test_a_client_that_falls_silent(started: Broker, watching: Recorders, protocol: int) -> None:
    with PacketClient(started.port, "lamp", protocol=protocol, keepalive=1):
        story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "disconnected"]
    check_reason(story[1][2], TIMEOUT, ends(protocol, True))


@pytest.mark.parametrize("second", [V311, V5])
@pytest.mark.parametrize("first", [V311, V5])
def test_a_client_that_is_taken_over(started: Broker, watching: Recorders, first: int, second: int) -> None:
    started.client(client_id="twin", protocol=first)
    started.client(client_id="twin", protocol=second)
    story = watching.story("twin")
    assert kinds(story) == ["connected", "disconnected", "connected"]
    assert [entry[1] for entry in story] == [identity("twin", version) for version in (first, first, second)]
    reason = story[1][2]
    if NEW:
        check_reason(reason, TAKEN_OVER, None)
    else:
        assert (reason["code"], reason["name"]) == (None, "unknown")


def test_a_session_that_goes_on(started: Broker, watching: Recorders) -> None:
    for _ in range(3):
        started.client(client_id="lamp", **persistent(V311)).close()
        started.client(client_id="lamp", clean=False, protocol=V5).abort()
    assert kinds(watching.wait_for_end_of("lamp", times=6)) == ["connected", "disconnected"] * 6


@pytest.mark.skipif(not NEW, reason="Mosquitto 2.0 does not tell plugins when a session ends")
@pytest.mark.parametrize("interval", [0, 60])
def test_a_client_that_changes_the_end_of_its_session(
    started: Broker, watching: Recorders, interval: int
) -> None:
    """MQTT 5, 3.14.2.2.2: with its DISCONNECT."""
    client = started.client(client_id="lamp", **persistent(V5))
    properties = Properties(PacketTypes.DISCONNECT)
    properties.SessionExpiryInterval = interval
    client.paho.disconnect(properties=properties)
    story = watching.wait_for_end_of("lamp")
    check_reason(story[1][2], NORMAL, interval == 0)


def test_a_goodbye_with_a_will(started: Broker, watching: Recorders) -> None:
    """DISCONNECT with reason 0x04: the client goes in an orderly way, and wants its will sent."""
    client = started.client(client_id="lamp", will=("w/will", "gone", 1, False))
    client.paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    watching.wait_for_end_of("lamp")
    wait_until(lambda: "message" in kinds(watching.history()), 5, "the will")
    assert kinds(watching.history())[-2:] == ["disconnected", "message"]


@pytest.fixture(scope="module")
def kicking_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plugin = tmp_path_factory.mktemp("plugin") / "kicking_plugin.so"
    compiler = os.environ.get("CC", "gcc")
    source = SUPPORT / "kicking_plugin.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-g", "-O1", "-o", plugin, source], check=True)
    return plugin


@pytest.mark.parametrize("protocol", [V311, V5])
def test_a_client_that_is_sent_away(broker: BrokerFactory, kicking_plugin: Path, protocol: int) -> None:
    started = start(broker, lines_after=[f"plugin {kicking_plugin}"])
    watching = watch(started)
    victim = started.client(client_id="lamp", protocol=protocol)
    started.client().publish("kick", "lamp", qos=1)
    victim.wait_for_disconnect()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "disconnected"]
    check_reason(story[1][2], ADMINISTRATIVE, ends(protocol, True))


@pytest.mark.parametrize("protocol", [V311, V5])
def test_a_client_that_breaks_the_protocol(started: Broker, watching: Recorders, protocol: int) -> None:
    with PacketClient(started.port, "lamp", protocol=protocol) as lamp:
        # There is no packet of kind 0.
        lamp.send(b"\x00\x00")
        lamp.wait_for_end()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "disconnected"]
    if NEW:
        assert story[1][2]["code"] not in (None, NORMAL)


# ---- who is not reported ----


def test_refused_logins(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="h", test="t", lamp="its secret")],
        options={"username": "hub", "password": "h"},
    )
    watching = watch(started, username="test", password="t")
    for protocol in (V31, V311, V5):
        for login in ({}, {"username": "lamp", "password": "wrong"}, {"username": "nobody", "password": "t"}):
            with pytest.raises(ConnectionError):
                started.client(client_id=f"refused {protocol}", protocol=protocol, **login)
    lamp = started.client(client_id="lamp", username="lamp", password="its secret")
    lamp.close()
    story = watching.wait_for_end_of("lamp")
    assert story[0][1] == story[1][1] == identity("lamp", username="lamp")
    assert "refused" not in repr(watching.history())


def test_a_refused_login_under_the_name_of_somebody_present(broker: BrokerFactory, tmp_path: Path) -> None:
    """Who is there stays there, and goes as who he was."""
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="h", test="t", lamp="its secret")],
        options={"username": "hub", "password": "h"},
    )
    watching = watch(started, username="test", password="t")
    lamp = started.client(client_id="lamp", username="lamp", password="its secret")
    for username, password in (("lamp", "wrong"), ("test", "wrong"), ("nobody", "x")):
        with pytest.raises(ConnectionError):
            started.client(client_id="lamp", username=username, password=password)
    lamp.publish("w/a", "x", qos=1)
    lamp.close()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == ["connected", "message", "disconnected"]
    for entry in story:
        found = entry[1]["client"] if entry[0] == "message" else entry[1]
        assert found == identity("lamp", username="lamp")


def test_connections_that_never_become_clients(started: Broker) -> None:
    watching = watch(started)
    before = watching.entries()
    attempts = {
        "no id": connect_packet("", clean=False),
        "no such version": packet(0x10, string("MQTT") + b"\x07\x02\x00\x3c" + string("refused")),
        "no such protocol": packet(0x10, string("TTQM") + b"\x04\x02\x00\x3c" + string("refused")),
        "cut off": connect_packet("refused")[:-3] + DISCONNECT + bytes(1),
        "no connect at all": publish_packet("w/a", b"refused", 1, 1),
        "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }
    for name, said in attempts.items():
        answer = shout(started.port, said)
        assert answer[:1] != b"\x20" or answer[3] != 0, f"{name}: it was let in"
    assert watching.entries() == []
    started.client(client_id="lamp").close()
    assert kinds(watching.wait_for_end_of("lamp")) == ["connected", "disconnected"]
    assert "refused" not in repr([*before, *watching.history()])


def test_a_client_that_is_refused_at_the_last_moment(broker: BrokerFactory) -> None:
    """An MQTT 3.1.1 client cannot be told to keep alive more often: newer brokers refuse it, after all other checks."""
    started = start(broker, lines=["max_keepalive 300"])
    watching = watch(started)
    answer = shout(started.port, connect_packet("hopeful", keepalive=3600) + DISCONNECT)
    assert answer[0] == 0x20
    started.client(client_id="lamp").close()
    assert kinds(watching.wait_for_end_of("lamp")) == ["connected", "disconnected"]
    assert kinds(watching.story("hopeful")) == ([] if answer[3] else ["connected", "disconnected"])


def test_the_second_connect_of_a_connection(started: Broker, watching: Recorders) -> None:
    """MQTT 3.1.0: it is a protocol error, and no second coming."""
    for protocol in (V311, V5):
        name = f"lamp {protocol}"
        shout(started.port, connect_packet(name, protocol=protocol) + connect_packet("other"))
        assert kinds(watching.wait_for_end_of(name)) == ["connected", "disconnected"]
    assert watching.story("other") == []


def test_the_plugins_own_session(broker: BrokerFactory) -> None:
    """Neither at the beginning, nor when it is lost and comes back, nor to one who watches late."""
    started = start(broker, options={"client_id": "the-session"})
    watching = watch(started)
    since = len(started.log())
    # Somebody else takes its name: that one is a client, as any other.
    started.client(client_id="the-session", protocol=V311).close()
    started.wait_for_log("the connection was lost|is lost", since=since)
    started.wait_for_log("is back", 20, since=since)
    watching.spawn(1)
    watching.call("watch_clients", 1)
    started.client(client_id="lamp").close()
    for app_id in (0, 1):
        watching.wait_for_end_of("lamp", app_id)
    assert all(entry[1]["protocol_version"] == V311 for entry in watching.story("the-session"))
    assert watching.story("the-session", 1) == []


# ---- who is told ----


def test_a_late_watcher(started: Broker, watching: Recorders) -> None:
    present = [
        started.client(client_id=f"lamp {number}", protocol=(V311, V5)[number % 2]) for number in range(10)
    ]
    gone = started.client(client_id="gone")
    gone.close()
    watching.wait_for_end_of("gone")
    watching.spawn(1)
    watching.call("watch_clients", 1)
    told = watching.entries(1)
    assert kinds(told) == ["connected"] * 11
    assert sorted(entry[1]["id"] for entry in told) == sorted(
        [*(client.client_id for client in present), watching.client.client_id]
    )
    for number, client in enumerate(present):
        assert ("connected", identity(client.client_id, (V311, V5)[number % 2])) in told
        client.close()
    started.client(client_id="newcomer")
    for client in present:
        assert kinds(watching.wait_for_end_of(client.client_id, 1)) == ["connected", "disconnected"]
        assert kinds(watching.wait_for_end_of(client.client_id)) == ["connected", "disconnected"]
    assert kinds(watching.story("newcomer", 1)) == ["connected"]
    assert watching.story("gone", 1) == []


def test_a_late_watcher_while_clients_come_and_go(started: Broker, watching: Recorders) -> None:
    """Whenever it begins: of each client it is told that it came before that it went, and of each once."""
    with Crowd(started.port, 200) as crowd:
        for app_id in range(1, 6):
            crowd.wait_for(35 * app_id)
            watching.spawn(app_id)
            watching.call("watch_clients", app_id)
    for name in crowd.names:
        watching.wait_for_end_of(name)
    for app_id in range(1, 6):
        for name in crowd.names:
            events = [kind for kind in kinds(watching.story(name, app_id)) if kind != "message"]
            assert events in ([], ["connected", "disconnected"]), (app_id, name)
    # All are watching now.
    started.client(client_id="the last").close()
    for app_id in range(1, 6):
        assert kinds(watching.wait_for_end_of("the last", app_id)) == ["connected", "disconnected"]


def test_who_does_not_ask_is_not_told(started: Broker) -> None:
    recorders = Recorders(started)
    recorders.spawn(1)
    recorders.call("watch_clients", 1)
    started.client(client_id="lamp").close()
    recorders.wait_for_end_of("lamp", 1)
    assert recorders.history() == []


def test_a_plain_asgi_application(broker: BrokerFactory) -> None:
    started = broker("apps.plain_events:application", options={"connect_events": True})
    started.wait_for_log("Session with the listener")
    client = started.client()
    client.subscribe("event", 1)
    for number in range(5):
        started.client().close()
        client.publish("plain/x", str(number), qos=number % 3)
        assert client.wait_for("event").payload == b"mqtt.msg"
    # What it said at first went out before there was anybody to hear it.
    assert {bytes(message.payload) for message in client.messages} == {b"mqtt.msg"}


def test_a_watcher_that_has_been_killed(started: Broker, watching: Recorders) -> None:
    for _ in range(2):
        watching.spawn(1)
        watching.call("watch_clients", 1)
        assert [entry[1]["id"] for entry in watching.entries(1)] == [watching.client.client_id]
        watching.call("kill_worker", app_id=1)
        started.client(client_id="lamp").close()
    assert kinds(watching.wait_for_end_of("lamp", times=2)) == ["connected", "disconnected"] * 2


def test_watching_without_a_session(broker: BrokerFactory) -> None:
    started = broker(APPLICATION, options={"connect_events": True, "session": "off"})
    watching = watch(started)
    started.client(client_id="lamp").publish("w/a", "x", qos=2)
    started.client(client_id="lamp").close()
    story = watching.wait_for_end_of("lamp", times=2)
    assert kinds(story) == ["connected", "message", "disconnected", "connected", "disconnected"]


def test_after_a_restart(started: Broker, watching: Recorders) -> None:
    started.client(client_id="lamp", **persistent(V311))
    since = len(started.log())
    started.restart()
    started.wait_for_log("Session with the listener", since=since)
    again = watch(started)
    assert again.story("lamp") == []
    started.client(client_id="lamp", **persistent(V311)).close()
    assert kinds(again.wait_for_end_of("lamp")) == ["connected", "disconnected"]


def test_after_a_reload(started: Broker, watching: Recorders) -> None:
    since = len(started.log())
    started.reload()
    started.wait_for_log("Reloading config", since=since)
    started.client(client_id="lamp").close()
    assert kinds(watching.wait_for_end_of("lamp")) == ["connected", "disconnected"]


# ---- among messages ----


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("protocol", [V311, V5])
def test_between_coming_and_going(started: Broker, watching: Recorders, protocol: int, qos: int) -> None:
    """A client that says at once all it has to say: it comes before its first message and goes after its last."""
    properties = b"" if protocol == V5 else None
    for turn in range(5):
        said = connect_packet("lamp", protocol=protocol)
        for number in range(1, 21):
            said += publish_packet(
                "w/a", str(number).encode(), qos, number if qos else 0, properties=properties
            )
            said += release_packet(number) if qos == 2 else b""
        shout(started.port, said + DISCONNECT)
        story = watching.wait_for_end_of("lamp", times=turn + 1)[22 * turn :]
        assert kinds(story) == ["connected", *["message"] * 20, "disconnected"]
        assert [int(entry[1]["payload"]) for entry in story[1:-1]] == list(range(1, 21))


def test_messages_of_every_qos_and_a_lost_connection(started: Broker, watching: Recorders) -> None:
    for turn in range(10):
        client = started.client(client_id="lamp")
        for qos in (2, 0, 1, 2):
            client.publish("w/a", str(qos), qos)
        client.publish("elsewhere", qos=1)
        client.abort()
        story = watching.wait_for_end_of("lamp", times=turn + 1)[6 * turn :]
        assert kinds(story) == ["connected", *["message"] * 4, "disconnected"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_last_will_after_who_left_it(started: Broker, watching: Recorders, qos: int) -> None:
    for turn in range(5):
        client = started.client(client_id="lamp", will=("w/will", str(turn), qos, False))
        client.publish("w/a", "x", qos=1)
        client.abort()

        def will(payload: bytes = str(turn).encode()) -> bool:
            return any(
                entry[0] == "message" and entry[1]["topic"] == "w/will" and entry[1]["payload"] == payload
                for entry in watching.history()
            )

        wait_until(will, 10, "the will")
    about = [
        entry[1]["topic"] if entry[0] == "message" else entry[0]
        for entry in watching.history()
        if entry[0] == "message" or entry[1]["id"] == "lamp"
    ]
    assert about == ["connected", "w/a", "disconnected", "w/will"] * 5


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_takeover_among_messages(started: Broker, watching: Recorders, qos: int) -> None:
    """What the first one sent comes before it goes, what the second one sends after it came."""
    story = []
    for number in range(20):
        client = started.client(client_id="twin", protocol=(V311, V5)[number % 2])
        for _ in range(3):
            client.publish("w/a", str(number), qos)
        if qos == 0:
            client.publish("elsewhere", qos=1)
        story += ["connected", "message", "message", "message", "disconnected"]
    assert kinds(watching.story("twin")) == story[:-1]


# ---- many ----


class Crowd:
    """Clients that come, publish their name to `w/crowd`, and go: one half says goodbye, the other does not.

    They run on a thread of their own between the beginning and the end of the `with` block, about 200 a second.

    Attributes:
        names: Their client ids, in the order in which they come.
        gone: How many have come and gone.
    """

    def __init__(self, port: int, count: int, *, times: int = 1, rate: float = 200) -> None:
        self.names = [f"crowd {number}" for number in range(count)]
        self.gone = 0
        self._port = port
        self._times = times
        self._rate = rate

    def __enter__(self) -> Crowd:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="crowd")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait_for(self, count: int) -> None:
        """Return when so many have gone."""
        wait_until(lambda: self.gone >= count or not self._thread.is_alive(), 60, f"visitor {count}")

    def _run(self) -> None:
        try:
            asyncio.run(asyncio.wait_for(self._all(), 120 * PATIENCE))
        except BaseException as error:
            self._error = error

    async def _all(self) -> None:
        clock = asyncio.get_running_loop()
        begin = clock.time()
        self._room = asyncio.Semaphore(100)
        visits = []
        for number, name in enumerate(self.names):
            # The rate; nothing is waited for here.
            await asyncio.sleep(begin + number * self._times / self._rate - clock.time())
            visits.append(asyncio.create_task(self._visits(name, number)))
        await asyncio.gather(*visits)

    async def _visits(self, name: str, number: int) -> None:
        for time in range(self._times):
            async with self._room:
                await self._visit(name, (V311, V5)[number % 2], polite=(number // 2 + time) % 2 == 0)
            self.gone += 1

    async def _visit(self, name: str, protocol: int, *, polite: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(connect_packet(name, protocol=protocol))
        connack = await _read_packet(reader)
        assert connack[0] == 0x20 and connack[2] == 0, connack
        properties = b"" if protocol == V5 else None
        writer.write(publish_packet("w/crowd", name.encode(), 1, 1, properties=properties))
        puback = await _read_packet(reader)
        assert puback[0] >> 4 == PUBACK, puback
        if polite:
            writer.write(DISCONNECT)
        writer.close()
        await writer.wait_closed()


async def _read_packet(reader: asyncio.StreamReader) -> bytes:
    """The first byte and the body of a packet that is shorter than 128 bytes."""
    first, length = await reader.readexactly(2)
    assert length < 128
    return bytes([first]) + await reader.readexactly(length)


def stories(recorders: Recorders, names: list[str], visits: int, to: int = 0) -> dict[str, list[str]]:
    """What was seen of each client, when all visits have ended."""
    seen: dict[str, list[str]] = {}

    def complete() -> bool:
        seen.clear()
        seen.update({name: [] for name in names})
        for entry in recorders.history(to):
            client = entry[1]["client"] if entry[0] == "message" else entry[1]
            if client["id"] in seen:
                seen[client["id"]].append(entry[0])
        return Counter(kind for kinds in seen.values() for kind in kinds)["disconnected"] >= visits

    wait_until(complete, 30, "the end of all visits", lambda: str(seen)[:2000])
    return seen


def test_a_thousand_clients(started: Broker, watching: Recorders) -> None:
    watching.spawn(1)
    watching.call("watch_clients", 1)
    with Crowd(started.port, 1000) as crowd:
        pass
    seen = stories(watching, crowd.names, 1000)
    wrong = {name: story for name, story in seen.items() if story != ["connected", "message", "disconnected"]}
    assert wrong == {}
    # The other one does not hear their messages.
    seen = stories(watching, crowd.names, 1000, 1)
    wrong = {name: story for name, story in seen.items() if story != ["connected", "disconnected"]}
    assert wrong == {}
    order = [e[1]["id"] for e in watching.history() if e[0] == "connected" and e[1]["id"] in seen]
    assert order == [e[1]["id"] for e in watching.history(1) if e[0] == "connected" and e[1]["id"] in seen]


def test_a_hundred_clients_that_come_again_and_again(started: Broker, watching: Recorders) -> None:
    """Half of them not knowing whether the broker has noticed yet that they had gone."""
    with Crowd(started.port, 100, times=10) as crowd:
        pass
    seen = stories(watching, crowd.names, 1000)
    wrong = {
        name: story for name, story in seen.items() if story != ["connected", "message", "disconnected"] * 10
    }
    assert wrong == {}


def test_the_memory_of_who_has_gone(started: Broker, watching: Recorders) -> None:
    """Of clients that have gone nothing is left: a watcher that comes now is told of nobody."""
    with Crowd(started.port, 200):
        pass
    stories(watching, [f"crowd {number}" for number in range(200)], 200)
    watching.spawn(1)
    watching.call("watch_clients", 1)
    assert [entry[1]["id"] for entry in watching.entries(1)] == [watching.client.client_id]


# ---- the option ----


def test_without_the_option(broker: BrokerFactory) -> None:
    """Mosquitto 2.1 tells who connects in any case; 2.0 tells only who goes."""
    started = start(broker, options={"connect_events": False})
    watching = watch(started)
    started.client(client_id="lamp", username="anything", password="x").close()
    story = watching.wait_for_end_of("lamp")
    assert kinds(story) == (["connected", "disconnected"] if NEW else ["disconnected"])
    assert story[-1][1] == identity("lamp", username="anything")
    assert log_names(started, "connect_events") is False


def test_what_the_option_costs(broker: BrokerFactory) -> None:
    """On 2.0 the plugin then takes part in the login, and a name needs somebody who vouches for it; the log says so."""
    started = start(broker)
    assert log_names(started, "connect_events") is not NEW
    watching = watch(started)
    named = {"client_id": "named", "username": "anything", "password": "x"}
    if NEW:
        started.client(**named).close()
        assert kinds(watching.wait_for_end_of("named")) == ["connected", "disconnected"]
    else:
        with pytest.raises(ConnectionError):
            started.client(**named)
        started.client(client_id="nameless").close()
        watching.wait_for_end_of("nameless")
        assert watching.story("named") == []


def log_names(started: Broker, word: str) -> bool:
    """Whether one of the plugin's log lines has a word."""
    return any(word in line for line in started.log().splitlines() if line.startswith("mqttasgi: "))


@pytest.mark.parametrize("place", ["lines", "lines_after"])
def test_beside_another_plugin(broker: BrokerFactory, kicking_plugin: Path, place: str) -> None:
    started = start(broker, **{place: [f"plugin {kicking_plugin}"]})
    watching = watch(started)
    started.client(client_id="lamp").close()
    assert kinds(watching.wait_for_end_of("lamp")) == ["connected", "disconnected"]


def test_what_each_event_is_about(started: Broker, watching: Recorders) -> None:
    """Clients with other names, versions and ends in a row: no event has what belongs to another."""
    expected: dict[str, list[dict[str, Any]]] = defaultdict(list)
    clients: list[Client] = []
    for number in range(30):
        name, protocol = f"größe {number % 7}", (V31, V311, V5)[number % 3]
        clients.append(started.client(client_id=name, protocol=protocol))
        expected[name].append(identity(name, protocol))
    for client in clients:
        client.close()
    for name, came in expected.items():
        story = watching.wait_for_end_of(name, times=len(came))
        assert kinds(story) == ["connected", "disconnected"] * len(came)
        assert [entry[1] for entry in story] == [client for client in came for _ in range(2)]


def test_connections_that_never_say_who_they_are_cost_the_session_nothing(broker: BrokerFactory) -> None:
    """A port scanner or a health check; Mosquitto 2.0 tells plugins that a client is gone."""
    started = start(broker, options={"connect_events": False})
    client = started.client()
    client.publish("w/before", "1", qos=1)
    since = len(started.log())
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", started.port)):
            pass
    wait_until(lambda: started.log()[since:].count("New connection from") == 50, 10, "the connections")
    # Whatever follows a connection's end has been sent when two more packets have been answered.
    client.publish("w/after", "1", qos=1)
    client.publish("w/after", "2", qos=1)
    # A fence that ends a hold has a longer number than others.
    assert not re.search(r"\$mqttasgi/fence'.*\(19 bytes\)", started.log()[since:])
