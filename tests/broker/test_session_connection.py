"""How the session gets to a listener, what is said where it cannot, and what goes on meanwhile."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, passwords
from support.certificates import Authority, TlsListener, trust_folder
from support.client import Client
from support.consumers import CallFailed, Consumers, Heard, Writer
from support.listeners import FakeListener, Proxy
from support.packets import PUBCOMP, PUBREC, PacketClient, publish_packet, release_packet
from support.ports import free_port
from support.processes import SANITIZER, wait_until
from support.statistics import Statistics

UP = "Session with the listener at"
FAILED = "No session with the listener at"
# Which to look at.
OPTIONS = "options host, port, username, password, cacert, cert, key, use_ssl and transport"
APPLICATION = "apps.listener:application"


def start(broker: BrokerFactory, **arguments: Any) -> Broker:
    return broker(APPLICATION, **arguments)


def check_session(started: Broker, where: str | int, **login: Any) -> None:
    """Waits for the session and uses it: with what was retained, a will, and QoS 2."""
    address = f"127.0.0.1:{where}" if isinstance(where, int) else where
    started.wait_for_log(f"{UP} {address}\\.$", timeout=10)
    consumers, client = Consumers(started, **login), started.client(**login)
    client.publish("kept/x", "1", qos=1, retain=True)
    consumers.subscribe("kept/+")
    assert consumers.heard() == [Heard("kept/x", "1", 1, True)]
    victim = started.client(will=("kept/y", "2", 1, False), **login)
    client.subscribe("kept/y")
    victim.abort()
    client.wait_for("kept/y")
    client.publish("kept/z", "3", qos=2)
    assert consumers.heard() == [Heard("kept/y", "2", 1, False), Heard("kept/z", "3", 2, False)]


def check_direct_lane(started: Broker, **login: Any) -> Consumers:
    """Uses what works without a session."""
    consumers, client = Consumers(started, **login), started.client(**login)
    consumers.subscribe("direct/+", 2)
    for qos in (0, 1, 2):
        client.publish("direct/x", str(qos), qos)
    client.publish("elsewhere", qos=1)
    assert consumers.heard() == [Heard("direct/x", str(qos), qos, False) for qos in (0, 1, 2)]
    return consumers


def complaint(started: Broker, timeout: float = 20) -> str:
    """Waits for the line that says why there is no session, and returns it: there is one."""
    started.wait_for_log(FAILED, timeout)
    # Further ones, with `, try 2` and so on, are for those who look for trouble (debug level).
    lines = [line for line in started.log().splitlines() if re.search(f"{FAILED} [^ ,]+: ", line)]
    assert len(lines) == 1, lines
    return lines[0]


# ---- ways that work ----


def test_tcp(broker: BrokerFactory) -> None:
    started = start(broker)
    check_session(started, started.port)


def test_tcp_by_name(broker: BrokerFactory) -> None:
    started = start(broker, options={"host": "localhost"})
    check_session(started, f"localhost:{started.port}")


def test_unix_socket(broker: BrokerFactory, tmp_path: Path) -> None:
    path = tmp_path / "s"
    started = start(broker, lines=[f"listener 0 {path}"], options={"host": path, "port": 0})
    check_session(started, str(path))


def test_user_and_password(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="its secret", test="t")],
        options={"username": "hub", "password": "its secret", "verbosity": 2},
    )
    check_session(started, started.port, username="test", password="t")
    assert "its secret" not in started.log()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_tls(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(authority)
    started = start(broker, lines=tls.lines, options={"port": tls.port, "cacert": authority.cert})
    check_session(started, tls.port)


def test_tls_with_a_client_certificate(broker: BrokerFactory, authority: Authority) -> None:
    required = ("require_certificate true", f"cafile {authority.cert}", "use_identity_as_username true")
    tls = TlsListener(authority, "server", *required)
    hub = authority.issue("hub")
    options = {"port": tls.port, "cacert": authority.cert, "cert": hub.cert, "key": hub.key}
    started = start(broker, lines=tls.lines, options=options)
    check_session(started, tls.port)
    started.wait_for_log(r"New client connected from .* as mqttasgi-.*u'hub'")


def test_tls_with_a_user_and_password(broker: BrokerFactory, authority: Authority, tmp_path: Path) -> None:
    tls = TlsListener(authority)
    started = start(
        broker,
        anonymous=False,
        lines=[*tls.lines, passwords(tmp_path, hub="its secret", test="t")],
        options={"port": tls.port, "cacert": authority.cert, "username": "hub", "password": "its secret"},
    )
    check_session(started, tls.port, username="test", password="t")


def test_tls_with_the_systems_authorities(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    """OpenSSL takes the place of the system's folder from the environment."""
    tls = TlsListener(authority)
    folder = trust_folder(tmp_path / "trusted", authority.cert)
    started = start(
        broker,
        lines=tls.lines,
        options={"port": tls.port, "use_ssl": True},
        environment={"SSL_CERT_DIR": str(folder), "SSL_CERT_FILE": str(folder / "authority.crt")},
    )
    check_session(started, tls.port)


