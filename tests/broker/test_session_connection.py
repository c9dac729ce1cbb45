"""How the session connects, and what happens when it cannot."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed, mosquitto_version
from support.certificates import Authority
from support.client import Client
from support.processes import free_port, wait_until
from support.proxy import Proxy

HAS_WEBSOCKETS = mosquitto_version() >= (2, 1, 0)


def works(started: Broker, client: Client | None = None) -> None:
    """The session is there: a retained message comes through it."""
    client = client or started.client()
    client.subscribe("got", 1)
    client.subscribe("did", 1)
    client.publish("kept/x", "value", 1, retain=True)
    client.publish("do/0/subscribe", json.dumps({"topic": "kept/+", "qos": 1}), 1)
    got = json.loads(client.wait_for("got", timeout=10).payload)
    assert (got["topic"], got["payload"], got["retain"]) == ("kept/x", "value", True)
    client.publish("do/0/unsubscribe", json.dumps({"topic": "kept/+"}), 1)


def direct_lane_works(client: Client) -> None:
    client.subscribe("got", 1)
    client.subscribe("did", 1)
    client.publish("do/0/subscribe", json.dumps({"topic": "live", "qos": 1}), 1)
    client.wait_for("did", timeout=10)
    client.publish("live", "x", 1)
    assert json.loads(client.wait_for("got", timeout=10).payload)["payload"] == "x"


def connected(started: Broker, where: str) -> None:
    started.wait_for_log(rf"mqttasgi: Session with the listener at {where}\.$", timeout=20)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# ---- ways in ----


def test_tcp(broker: BrokerFactory) -> None:
    started = broker("apps.remote:application", options={"host": "localhost"})
    connected(started, f"localhost:{started.port}")
    works(started)


def test_unix_socket(broker: BrokerFactory, tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    started = broker(
        "apps.remote:application", options={"host": path, "port": None}, lines=[f"listener 0 {path}"]
    )
    connected(started, str(path))
    works(started)


def test_username_and_password(broker: BrokerFactory, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "hub", "secret"], check=True, capture_output=True)
    started = broker(
        "apps.remote:application",
        anonymous=False,
        lines=[f"password_file {passwords}"],
        options={"username": "hub", "password": "secret"},
    )
    connected(started, f"127.0.0.1:{started.port}")
    works(started, started.client(username="hub", password="secret"))
    assert "secret" not in started.log()


def tls_lines(port: int, authority: Authority, *more: str) -> list[str]:
    certificate, key = authority.issue("hub.test")
    return [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}", *more]


def test_tls_with_a_ca(broker: BrokerFactory, authority: Authority) -> None:
    port = free_port()
    started = broker(
        "apps.remote:application",
        lines=tls_lines(port, authority),
        options={"port": port, "cacert": authority.certificate},
    )
    connected(started, f"127.0.0.1:{port}")
    works(started)


def test_tls_with_a_client_certificate(broker: BrokerFactory, authority: Authority) -> None:
    port = free_port()
    certificate, key = authority.issue("hub")
    started = broker(
        "apps.remote:application",
        lines=tls_lines(port, authority, "require_certificate true", f"cafile {authority.certificate}"),
        options={"port": port, "cacert": authority.certificate, "cert": certificate, "key": key},
    )
    connected(started, f"127.0.0.1:{port}")
    works(started)


def test_tls_that_is_not_trusted(broker: BrokerFactory, authority: Authority) -> None:
    """The system's CAs do not know this one."""
    port = free_port()
    started = broker(
        "apps.remote:application",
        lines=tls_lines(port, authority),
        options={"port": port, "use_ssl": True},
    )
    started.wait_for_log(
        rf"No session with the listener at 127.0.0.1:{port}: .*(TLS|certificate)", timeout=20
    )
    direct_lane_works(started.client())


@pytest.mark.skipif(not HAS_WEBSOCKETS, reason="the client library of Mosquitto 2.0 speaks no websockets")
def test_websockets(broker: BrokerFactory) -> None:
    port = free_port()
    started = broker(
        "apps.remote:application",
        lines=[f"listener {port} 127.0.0.1", "protocol websockets"],
        options={"port": port, "transport": "websockets"},
    )
    connected(started, f"127.0.0.1:{port}")
    works(started)


@pytest.mark.skipif(HAS_WEBSOCKETS, reason="the client library speaks websockets")
def test_websockets_that_the_library_cannot(broker: BrokerFactory) -> None:
    with pytest.raises(BrokerFailed, match="option transport: the installed client library.*Mosquitto 2.1"):
        broker("apps.remote:application", options={"transport": "websockets"})


# ---- no way in ----


def test_nobody_listens(broker: BrokerFactory) -> None:
    port = free_port()
    started = broker("apps.remote:application", options={"port": port, "retries": 2})
    started.wait_for_log(
        rf"No session with the listener at 127.0.0.1:{port}: (Connection refused|nobody listens.*)\. .*Trying again in 1 s\."
    )
    direct_lane_works(started.client())
    started.wait_for_log("Gave up on the session .* after 2 tries: (Connection refused|nobody)", timeout=10)
    assert started.log().count("No session with the listener") == 1
    direct_lane_works(started.client())


def test_a_listener_that_comes_later(broker: BrokerFactory) -> None:
    started = broker("apps.remote:application", start=False)
    proxy = Proxy(started.port)
    started._options.update(port=proxy.port, retries=0)
    started.start()
    started.wait_for_log("No session with the listener")
    client = started.client()
    client.publish("kept/x", "value", 1, retain=True)
    with proxy:
        started.wait_for_log(
            rf"The session with the listener at 127.0.0.1:{proxy.port} is there\.", timeout=20
        )
        works(started, client)


