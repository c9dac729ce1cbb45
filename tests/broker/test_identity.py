"""Who sent it: what `mqtt_message["client"]` says of a message's sender, and that it never says it of another."""

from __future__ import annotations

import itertools
import random
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed, passwords
from support.certificates import Authority, Certificate, TlsListener
from support.client import Client
from support.consumers import Recorders, identity
from support.packets import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PacketClient,
    connect_packet,
    publish_packet,
    shout,
)
from support.ports import free_port
from support.processes import PATIENCE, SANITIZER, wait_until
from support.properties import to_paho
from support.statistics import Statistics

APPLICATION = "apps.recorder:application"


def start(broker: BrokerFactory, **arguments: Any) -> Broker:
    """Starts a broker with `apps.recorder` and waits for its session."""
    started = broker(APPLICATION, **arguments)
    started.wait_for_log("Session with the listener")
    return started


@pytest.fixture
def started(broker: BrokerFactory) -> Broker:
    return start(broker)


@pytest.fixture
def recorders(started: Broker) -> Recorders:
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    return recorders


def taken(client: Client) -> None:
    """Returns when the broker has what a client has published, at QoS 0, too."""
    client.publish("elsewhere", qos=1)


def say(client: Client, topic: str = "i/a") -> None:
    """Publishes once at each QoS."""
    for qos in (0, 1, 2):
        client.publish(topic, f"{client.client_id} at {qos}", qos)
    taken(client)


def senders(messages: list[dict[str, Any]]) -> list[str | None]:
    return [message["client"] and message["client"]["id"] for message in messages]


# ---- what it says ----


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_protocol_version(started: Broker, recorders: Recorders, protocol: int, qos: int) -> None:
    client = started.client(client_id="lamp", protocol=protocol)
    client.publish("i/a", "x", qos)
    taken(client)
    (message,) = recorders.messages()
    assert message["client"] == identity("lamp", protocol)
    assert (message["payload"], message["qos"], message["retain"]) == (b"x", qos, False)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_username(broker: BrokerFactory, tmp_path: Path, protocol: int) -> None:
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="h", gräfin="its secret", test="t")],
        options={"username": "hub", "password": "h", "verbosity": 2},
    )
    recorders = Recorders(started, username="test", password="t")
    recorders.subscribe("i/#")
    say(started.client(client_id="lamp", protocol=protocol, username="gräfin", password="its secret"))
    messages = recorders.messages()
    assert [m["client"] for m in messages] == [identity("lamp", protocol, username="gräfin")] * 3
    assert "its secret" not in repr(messages) + started.log()


def test_a_username_that_nobody_checks(started: Broker, recorders: Recorders) -> None:
    """Without a password file the broker lets everybody in; what they call themselves is what it knows."""
    say(started.client(client_id="lamp", username="anything", password="x"))
    assert [message["client"]["username"] for message in recorders.messages()] == ["anything"] * 3


@pytest.mark.parametrize("client_id", ["größe/😀 +#", "x" * 1000, "$SYS/pretender", "'; \"%s\\", "None", "0"])
def test_any_client_id(started: Broker, recorders: Recorders, client_id: str) -> None:
    say(started.client(client_id=client_id))
    assert [m["client"] for m in recorders.messages()] == [identity(client_id)] * 3


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_client_id_that_the_broker_gives(started: Broker, recorders: Recorders, protocol: int) -> None:
    with PacketClient(started.port, "", protocol=protocol) as nameless:
        for number, qos in enumerate((0, 1, 2), 1):
            nameless.publish("i/a", b"x", qos, number)
        nameless.expect(PUBACK, 2)
        nameless.expect(PUBREC, 3)
        nameless.release(3)
        nameless.expect(PUBCOMP, 3)
        messages = recorders.messages()
        given = {m["client"]["id"] for m in messages}
        assert len(messages) == 3 and len(given) == 1
        assert given.pop() in started.log()