WEBSOCKETS = ["protocol websockets"]


def test_websockets(broker: BrokerFactory) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", *WEBSOCKETS]
    started = start(broker, lines=lines, options={"port": port, "transport": "websockets"})
    check_session(started, port)


def test_websockets_with_tls(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(authority, "server", *WEBSOCKETS)
    options = {"port": tls.port, "transport": "websockets", "cacert": authority.cert}
    started = start(broker, lines=tls.lines, options=options)
    check_session(started, tls.port)


def test_a_listener_without_websockets(broker: BrokerFactory) -> None:
    started = start(broker, options={"transport": "websockets"})
    complaint(started)
    check_direct_lane(started)


def test_websockets_where_a_web_server_listens(broker: BrokerFactory) -> None:
    with FakeListener(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as fake:
        started = start(broker, options={"port": fake.port, "transport": "websockets", "retries": 0})
        assert "it does not speak websockets, it answers 'HTTP/1.1 404 Not Found'" in complaint(started)
        check_direct_lane(started)


@pytest.mark.parametrize("key", ["cacert", "cert", "key"])
def test_a_file_that_is_no_certificate(
    broker: BrokerFactory, authority: Authority, tmp_path: Path, key: str
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense\n")
    hub = authority.issue("hub")
    tls = TlsListener(authority)
    options = {"port": tls.port, "cacert": authority.cert, "cert": hub.cert, "key": hub.key, key: nonsense}
    started = start(broker, lines=tls.lines, options=options)
    assert f"option {key}: '{nonsense}' cannot be used" in complaint(started)
    check_direct_lane(started)


# ---- ways that do not ----


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "does not answer"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ""),
        (b"\x20\xff\xff\xff\xff\xff\xff\xff", ""),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", ""),
        (bytes(range(256)) * 64, ""),
        # CONNACKs: shorter than one can be, a refusal by a broker older than MQTT 5, and properties that never end.
        (b"\x20\x00", ""),
        (b"\x20\x02\x00\x01", "it refused the connection: unacceptable protocol version"),
        (b"\x20\x04\x00\x00\xff\xff", ""),
        # A PUBLISH before any CONNACK.
        (b"\x30\x06\x00\x01x\x00hi", ""),
    ],
    ids=["silence", "http", "endless", "ssh", "bytes", "short", "refusal", "properties", "publish"],
)
def test_a_listener_that_is_none(broker: BrokerFactory, answer: bytes | None, says: str) -> None:
    with FakeListener(answer) as fake:
        started = start(broker, options={"port": fake.port, "retries": 0})
        line = complaint(started)
        assert f"127.0.0.1:{fake.port}: " in line
        assert says in line
        assert OPTIONS in line
        check_direct_lane(started)
        # It is tried again.
        fake.wait_for_connections(2)
        check_direct_lane(started)