def test_wrong_password(broker: BrokerFactory, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    started = broker(
        "apps.remote:application",
        lines=[f"password_file {passwords}"],
        options={"username": "hub", "password": "pa55word", "retries": 1},
    )
    started.wait_for_log(r"Gave up on the session .*: it refused the connection: .*[Nn]ot authori[sz]ed")
    direct_lane_works(started.client())
    assert "pa55word" not in started.log()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_listener_that_hangs(broker: BrokerFactory, authority: Authority, encrypted: bool) -> None:
    with Proxy(None) as proxy:
        options: dict[str, Any] = {"port": proxy.port}
        if encrypted:
            options["cacert"] = authority.certificate
        started = broker("apps.remote:application", options=options)
        direct_lane_works(started.client())
        before = started.cpu_seconds()
        started.wait_for_log(r"No session with the listener .*: it does not answer", timeout=20)
        assert started.cpu_seconds() - before < 2  # it does not turn in circles meanwhile


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_listener_that_talks_nonsense(broker: BrokerFactory, authority: Authority, encrypted: bool) -> None:
    proxy = Proxy(None)
    proxy.greeting = b"SSH-2.0-OpenSSH_9.2\r\n" * 10
    with proxy:
        options: dict[str, Any] = {"port": proxy.port}
        if encrypted:
            options["cacert"] = authority.certificate
        started = broker("apps.remote:application", options=options)
        started.wait_for_log("No session with the listener", timeout=20)
        direct_lane_works(started.client())


def test_another_brokers_listener(broker: BrokerFactory) -> None:
    other = broker(None, plugin=None)
    started = broker("apps.remote:application", options={"port": other.port, "retries": 1})
    started.wait_for_log("Gave up .*: .*belongs to another broker", timeout=20)
    direct_lane_works(started.client())


def test_no_session_at_all(broker: BrokerFactory) -> None:
    started = broker("apps.remote:application", options={"session": "off"})
    client = started.client()
    direct_lane_works(client)
    client.publish("live", "x", 2)
    assert json.loads(client.wait_for("got").payload)["qos"] == 1
    assert "Session with" not in started.log() and "No session" not in started.log()


# ---- a connection that breaks ----


@pytest.fixture
def proxied(broker: BrokerFactory, authority: Authority, request: Any) -> Iterator[tuple[Broker, Proxy]]:
    """A broker whose session goes through a proxy; with TLS where the parameter says so."""
    tls_port = free_port()
    started = broker("apps.remote:application", start=False)
    started._lines += tls_lines(tls_port, authority)
    proxy = Proxy(tls_port if request.param else started.port)
    started._options.update(port=proxy.port, retries=0)
    if request.param:
        started._options["cacert"] = authority.certificate
    with proxy:
        started.start()
        connected(started, f"127.0.0.1:{proxy.port}")
        yield started, proxy


@pytest.mark.parametrize("proxied", [False, True], indirect=True, ids=["tcp", "tls"])
def test_a_connection_that_breaks_and_comes_back(proxied: tuple[Broker, Proxy]) -> None:
    started, proxy = proxied
    client = started.client()
    for topic in ("got", "did"):
        client.subscribe(topic, 1)
    for topic in ("t/+", "t/x", "kept/+"):
        client.publish("do/0/subscribe", json.dumps({"topic": topic, "qos": 2}), 1)
        client.wait_for("did", timeout=10)
    for turn in range(3):
        position = len(started.log())
        proxy.stop()
        started.wait_for_log("The session with the listener .* is lost", since=position)
        # Live messages of every QoS come all the same, once,
        for qos in (0, 1, 2):
            client.publish("t/x", f"live {turn} {qos}", qos)
            assert json.loads(client.wait_for("got").payload)["payload"] == f"live {turn} {qos}"
        # and what only the session brings comes when it is back.
        dying = started.client(will=("t/will", f"gone {turn}", 1, False))
        dying.abort()
        started.wait_for_log(f"Client {dying.client_id}", since=position)
        proxy.start()
        assert json.loads(client.wait_for("got", timeout=20).payload)["payload"] == f"gone {turn}"
        started.wait_for_log("The session with the listener .* is back", since=position, timeout=20)
        client.publish("t/x", f"after {turn}", 2)
        assert json.loads(client.wait_for("got").payload)["payload"] == f"after {turn}"
    assert sum(m.topic == "got" for m in client.messages) == 3 * 5


@pytest.mark.parametrize("proxied", [True], indirect=True)
def test_a_connection_that_is_cut_again_and_again(proxied: tuple[Broker, Proxy]) -> None:
    """Under way: subscriptions, retained messages, QoS 2. Nothing gets stuck, and the direct lane never stops."""
    started, proxy = proxied
    client = started.client()
    for topic in ("got", "did"):
        client.subscribe(topic, 1)
    for number in range(100):
        client.publish(f"kept/{number}", "x", 1, retain=True)
    for _ in range(10):
        position = len(started.log())
        client.publish("do/0/subscribe", json.dumps({"topic": "kept/#", "qos": 1}), 1)
        proxy.cut()
        client.wait_for("did", timeout=10)
        client.publish("do/0/unsubscribe", json.dumps({"topic": "kept/#"}), 1)
        client.wait_for("did", timeout=10)
        started.wait_for_log("is back", since=position, timeout=10)
    before = len(client.messages)
    client.publish("do/0/subscribe", json.dumps({"topic": "kept/#", "qos": 1}), 1)

    def all_came() -> bool:
        return sum(b'"kept/' in m.payload for m in client.messages[before:]) >= 100

    wait_until(all_came, 10, "the retained messages")