def websockets_listener(broker: BrokerFactory) -> tuple[int, list[str]]:
    """A port and the lines of a listener for websockets; skips the test where the broker has none."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "protocol websockets"]
    try:
        probe = broker(plugin=None, lines=lines)
    except BrokerFailed as failure:
        assert "ebsockets" in failure.log
        pytest.skip("this Mosquitto has no websockets")
    probe.wait_for_log("running")
    probe.client(port=port, transport="websockets").close()
    probe.stop()
    return port, lines


@pytest.mark.parametrize("protocol", [4, 5])
def test_websockets(broker: BrokerFactory, protocol: int) -> None:
    port, lines = websockets_listener(broker)
    started = start(broker, lines=lines)
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    say(started.client(client_id="browser", port=port, transport="websockets", protocol=protocol))
    say(started.client(client_id="lamp", protocol=protocol))
    found = [message["client"] for message in recorders.messages()]
    # Where the listener is libwebsockets', in Mosquitto 2.0, addresses are IPv6, those of IPv4 within it.
    address = found[0]["address"]
    assert address in ("127.0.0.1", "::ffff:127.0.0.1")
    assert found[:3] == [identity("browser", protocol, protocol="websockets", address=address)] * 3
    assert found[3:] == [identity("lamp", protocol)] * 3


def test_a_unix_socket(broker: BrokerFactory, tmp_path: Path) -> None:
    path = tmp_path / "s"
    started = start(broker, lines=[f"listener 0 {path}"])
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    say(started.client(client_id="local", host=str(path), transport="unix"))
    found = [{**message["client"], "address": "?"} for message in recorders.messages()]
    assert found == [identity("local", address="?")] * 3


def test_without_a_session(broker: BrokerFactory) -> None:
    started = broker(APPLICATION, options={"session": "off"})
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    say(started.client(client_id="lamp"))
    assert [m["client"] for m in recorders.messages()] == [identity("lamp")] * 3


def test_with_message_expiry(broker: BrokerFactory) -> None:
    """All comes through the session, and is known all the same."""
    started = start(broker, options={"message_expiry": True})
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    clients = [started.client(client_id=f"lamp {n}", protocol=n) for n in (4, 5)]
    for number in range(10):
        for client, protocol in zip(clients, (4, 5)):
            for qos in (0, 1, 2):
                client.publish("i/a", f"{protocol} {number}", qos)
            taken(client)
    messages = recorders.messages()
    assert len(messages) == 60
    for message in messages:
        protocol = int(message["payload"].split()[0])
        assert message["client"] == identity(f"lamp {protocol}", protocol)


def test_each_consumer_gets_it(started: Broker, recorders: Recorders) -> None:
    recorders.spawn(1)
    recorders.subscribe("i/+", 1, 1)
    say(started.client(client_id="lamp"))
    for app_id in (0, 1):
        assert [m["client"] for m in recorders.messages(app_id)] == [identity("lamp")] * 3


@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer keeps memory that was freed")
def test_long_names_do_not_fill_the_memory(broker: BrokerFactory) -> None:
    """Clients come, publish once under names as long as Mosquitto takes them in a CONNECT, and go."""
    started = broker("apps.echo:application")
    witness = started.client()
    witness.subscribe("out/#")
    # A str with one such letter takes four bytes for each of the others, too.
    name = "\N{OCTOPUS}" + "x" * 45000

    def come_and_go(numbers: range) -> int:
        for number in numbers:
            with PacketClient(started.port, f"{number}{name}", username=name) as client:
                client.publish("in/ping", b"", 1, 1)
                client.expect(PUBACK, 1)
            witness.wait_for()
        return started.rss()

    at_first = come_and_go(range(100))
    assert come_and_go(range(100, 400)) < at_first + 60_000_000


# ---- whose it is ----


def test_messages_that_are_no_clients(started: Broker, recorders: Recorders) -> None:
    witness = started.client()
    witness.subscribe("i/#")
    witness.publish("i/retained", "x", qos=1, retain=True)
    witness.wait_for("i/retained")
    recorders.messages()

    recorders.subscribe("i/retained")
    recorders.subscribe("$SYS/broker/version")
    recorders.call("publish", topic="i/own", payload="x", qos=2)
    started.client(will=("i/will", "x", 1, False)).abort()
    witness.wait_for("i/will")
    found = {message["topic"]: message["client"] for message in recorders.messages()}
    assert found == dict.fromkeys(["i/retained", "$SYS/broker/version", "i/own", "i/will"])


def test_two_clients_in_turn(started: Broker, recorders: Recorders) -> None:
    protocols = {"a": 4, "b": 5}
    clients = [started.client(client_id=name, protocol=protocol) for name, protocol in protocols.items()]
    for number in range(50):
        for client in clients:
            client.publish("i/a", f"{client.client_id} {number}", qos=number % 3)
            taken(client)
    messages = recorders.messages()
    assert len({message["payload"] for message in messages}) == len(messages) == 100
    for message in messages:
        name = message["payload"].decode().split()[0]
        assert message["client"] == identity(name, protocols[name])


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_many_clients_at_once(started: Broker, recorders: Recorders, qos: int) -> None:
    """Several that publish to the same topics, each its name."""
    clients = [started.client(client_id=f"sender {number}") for number in range(8)]

    def publish(client: Client) -> None:
        for number in range(100):
            client.publish(f"i/{number % 3}", client.client_id, qos)
        taken(client)

    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(publish, clients))
    messages = recorders.messages()
    assert len(messages) == 800
    for message in messages:
        assert message["client"] == identity(message["payload"].decode())


def test_identical_messages_of_several_clients(started: Broker, recorders: Recorders) -> None:
    """One after the other, each when consumers have had the one before."""
    clients = [started.client(client_id=f"sender {number}") for number in range(5)]
    for qos in (0, 1, 2):
        for client in clients * 3:
            client.publish("i/a", "same", qos)
            taken(client)
            assert senders(recorders.messages()) == [client.client_id]


def test_identical_messages_in_quick_succession(started: Broker, recorders: Recorders) -> None:
    """Where nobody can tell whose of several it is that the broker releases, nobody is named; and never another."""
    clients = [started.client(client_id=f"sender {number}") for number in range(5)]
    for qos in (0, 1, 2):
        for client in clients * 10:
            client.publish("i/a", "same", qos)
            taken(client)
        expected = [client.client_id for client in clients] * 10
        found = senders(recorders.messages())
        if qos == 2:
            expected = [name and right for name, right in zip(found, expected)]
        assert found == expected


@pytest.mark.parametrize(
    ("subscribed", "other", "line"),
    [
        *itertools.product([0, 1, 2], [0, 1, 2], [""]),
        (1, 0, "upgrade_outgoing_qos true"),
        (2, 1, "upgrade_outgoing_qos true"),
    ],
)
def test_one_topic_and_payload_with_other_properties(
    broker: BrokerFactory, subscribed: int, other: int, line: str
) -> None:
    """Who asks on one topic says in the properties what for (MQTT 5, 4.10), and each question is another message."""
    started = start(broker, lines=[line] if line else [])
    recorders = Recorders(started)
    recorders.subscribe("i/#", subscribed)
    witness = started.client(protocol=5)
    witness.subscribe("i/#", qos=subscribed)
    qualities = {"first": 2, "second": other}
    askers = [(started.client(client_id=name, protocol=5), qos) for name, qos in qualities.items()]
    rounds, burst = 200, 5
    for first in range(0, rounds, burst):
        for number in range(first, first + burst):
            for client, qos in askers:
                question = f"{client.client_id} {number}".encode()
                properties = to_paho(
                    {"correlation_data": question, "user_property": [("n", "1"), ("n", "2")]}
                )
                client.publish("i/rpc", b"", qos, properties=properties, wait=number == first + burst - 1)
    taken(askers[1][0])
    got = [(m["properties"]["correlation_data"], m["client"]["id"]) for m in recorders.messages()]
    wait_until(lambda: len(witness.messages) >= 2 * rounds, 20, "what an ordinary subscriber gets")
    expected = [message.properties.CorrelationData for message in list(witness.messages)]
    assert sorted(question for question, _ in got) == sorted(expected)
    assert all(question.startswith(name.encode()) for question, name in got), "of another client"


def test_everything_equal_but_the_qos(started: Broker, recorders: Recorders) -> None:
    """The direct lane's copies are told from what the session brings by their QoS."""
    clients = [started.client(client_id=f"at {qos}") for qos in (0, 1, 2)]
    for _ in range(100):
        for qos, client in enumerate(clients):
            client.publish("i/a", "same", qos)
    taken(clients[0])
    messages = recorders.messages()
    assert Counter(message["qos"] for message in messages) == {0: 100, 1: 100, 2: 100}
    assert Counter(senders(messages)) == {"at 0": 100, "at 1": 100, "at 2": 100}