@pytest.mark.parametrize("answer", [None, b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x15\x03\x03\x00\x02\x02\x28"])
def test_a_listener_that_does_not_speak_tls(
    broker: BrokerFactory, authority: Authority, answer: bytes | None
) -> None:
    """Silence, nonsense, and a TLS alert."""
    with FakeListener(answer) as fake:
        started = start(broker, options={"port": fake.port, "cacert": authority.cert, "retries": 0})
        check_direct_lane(started)
        before = started.cpu_seconds()
        assert f"127.0.0.1:{fake.port}: " in complaint(started)
        # Of its own time, which no load of the machine makes longer.
        assert started.cpu_seconds() - before < (10 if SANITIZER else 2), "it turns in circles while it waits"
        fake.wait_for_connections(2)
        check_direct_lane(started)


def test_nobody_listens(broker: BrokerFactory) -> None:
    port = free_port()
    started = start(broker, options={"port": port, "retries": 0})
    line = complaint(started)
    assert f"127.0.0.1:{port}: Connection refused" in line
    assert OPTIONS in line
    assert "retained" in line, "it says what is missing"
    check_direct_lane(started)


def test_a_host_that_does_not_exist(broker: BrokerFactory) -> None:
    started = start(broker, options={"host": "no-such-host.invalid"})
    assert "no-such-host.invalid" in complaint(started, timeout=60)
    check_direct_lane(started)


def test_a_socket_that_does_not_exist(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker, options={"host": tmp_path / "nothing", "port": 0})
    assert f"{tmp_path / 'nothing'}: No such file or directory" in complaint(started)
    check_direct_lane(started)


def test_another_brokers_listener(broker: BrokerFactory) -> None:
    """Nothing of the other broker's reaches consumers, nor stays there."""
    other = broker(plugin=None)
    other.client().publish("kept/x", "the other's", qos=1, retain=True)
    started = start(broker, options={"port": other.port, "retries": 0})
    line = complaint(started)
    assert f"127.0.0.1:{other.port}: " in line
    assert "another broker" in line
    consumers = check_direct_lane(started)
    consumers.subscribe("kept/#")
    assert consumers.heard() == []


def test_a_listener_with_a_mount_point(broker: BrokerFactory) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "mount_point elsewhere/"]
    started = start(broker, lines=lines, options={"port": port})
    assert "it has mount_point elsewhere/" in complaint(started)
    check_direct_lane(started)


# ---- what the broker's file says of client ids ----


@pytest.mark.parametrize(
    "options",
    [{}, {"client_id": "hub"}, {"client_id": "mine"}, {"client_id": "mine", "cleansession": False}],
    ids=["made", "same", "other", "kept"],
)
def test_user_names_as_client_ids(broker: BrokerFactory, tmp_path: Path, options: dict[str, object]) -> None:
    """The broker knows the session by another id than it has asked for."""
    port = free_port()
    started = start(
        broker,
        anonymous=False,
        lines=[
            passwords(tmp_path, hub="its secret", test="t"),
            f"listener {port} 127.0.0.1",
            "use_username_as_clientid true",
        ],
        options={"port": port, "username": "hub", "password": "its secret", **options},
    )
    check_session(started, port, username="test", password="t")
    noted = "plugin_opt_client_id mine does not count" in started.log()
    assert noted == (options.get("client_id") == "mine")


def test_a_certificates_name_as_client_id(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(
        authority,
        "server",
        "require_certificate true",
        f"cafile {authority.cert}",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    )
    hub = authority.issue("hub")
    options = {"port": tls.port, "cacert": authority.cert, "cert": hub.cert, "key": hub.key}
    started = start(broker, lines=tls.lines, options=options)
    check_session(started, tls.port)
    started.wait_for_log(r"New client connected from .* as hub ")


def test_user_names_as_client_ids_and_none_given(broker: BrokerFactory) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "use_username_as_clientid true"]
    started = start(broker, lines=lines, options={"port": port})
    assert "has use_username_as_clientid true" in complaint(started)
    check_direct_lane(started)


def test_client_ids_with_a_prefix(broker: BrokerFactory) -> None:
    started = start(broker, lines=["clientid_prefixes test"])
    check_session(started, started.port)
    started.wait_for_log(r"New client connected from \S+ as testmqttasgi-")


def test_client_ids_with_another_prefix(broker: BrokerFactory) -> None:
    started = start(broker, lines=["clientid_prefixes test"], options={"client_id": "hub"})
    assert "clientid_prefixes test, and so it lets nobody in as 'hub'" in complaint(started)
    check_direct_lane(started)


def test_a_client_id_with_the_prefix(broker: BrokerFactory) -> None:
    started = start(broker, lines=["clientid_prefixes test"], options={"client_id": "test-hub"})
    check_session(started, started.port)


def test_duplicate_messages_are_not_allowed(broker: BrokerFactory) -> None:
    """Nothing that the session has to know: copies for an MQTT 5 client have their filter's identifier."""
    started = start(broker, lines=["allow_duplicate_messages false"])
    check_session(started, started.port)
    consumers, client = Consumers(started), started.client()
    for topic in ("d/#", "d/+", "d/x"):
        consumers.subscribe(topic, 2)
    client.publish("d/x", "1", qos=2)
    assert consumers.heard() == [Heard("d/x", "1", 2, False)]


def test_a_wrong_password(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="its secret", test="t")],
        options={"username": "hub", "password": "a wrong secret", "verbosity": 2},
    )
    line = complaint(started)
    assert f"127.0.0.1:{started.port}: it refused the connection: Not authorized" in line
    assert OPTIONS in line
    check_direct_lane(started, username="test", password="t")
    assert "wrong secret" not in started.log()


def test_no_password_where_one_is_needed(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker, anonymous=False, lines=[passwords(tmp_path, test="t")])
    assert "it refused the connection: " in complaint(started)
    check_direct_lane(started, username="test", password="t")


def test_a_certificate_of_somebody_elses_authority(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    tls = TlsListener(Authority(tmp_path, "stranger"))
    started = start(broker, lines=tls.lines, options={"port": tls.port, "cacert": authority.cert})
    assert "certificate" in complaint(started)
    check_direct_lane(started)


def test_an_authority_that_the_system_does_not_know(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(authority)
    started = start(broker, lines=tls.lines, options={"port": tls.port, "use_ssl": True})
    assert "certificate" in complaint(started)
    check_direct_lane(started)


def test_a_certificate_for_another_host(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(authority, "elsewhere", hosts="DNS:elsewhere.example")
    started = start(broker, lines=tls.lines, options={"port": tls.port, "cacert": authority.cert})
    complaint(started)
    check_direct_lane(started)


def test_no_client_certificate_where_one_is_needed(broker: BrokerFactory, authority: Authority) -> None:
    tls = TlsListener(authority, "server", "require_certificate true", f"cafile {authority.cert}")
    started = start(broker, lines=tls.lines, options={"port": tls.port, "cacert": authority.cert})
    complaint(started)
    check_direct_lane(started)


@pytest.mark.parametrize("speaks", ["session", "listener"])
def test_only_one_of_the_two_speaks_tls(broker: BrokerFactory, authority: Authority, speaks: str) -> None:
    tls = TlsListener(authority)
    if speaks == "session":
        started = start(broker, options={"cacert": authority.cert})
    else:
        started = start(broker, lines=tls.lines, options={"port": tls.port})
    complaint(started)
    check_direct_lane(started)


def test_giving_up(broker: BrokerFactory) -> None:
    with FakeListener(b"\x20\x03\x00\x87\x00") as fake:
        started = start(broker, options={"port": fake.port, "retries": 2})
        started.wait_for_log(
            f"Gave up on the session with the listener at 127.0.0.1:{fake.port} after 2 tries: "
        )
        check_direct_lane(started)
        assert fake.accepted == 2
        complaint(started)
    # Nobody waits for it: neither subscribe() nor the stop.
    consumers = Consumers(started)
    consumers.subscribe("more/#", 2)
    consumers.unsubscribe("more/#")


@pytest.mark.long
def test_never_giving_up(broker: BrokerFactory) -> None:
    """More often than the option's default, and with one complaint only."""
    with FakeListener(b"\x20\x03\x00\x87\x00") as fake:
        started = start(broker, options={"port": fake.port, "retries": 0})
        fake.wait_for_connections(4, timeout=30)
        complaint(started)
    assert "Gave up" not in started.log()


def test_a_later_success_is_said(broker: BrokerFactory) -> None:
    proxy = Proxy(0)
    started = start(broker, start=False, options={"port": proxy.port, "retries": 0})
    started.start()
    complaint(started)
    consumers, client = check_direct_lane(started), started.client()
    client.publish("kept/x", "1", qos=1, retain=True)
    consumers.subscribe("kept/+")
    assert consumers.heard() == []
    with Proxy(started.port, port=proxy.port):
        started.wait_for_log(f"The session with the listener at 127.0.0.1:{proxy.port} is there", timeout=20)
        # What was asked for meanwhile comes now.
        assert consumers.heard() == [Heard("kept/x", "1", 1, True)]


def test_session_off(broker: BrokerFactory) -> None:
    started = start(broker, options={"session": "off"})
    consumers = check_direct_lane(started)
    client = started.client()
    for topic in ("same/#", "same/+", "same/x"):
        consumers.subscribe(topic, 2)
    for qos in (0, 1, 2):
        for _ in range(10):
            client.publish("same/x", "same", qos)
        client.publish("elsewhere", qos=1)
        consumers.call("publish_often", topic="same/x", payload="same", qos=qos, times=10)
        assert consumers.heard() == [Heard("same/x", "same", qos, False)] * 20
    client.publish("kept/x", "1", qos=1, retain=True)
    consumers.subscribe("kept/+")
    assert consumers.heard() == []
    with pytest.raises(CallFailed, match="^ValueError: .*session"):
        consumers.subscribe("$share/group/x", 1)
    assert "mqttasgi-" not in started.log(), "no such client has come"
    # It says once, when all has started, that it goes without.
    lines = [
        line for line in started.log().splitlines() if "mqttasgi:" in line and "without a session" not in line
    ]
    assert "essio" not in "".join(lines)


# ---- a connection that breaks ----


LOST = "The session with the listener at .* is lost"
BACK = "The session with the listener at .* is back"


class Behind:
    """A broker whose session goes through a proxy."""

    def __init__(
        self,
        broker: BrokerFactory,
        authority: Authority | None,
        *,
        lines: Iterable[str] = (),
        **options: object,
    ) -> None:
        self._position = 0
        options.setdefault("retries", 0)
        if authority is None:
            # The broker's options have the proxy's port, so the broker is made after it.
            self.proxy = Proxy(0)
            self.broker = start(
                broker, start=False, lines=lines, options={"port": self.proxy.port, **options}
            )
            self.proxy.target = self.broker.port
        else:
            tls = TlsListener(authority)
            self.proxy = Proxy(tls.port)
            options.update(port=self.proxy.port, cacert=authority.cert)
            self.broker = start(broker, start=False, lines=[*tls.lines, *lines], options=options)
        self.proxy.start()
        self.broker.start()
        self.broker.wait_for_log("(Session|The session) with the listener at", timeout=20)

    def lose(self) -> None:
        """Refuse the session from now on."""
        self._position = len(self.broker.log())
        self.proxy.stop()
        self.broker.wait_for_log(LOST, since=self._position)

    def come_back(self) -> None:
        self.proxy.start()
        # Pauses double: by now the next one may be long.
        self.broker.wait_for_log(BACK, timeout=40, since=self._position)


@pytest.fixture(params=["tcp", "tls"])
def behind(request: pytest.FixtureRequest, broker: BrokerFactory, authority: Authority) -> Any:
    made = Behind(broker, authority if request.param == "tls" else None)
    yield made
    made.proxy.stop()


def test_a_listener_that_goes_and_comes_back(behind: Behind) -> None:
    consumers, client = Consumers(behind.broker), behind.broker.client()
    consumers.subscribe("kept/+", 2)
    client.subscribe("kept/+")
    client.publish("kept/x", "1", qos=1, retain=True)
    assert consumers.heard() == [Heard("kept/x", "1", 1, False)]

    behind.lose()
    for qos in (0, 1, 2):
        client.publish("kept/x", f"direct {qos}", qos)
        client.wait_for()
    assert [message.payload for message in consumers.heard()] == ["direct 0", "direct 1", "direct 2"]
    consumers.spawn(1)
    consumers.subscribe("kept/x", 2, to=1)
    assert consumers.heard(1) == []

    behind.come_back()
    # Retained messages for who subscribed meanwhile, and for nobody else.
    assert consumers.heard(1) == [Heard("kept/x", "1", 1, True)]
    assert consumers.heard() == []
    victim = behind.broker.client(will=("kept/x", "gone", 1, False))
    client.wait_for("kept/x")
    victim.abort()
    client.wait_for("kept/x")
    client.publish("kept/x", "after", qos=2)
    for app_id in (0, 1):
        expected = [Heard("kept/x", "gone", 1, False), Heard("kept/x", "after", 2, False)]
        assert consumers.heard(app_id) == expected


def test_wills_while_the_session_is_away_are_not_lost(behind: Behind) -> None:
    """The broker keeps those of QoS 1 and 2 for the session, with copies of what goes the direct lane."""
    consumers, client = Consumers(behind.broker), behind.broker.client()
    consumers.subscribe("dying/+", 2)
    client.subscribe("dying/+", qos=2)
    behind.lose()
    for number in range(10):
        victim = behind.broker.client(will=("dying/lamp", f"gone {number}", 1 + number % 2, False))
        victim.publish("dying/lamp", "here", qos=1)
        client.wait_for()
        victim.abort()
        client.wait_for()
    assert consumers.heard() == [Heard("dying/lamp", "here", 1, False)] * 10
    behind.come_back()
    heard = consumers.heard()
    for qos in (1, 2):
        expected = [f"gone {number}" for number in range(qos - 1, 10, 2)]
        assert [message.payload for message in heard if message.qos == qos] == expected
    assert len(heard) == 10


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_nothing_is_lost_or_doubled_when_the_connection_breaks(behind: Behind, qos: int) -> None:
    """Again and again in the middle of live messages. Those of QoS 2 change lanes each time.

    At QoS 1 the broker sends again what was not acknowledged when the connection broke, and so a message may come twice
    as it may to every subscriber (MQTT 5, 4.3.2).
    """
    consumers, client = Consumers(behind.broker), behind.broker.client()
    consumers.subscribe("w/+", 2)
    with Writer(client, ["w/x", "w/y"], qos) as writer:
        for _ in range(5):
            writer.advance(50)
            since = len(behind.broker.log())
            behind.proxy.drop()
            behind.broker.wait_for_log(BACK, timeout=20, since=since)
        writer.advance(50)
    heard = consumers.heard()
    for topic in writer.topics:
        numbers = [int(message.payload) for message in heard if message.topic == topic]
        doubled = sorted(number for number, times in Counter(numbers).items() if times > 1)
        assert set(numbers) == set(range(1, writer.taken + 1)), "some are lost"
        if qos != 1:
            assert doubled == []
        if qos == 0:
            assert numbers == sorted(numbers)


def flood(port: int, topic: str, count: int) -> None:
    """Publish that many QoS 2 messages, and release each."""
    batch = 15  # fewer than the broker takes at once
    with PacketClient(port, "flood") as client:
        for first in range(0, count, batch):
            packets = range(1, min(batch, count - first) + 1)
            client.send(b"".join(publish_packet(topic, str(first).encode(), 2, packet) for packet in packets))
            for packet in packets:
                client.expect(PUBREC, packet)
            client.send(b"".join(release_packet(packet) for packet in packets))
            for packet in packets:
                client.expect(PUBCOMP, packet)


def test_more_qos_2_without_the_session_than_can_be_marked(broker: BrokerFactory) -> None:
    """What the session brings later is no copy of any of them."""
    behind = Behind(broker, None, lines=["sys_interval 1"])
    try:
        consumers, client = Consumers(behind.broker), behind.broker.client()
        consumers.spawn(1)
        consumers.subscribe("flood/#", 2, to=1)
        consumers.subscribe("q/#", 2)
        behind.lose()
        # Past the packet identifiers of those that the broker keeps: 2.0 gives them out anew while they are in use.
        flood(behind.broker.port, "flood/x", 68_000)
        behind.come_back()

        def comes(payload: str) -> bool:
            client.publish("q/probe", payload, qos=2)
            return consumers.heard() != []

        # The broker throws away what comes while it has max_queued_messages packets for the session.
        for payload in ("first", "second"):
            wait_until(lambda payload=payload: comes(payload), 60, "the end of what the broker had queued")
        expected = [Heard("q/x", str(number), 2, False) for number in range(20)]
        for message in expected:
            client.publish(message.topic, message.payload, qos=2)
        assert consumers.heard() == expected
        statistics = Statistics(behind.broker)
        wait_until(lambda: int(statistics.all().get("messages/unmarked", 0)) > 0, 10, "what may come twice")
    finally:
        behind.proxy.stop()


def test_qos_2_that_is_released_after_the_session_came_back(behind: Behind) -> None:
    """It came the direct lane, and the broker still sends its copy."""
    consumers = Consumers(behind.broker)
    consumers.subscribe("q/+", 2)
    behind.lose()
    with PacketClient(behind.broker.port, "slow") as client:
        client.publish("q/x", b"1", 2, packet=1)
        client.expect(PUBREC, 1)
        assert consumers.heard() == [Heard("q/x", "1", 2, False)]
        behind.come_back()
        # Other messages must not make the plugin forget it. (Ten seconds would.)
        for number in range(3):
            behind.broker.client().publish("q/y", str(number), qos=1)
            assert consumers.heard() == [Heard("q/y", str(number), 1, False)]
        client.release(1)
        client.expect(PUBCOMP, 1)
        assert consumers.heard() == []


def test_qos_2_that_is_released_while_the_session_is_away(behind: Behind) -> None:
    """It was left to the session, which brings it when it is back."""
    consumers = Consumers(behind.broker)
    consumers.subscribe("q/+", 2)
    with PacketClient(behind.broker.port, "slow") as client:
        client.publish("q/x", b"1", 2, packet=1)
        client.expect(PUBREC, 1)
        behind.lose()
        client.release(1)
        client.expect(PUBCOMP, 1)
        heard = consumers.heard()
        behind.come_back()
        assert heard + consumers.heard() == [Heard("q/x", "1", 2, False)]


@pytest.mark.parametrize("qos", [0, 1])
def test_subscribing_while_the_connection_breaks(behind: Behind, qos: int) -> None:
    """Nobody waits for ever, and the retained messages come in the end."""
    consumers, client = Consumers(behind.broker), behind.broker.client()
    for number in range(100):
        client.publish(f"kept/{number}", str(number), qos, retain=True)
    client.publish("elsewhere", qos=1)
    expected = {Heard(f"kept/{number}", str(number), qos, True) for number in range(100)}
    for _ in range(5):
        since = len(behind.broker.log())
        subscribing = consumers.begin("subscribe", topic="kept/+", qos=1)
        behind.proxy.drop()
        consumers.finish(subscribing)
        behind.broker.wait_for_log(BACK, timeout=20, since=since)
        # The connection may have broken before, while or after they came; then some come again with the next.
        assert set(consumers.heard()) == expected
        consumers.unsubscribe("kept/+")


@pytest.mark.long
def test_a_connection_that_freezes(behind: Behind) -> None:
    """A listener that says nothing any more looks like a quiet one, until something should have come."""
    consumers, client = Consumers(behind.broker), behind.broker.client()
    consumers.subscribe("f/+", 1)
    client.publish("f/x", "1", qos=1, retain=True)
    assert consumers.heard() == [Heard("f/x", "1", 1, False)]
    since = len(behind.broker.log())
    behind.proxy.freeze()
    for number in range(100):
        client.publish("f/y", str(number), qos=number % 2)
    subscribing = consumers.begin("subscribe", topic="f/x", qos=1)
    # The consumer waits for its subscription; when the connection is given up it goes on.
    behind.broker.wait_for_log(LOST, timeout=20, since=since)
    consumers.finish(subscribing)
    assert sorted(int(m.payload) for m in consumers.heard() if m.topic == "f/y") == list(range(100))
    behind.proxy.thaw()
    behind.broker.wait_for_log(BACK, timeout=20, since=since)
    assert consumers.heard() == [Heard("f/x", "1", 1, True)]


def test_giving_up_after_a_connection_was_lost(broker: BrokerFactory) -> None:
    """The tries are counted in a row, from the loss on; nobody waits for what will not come."""
    behind = Behind(broker, None, retries=2)
    consumers = Consumers(behind.broker)
    for _ in range(3):
        since = len(behind.broker.log())
        behind.proxy.drop()
        behind.broker.wait_for_log(BACK, timeout=20, since=since)
    behind.lose()
    behind.broker.wait_for_log("Gave up on the session .* after 2 tries", timeout=20)
    consumers.subscribe("x/#", 2)
    consumers.client.publish("x/y", "1", qos=2)
    assert consumers.heard() == [Heard("x/y", "1", 2, False)]


def test_descriptors_and_threads_stay_the_same(behind: Behind) -> None:
    consumers = Consumers(behind.broker)
    consumers.subscribe("x/#", 1)

    def cycle() -> None:
        since = len(behind.broker.log())
        behind.proxy.drop()
        behind.broker.wait_for_log(BACK, timeout=20, since=since)

    cycle()
    before, threads = behind.broker.descriptors(), behind.broker.threads()
    for _ in range(10):
        cycle()
    # The broker closes its end of an old connection when it likes.
    wait_until(
        lambda: behind.broker.descriptors() == before,
        5,
        f"{before} descriptors",
        lambda: "\n".join(behind.broker.descriptor_targets()),
    )
    assert behind.broker.threads() == threads


def test_who_takes_the_sessions_client_id(broker: BrokerFactory) -> None:
    """The broker lets the newcomer have it; the session comes back, and nobody hears of it but the log."""
    started = start(broker, options={"client_id": "hub", "retries": 1})
    started.wait_for_log(UP)
    consumers = Consumers(started)
    consumers.subscribe("x/+", 1)
    since = len(started.log())
    thief: Client = started.client(client_id="hub", username="thief", password="t")
    started.wait_for_log("another client has connected with its client id, 'hub'", timeout=20, since=since)
    started.wait_for_log(
        r"Who connected with the session's client id 'hub': 127\.0\.0\.1, user 'thief', MQTT", timeout=20
    )
    started.wait_for_log(BACK, timeout=20, since=since)
    thief.wait_for_disconnect()
    check_direct_lane(started)
    consumers.client.publish("x/y", "1", qos=1, retain=True)
    consumers.heard()
    consumers.subscribe("x/y", 1)
    assert consumers.heard() == [Heard("x/y", "1", 1, True)]


def test_who_takes_the_sessions_client_id_again_and_again(broker: BrokerFactory) -> None:
    """However often: those are no tries that failed, and when it ends the session is back."""
    started = start(broker, options={"client_id": "hub", "retries": 2})
    started.wait_for_log(UP)
    since = len(started.log())
    for _ in range(2000):
        thief = PacketClient(started.port, "hub")
        thief.close()
    assert "Gave up" not in started.log()
    assert "No session" not in started.log()
    assert started.log().count("another client has connected with its client id") <= 2
    started.wait_for_log(BACK, timeout=30, since=since)
    check_direct_lane(started)


def test_the_sessions_client_id_cannot_be_guessed(broker: BrokerFactory) -> None:
    started = start(broker)
    started.wait_for_log(
        rf"New client connected from \S+ as mqttasgi-{re.escape(socket.gethostname())}-{started.pid}-[0-9a-f]{{8}} "
    )


def test_who_claims_the_sessions_client_id_and_is_not_let_in(broker: BrokerFactory, tmp_path: Path) -> None:
    """Some versions of the broker tell the plugin of that under the id that was claimed."""
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="its secret", test="t")],
        options={"username": "hub", "password": "its secret", "client_id": "hub"},
    )
    started.wait_for_log(UP)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            started.client(client_id="hub", username="test", password="wrong")
    consumers = Consumers(started, username="test", password="t")
    consumers.client.publish("kept/x", "1", qos=1, retain=True)
    consumers.subscribe("kept/+", 2)
    assert consumers.heard() == [Heard("kept/x", "1", 1, True)]
    assert "another client has connected" not in started.log()