def test_qos_2_released_in_another_order(started: Broker, recorders: Recorders) -> None:
    """The broker passes a QoS 2 message on when its sender releases it, which may be long after others sent theirs."""
    with PacketClient(started.port, "slow") as slow, PacketClient(started.port, "quick") as quick:
        for number, payloads in enumerate(((b"slow's", b"quick's"), (b"same", b"same")), 1):
            for client, payload in zip((slow, quick), payloads):
                client.publish("i/a", payload, 2, number)
                client.expect(PUBREC, number)
            for client in (quick, slow):
                client.release(number)
                client.expect(PUBCOMP, number)
        messages = recorders.messages()
    assert [m["payload"] for m in messages] == [b"quick's", b"slow's", b"same", b"same"]
    assert senders(messages[:2]) == ["quick", "slow"]
    # Nothing tells these two apart: the broker does not say which it releases.
    assert senders(messages[2:]) in ([None, None], ["quick", "slow"])


def test_qos_2_sent_again(started: Broker, recorders: Recorders) -> None:
    with PacketClient(started.port, "lamp") as lamp:
        for number in range(1, 4):
            for dup in (False, True):
                lamp.publish("i/a", b"x", 2, number, dup=dup)
                lamp.expect(PUBREC, number)
            lamp.release(number)
            lamp.expect(PUBCOMP, number)
            assert senders(recorders.messages()) == ["lamp"]


def test_qos_2_that_is_never_released(started: Broker, recorders: Recorders) -> None:
    """One that is given up is not taken for another's later, nor another's for this one's."""
    for turn in range(3):
        since = len(started.log())
        with PacketClient(started.port, "quitter") as quitter:
            quitter.publish("i/a", b"same", 2, 1)
            quitter.expect(PUBREC, 1)
        started.wait_for_log("Client quitter.* closed", since=since)
        client = started.client(client_id="lamp")
        for payload in ("same", f"other {turn}"):
            client.publish("i/a", payload, qos=2)
        (same, other) = senders(recorders.messages())
        assert same in (None, "lamp")
        assert other == "lamp"


def test_who_announces_without_an_end_costs_only_itself(broker: BrokerFactory) -> None:
    """More messages with QoS 2 than anybody remembers the sender of; those of others are known."""
    started = start(broker, lines=["sys_interval 1"])
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    honest = started.client(client_id="honest")
    with PacketClient(started.port, "greedy") as greedy:
        for first in range(1, 5001, 20):
            packets = range(first, first + 20)
            greedy.send(
                b"".join(publish_packet("i/a", str(packet).encode(), 2, packet) for packet in packets)
            )
            for packet in packets:
                greedy.expect(PUBREC, packet)
        statistics = Statistics(started)
        wait_until(
            lambda: int(statistics.all().get("messages/unnamed", 0)) >= 5000 - 4096,
            20,
            "the number of those without a name",
        )
        started.wait_for_log("come to consumers without their sender")
        for number in range(20):
            honest.publish("i/a", f"honest {number}", 2)
        assert senders(recorders.messages()) == ["honest"] * 20


def test_a_will_that_says_what_somebody_else_has_not_released(started: Broker, recorders: Recorders) -> None:
    """It may pass for that message, for which nobody can be named then: none has more messages than it published."""
    witness = started.client()
    witness.subscribe("i/#", 2)
    with PacketClient(started.port, "holder") as holder:
        holder.publish("i/a", b"same", 2, 1)
        holder.expect(PUBREC, 1)
        started.client(client_id="dying", will=("i/a", "same", 2, False)).abort()
        witness.wait_for("i/a")
        before = senders(recorders.messages())
        holder.release(1)
        holder.expect(PUBCOMP, 1)
        after = senders(recorders.messages())
    assert sorted([*before, *after], key=str) == [None, "holder"]


def test_another_user_with_the_same_client_id(broker: BrokerFactory, tmp_path: Path) -> None:
    users = {f"user{number}": f"secret {number}" for number in range(4)}
    started = start(
        broker,
        anonymous=False,
        lines=[passwords(tmp_path, hub="h", test="t", **users)],
        options={"username": "hub", "password": "h"},
    )
    recorders = Recorders(started, username="test", password="t")
    recorders.subscribe("i/#")
    for number in range(12):
        name = f"user{number % 4}"
        client = started.client(
            client_id="shared", username=name, password=users[name], protocol=(4, 5)[number % 2]
        )
        say(client)
        expected = identity("shared", (4, 5)[number % 2], username=name)
        assert [message["client"] for message in recorders.messages()] == [expected] * 3
        # Politely, without a word, or not at all: then the next one takes its place.
        (client.close, client.abort, lambda: None)[number % 3]()


def test_one_topic_and_payload_under_changing_names(started: Broker, recorders: Recorders) -> None:
    """Nothing but the connection tells these messages apart."""
    generator = random.Random(7)
    for _ in range(40):
        name, username, protocol = (generator.choice(choices) for choices in ("abc", "xyz", (4, 5)))
        with started.client(client_id=name, username=username, protocol=protocol) as client:
            for qos in (0, 1, 2):
                client.publish("i/a", "same", qos)
            taken(client)
            expected = identity(name, protocol, username=username)
            assert [message["client"] for message in recorders.messages()] == [expected] * 3


# ---- certificates ----

UTC = timezone.utc
BEGIN = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
END = datetime(2099, 12, 31, 23, 59, 58, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class Mutual:
    """A broker with a second listener that asks for certificates, and the recorders at the plain one."""

    def __init__(
        self, broker: BrokerFactory, authority: Authority, *lines: str, required: bool = True, **options: Any
    ) -> None:
        self._authority = authority
        self._tls = TlsListener(
            authority,
            "server",
            f"cafile {authority.cert}",
            f"require_certificate {str(required).lower()}",
            *lines,
        )
        self.port = self._tls.port
        self.broker = start(
            broker,
            lines=self._tls.lines,
            options={"connect_events": True, "message_expiry": False, **options},
        )
        self.recorders = Recorders(self.broker)
        self.recorders.subscribe("i/#")
        self.recorders.call("watch_clients")

    def client(self, client_id: str, certificate: Certificate | None, **arguments: Any) -> Client:
        tls = (
            certificate.paho(self._authority)
            if certificate is not None
            else {"ca_certs": str(self._authority.cert)}
        )
        return self.broker.client(port=self.port, client_id=client_id, tls=tls, **arguments)

    def certificates(self, client_id: str) -> list[Any]:
        """What was said of a client's certificate, at each event and message in turn."""
        return [
            (entry[1]["client"] if entry[0] == "message" else entry[1])["certificate"]
            for entry in self.recorders.story(client_id)
        ]

    def check_refused(self, client_id: str, certificate: Certificate) -> None:
        """Neither a client that waits for an answer gets in, nor one that says all it has to say at once."""
        for _ in range(2):
            with pytest.raises(OSError) as failure:
                self.client(client_id, certificate)
            assert not isinstance(failure.value, TimeoutError)
        for protocol in (4, 5):
            said = connect_packet(client_id, protocol=protocol)
            for qos in (0, 1, 2):
                properties = b"" if protocol == 5 else None
                said += publish_packet("i/a", client_id.encode(), qos, qos, properties=properties)
            try:
                answer = shout(self.port, said + DISCONNECT, certificate.context(self._authority))
            except OSError as error:
                assert not isinstance(error, TimeoutError)
            else:
                assert answer == b""
        # Behind whatever could have come of it.
        self.client("good", self._authority.issue("good")).publish("i/a", "good", qos=2)
        assert self.recorders.story(client_id) == []
        for entry in self.recorders.history():
            assert client_id not in repr(entry)
        assert any(entry[0] == "message" for entry in self.recorders.story("good"))


def test_a_certificate_as_it_was_made(broker: BrokerFactory, authority: Authority) -> None:
    serial = 0x0A1B2C3D4E5F60718293A4B5C6D7E8F901
    made = authority.issue(
        "gateway",
        "DNS:gateway.example,DNS:*.example,email:home@example.org,URI:urn:example:gateway,IP:10.0.0.1,"
        "IP:2001:db8::1,DNS:last.example",
        subject="/C=DE/O=Müller, Söhne/OU=a\\+b/CN=Gerät 1",
        serial=serial,
        valid=(BEGIN, END),
    )
    mutual = Mutual(broker, authority)
    with mutual.client("gateway", made) as client:
        say(client)
    story = mutual.recorders.wait_for_end_of("gateway")
    assert [entry[0] for entry in story] == ["connected", *["message"] * 3, "disconnected"]
    expected = {
        "subject": r"CN=Gerät 1,OU=a\+b,O=Müller\, Söhne,C=DE",
        "issuer": f"CN={authority.name}",
        "common_name": "Gerät 1",
        "serial_number": f"{serial:034X}",
        "subject_alternative_names": (
            ("DNS", "gateway.example"),
            ("DNS", "*.example"),
            ("email", "home@example.org"),
            ("URI", "urn:example:gateway"),
            ("IP", "10.0.0.1"),
            ("IP", "2001:db8::1"),
            ("DNS", "last.example"),
        ),
        "fingerprint_sha256": made.fingerprint(),
        "not_before": int(BEGIN.timestamp()),
        "not_after": int(END.timestamp()),
    }
    for entry in story:
        found = entry[1]["client"] if entry[0] == "message" else entry[1]
        assert found == identity("gateway", certificate=expected)


def test_a_certificate_with_little_in_it(broker: BrokerFactory, authority: Authority) -> None:
    """No common name, no alternative names, and the shortest serial number."""
    made = authority.issue("nameless", None, subject="/O=Lamps", serial=5)
    mutual = Mutual(broker, authority)
    say(mutual.client("nameless", made))
    for certificate in mutual.certificates("nameless"):
        assert certificate["subject"] == "O=Lamps"
        assert certificate["common_name"] is None
        assert certificate["serial_number"] == "05"
        assert certificate["subject_alternative_names"] == ()
        assert certificate["fingerprint_sha256"] == made.fingerprint()


def test_the_session_with_a_certificate(broker: BrokerFactory, authority: Authority) -> None:
    """The plugin's own certificate is nobody's."""
    hub, lamp = authority.issue("hub"), authority.issue("lamp")
    tls = TlsListener(authority, "server", f"cafile {authority.cert}", "require_certificate true")
    options = {"port": tls.port, "cacert": authority.cert, "cert": hub.cert, "key": hub.key}
    started = start(broker, lines=tls.lines, options=options)
    recorders = Recorders(started)
    recorders.subscribe("i/#")
    say(started.client(client_id="plain"))
    say(started.client(client_id="lamp", port=tls.port, tls=lamp.paho(authority)))
    found = [(m["client"]["id"], m["client"]["certificate"]) for m in recorders.messages()]
    assert [name for name, _ in found] == ["plain"] * 3 + ["lamp"] * 3
    assert [certificate for _, certificate in found[:3]] == [None] * 3
    assert {certificate["common_name"] for _, certificate in found[3:]} == {"lamp"}


def test_several_certificates_in_turn(broker: BrokerFactory, authority: Authority) -> None:
    mutual = Mutual(broker, authority)
    made = [authority.issue(f"lamp{number}") for number in range(3)]
    clients = [mutual.client(f"client{number}", certificate) for number, certificate in enumerate(made)]
    for number in range(12):
        client = clients[number % 3]
        client.publish("i/a", str(number), qos=number // 3 % 3)
        taken(client)
    for number, certificate in enumerate(made):
        found = mutual.certificates(f"client{number}")
        assert [one["fingerprint_sha256"] for one in found] == [certificate.fingerprint()] * 5


def test_another_certificate_with_the_same_client_id(broker: BrokerFactory, authority: Authority) -> None:
    mutual = Mutual(broker, authority)
    first, second = authority.issue("first"), authority.issue("second")
    for number, certificate in enumerate((first, second, second, first, first, second)):
        client = mutual.client("shared", certificate)
        say(client)
        shown = [message["client"]["certificate"] for message in mutual.recorders.messages()]
        assert [one["fingerprint_sha256"] for one in shown] == [certificate.fingerprint()] * 3
        (client.close, client.abort, lambda: None)[number % 3]()


def test_a_certificate_that_expires_while_its_owner_is_connected(
    broker: BrokerFactory, authority: Authority
) -> None:
    """The broker does not mind; but what is no longer valid is not shown."""
    mutual = Mutual(broker, authority)
    now = datetime.now(UTC)
    brief = authority.issue("brief", valid=(now - timedelta(days=1), now + timedelta(seconds=2 * PATIENCE)))
    client = mutual.client("brief", brief)
    say(client)
    assert [one["fingerprint_sha256"] for one in mutual.certificates("brief")] == [brief.fingerprint()] * 4

    def shown() -> bool:
        client.publish("i/a", "again", qos=1)
        (message,) = mutual.recorders.messages()
        assert message["client"]["id"] == "brief"
        return message["client"]["certificate"] is not None

    wait_until(lambda: not shown(), 20, "the end of the certificate")
    client.publish("i/a", "again", qos=2)
    client.close()
    assert [
        entry[1]["client"]["certificate"] if entry[0] == "message" else entry[1]["certificate"]
        for entry in mutual.recorders.wait_for_end_of("brief")[-2:]
    ] == [None, None]


def test_no_certificate_where_none_is_required(broker: BrokerFactory, authority: Authority) -> None:
    """Mosquitto then does not ask for any, so it does not see one that a client has."""
    mutual = Mutual(broker, authority, required=False)
    say(mutual.client("anonymous", None))
    say(mutual.client("modest", authority.issue("modest")))
    say(mutual.broker.client(client_id="plain"))
    for name in ("anonymous", "modest", "plain"):
        assert mutual.certificates(name) == [None] * 4


def test_no_certificate_where_one_is_required(broker: BrokerFactory, authority: Authority) -> None:
    mutual = Mutual(broker, authority)
    with pytest.raises(OSError) as failure:
        mutual.client("anonymous", None)
    assert not isinstance(failure.value, TimeoutError)
    mutual.client("good", authority.issue("good")).publish("i/a", "good", qos=2)
    assert mutual.recorders.story("anonymous") == []
    assert len(mutual.recorders.story("good")) == 2


def test_an_expired_certificate(broker: BrokerFactory, authority: Authority) -> None:
    Mutual(broker, authority).check_refused("expired", authority.issue_expired("expired"))


def test_a_certificate_that_is_not_yet_valid(broker: BrokerFactory, authority: Authority) -> None:
    begin = datetime.now(UTC) + timedelta(days=1)
    early = authority.issue("early", valid=(begin, begin + timedelta(days=1)))
    Mutual(broker, authority).check_refused("early", early)


def test_a_certificate_of_another_authority(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "elsewhere").issue("foreign")
    Mutual(broker, authority).check_refused("foreign", foreign)


def test_a_certificate_of_another_authority_where_none_is_required(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    """Its owner is let in as anybody is, and it is not shown."""
    foreign = Authority(tmp_path, "elsewhere").issue("foreign")
    mutual = Mutual(broker, authority, required=False)
    say(mutual.client("foreign", foreign))
    assert mutual.certificates("foreign") == [None] * 4


def test_a_certificate_that_its_owner_signed(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    own = Authority(tmp_path, "own")
    Mutual(broker, authority).check_refused("own", Certificate(own.cert, tmp_path / "own.key"))


def test_a_certificate_of_an_authority_of_the_same_name(
    broker: BrokerFactory, authority: Authority, tmp_path: Path
) -> None:
    forger = Authority(tmp_path)
    assert forger.name == authority.name
    Mutual(broker, authority).check_refused("forged", forger.issue("forged", serial=5))


def test_a_revoked_certificate(broker: BrokerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    revoked = authority.issue("revoked")
    mutual = Mutual(broker, authority, f"crlfile {authority.revoke(revoked)}")
    mutual.check_refused("revoked", revoked)
    # Its successor of the same name is good.
    successor = authority.issue("revoked")
    say(mutual.client("successor", successor))
    assert {one["fingerprint_sha256"] for one in mutual.certificates("successor")} == {
        successor.fingerprint()
    }


def test_a_key_that_is_not_the_certificates(broker: BrokerFactory, authority: Authority) -> None:
    """Who has but the certificate cannot even begin."""
    victim, thief = authority.issue("victim"), authority.issue("thief")
    with pytest.raises(ssl.SSLError):
        Certificate(victim.cert, thief.key).context(authority)
    mutual = Mutual(broker, authority)
    say(mutual.client("victim", thief))
    assert {one["common_name"] for one in mutual.certificates("victim")} == {"thief"}


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_identity_as_username(broker: BrokerFactory, authority: Authority, protocol: int) -> None:
    mutual = Mutual(broker, authority, "use_identity_as_username true")
    lamp = authority.issue("lamp")
    say(mutual.client("first", lamp, protocol=protocol))
    say(mutual.client("second", lamp, protocol=protocol, username="admin", password="x"))
    for name in ("first", "second"):
        for entry in mutual.recorders.story(name):
            found = entry[1]["client"] if entry[0] == "message" else entry[1]
            assert (found["username"], found["certificate"]["common_name"]) == ("lamp", "lamp")


def test_websockets_with_a_certificate(broker: BrokerFactory, authority: Authority) -> None:
    websockets_listener(broker)
    mutual = Mutual(broker, authority, "protocol websockets")
    lamp = authority.issue("lamp")
    say(mutual.client("browser", lamp, transport="websockets"))
    messages = [entry[1]["client"] for entry in mutual.recorders.story("browser") if entry[0] == "message"]
    assert len(messages) == 3
    for client in messages:
        assert client["protocol"] == "websockets"
        # What the broker does not say of a websockets client is not made up.
        certificate = client["certificate"]
        assert certificate is None or certificate["fingerprint_sha256"] == lamp.fingerprint()


def test_tls_1_2(broker: BrokerFactory, authority: Authority) -> None:
    """Its handshake is another one: the certificate is checked before the client can send anything."""
    mutual = Mutual(broker, authority, "tls_version tlsv1.2")
    lamp = authority.issue("lamp")
    say(mutual.client("lamp", lamp))
    assert {one["fingerprint_sha256"] for one in mutual.certificates("lamp")} == {lamp.fingerprint()}
    mutual.check_refused("expired", authority.issue_expired("expired"))
