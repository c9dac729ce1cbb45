"""Mirroring another broker: the application speaks to it as it would through a connection of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

from conftest import BrokerFactory
from mqttasgi.command.configuration import is_elsewhere
from mqttasgi.command.option_table import Settings
from mqttasgi.command.values import UsageError
from support.broker import Broker, finish_all, passwords
from support.certificates import Authority, TlsListener
from support.client import Client
from support.command import Command, run_command
from support.consumers import Consumers, Heard, Recorders
from support.listeners import FakeListener, Proxy
from support.ports import free_port
from support.properties import from_paho, to_paho

APPS = Path(__file__).resolve().parent


class Mirrors:
    """Starts brokers that mirror another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[Command] = []

    def __call__(
        self,
        port: int,
        *words: str,
        application: str = "apps.listener:application",
        subscriptions: dict[str, int] | None = None,
        listens: bool = False,
    ) -> Command:
        """Start one.

        Args:
            port: Of the broker to mirror.
            words: Further arguments.
            subscriptions: What the consumer subscribes to in its connect().
            listens: Give it a port of its own, so that a test reaches it when the other broker does not.
        """
        folder = self._folder / f"broker-mirror-{len(self.made)}"
        folder.mkdir()
        environment = {}
        if subscriptions:
            (folder / "subscriptions").write_text(json.dumps(subscriptions))
            environment["TEST_SUBSCRIPTIONS"] = str(folder / "subscriptions")
        own_port = free_port()
        # A second between two tries is enough.
        lines = ["restart_timeout 1 1", *([f"listener {own_port} 127.0.0.1"] if listens else [])]
        (folder / "lines").write_text("\n".join(lines))
        made = Command(
            folder,
            application,
            settings={"MQTT_PORT": port, "MQTTASGI_INCLUDE": folder / "lines"},
            words=["--bridge", "true", *words],
            environment=environment,
            port=own_port,
            listener=listens,
        )
        self.made.append(made)
        made.start()
        return made


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirrors]:
    made = Mirrors(tmp_path)
    yield made
    finish_all(made.made)


def watch(remote: Broker, **arguments: Any) -> Client:
    """Return a client of the remote that hears everything, from before the mirror starts."""
    watcher = remote.client(**arguments)
    watcher.subscribe("#", options=SubscribeOptions(qos=2, retainAsPublished=True))
    return watcher


def heard_by(watcher: Client, topic: str) -> list[tuple[bytes, int, bool]]:
    """Return what a client has heard on a topic, as soon as nothing older can come."""
    watcher.publish("end", qos=2)
    watcher.wait_for("end")
    return [(bytes(m.payload), m.qos, m.retain) for m in watcher.messages if m.topic == topic]


def test_messages_go_both_ways_once(broker: BrokerFactory, mirror: Mirrors) -> None:
    remote = broker(plugin=None)
    watcher, client = watch(remote), remote.client()
    mirror(remote.port, application="apps.recorder:application")
    # What connect() publishes waits for the connection.
    watcher.wait_for("ready", timeout=20)
    consumers = Recorders(remote)
    consumers.subscribe("live/#", 2)
    consumers.subscribe("live/+", 1)
    said = {"user_property": [("unit", "°C")], "content_type": "text/plain"}
    for qos in (0, 1, 2):
        client.publish("live/theirs", str(qos), qos, properties=to_paho(said))
    for qos in (0, 1, 2):
        consumers.call("publish", topic="live/ours", payload=str(qos), qos=qos, properties=said)
    messages = consumers.messages()
    # What a consumer publishes may overtake what the other broker has not released yet.
    assert sorted((m["topic"], m["payload"], m["qos"]) for m in messages) == [
        (f"live/{whose}", str(qos).encode(), qos) for whose in ("ours", "theirs") for qos in (0, 1, 2)
    ]
    assert all(m["properties"] == said and m["retain"] is False for m in messages)
    for topic in ("live/theirs", "live/ours"):
        assert heard_by(watcher, topic) == [(str(qos).encode(), qos, False) for qos in (0, 1, 2)]
    assert all(from_paho(m) == said for m in watcher.messages if m.topic == "live/ours")
    # What that broker says of itself stays there.
    assert "$SYS" not in remote.log()


def test_retained_messages(broker: BrokerFactory, mirror: Mirrors) -> None:
    remote = broker(plugin=None)
    watcher = watch(remote)
    for topic in ("state/a", "state/b", "other"):
        watcher.publish(topic, "1", 1, retain=True)
    mirror(remote.port, subscriptions={"state/+": 1})
    watcher.wait_for("ready", timeout=20)
    consumers = Consumers(remote)
    # They come when the connection is made, which may be before or after the plugin's session is there.
    assert sorted(h[:3] for h in consumers.heard()) == [("state/a", "1", 1), ("state/b", "1", 1)]
    consumers.subscribe("other", 1)
    assert consumers.heard() == [Heard("other", "1", 1, True)]
    # Kept by both from now on.
    consumers.call("publish", topic="state/c", payload="1", qos=1, retain=True)
    watcher.publish("state/b", "2", 1, retain=True)
    watcher.publish("state/a", "", 1, retain=True)
    assert [(h.topic, h.payload, h.retain) for h in consumers.heard()] == [
        ("state/c", "1", False),
        ("state/b", "2", False),
        ("state/a", "", False),
    ]
    consumers.unsubscribe("state/+")
    consumers.subscribe("state/+", 1)
    expected = [Heard("state/b", "2", 1, True), Heard("state/c", "1", 1, True)]
    assert sorted(consumers.heard()) == expected
    late = remote.client()
    late.subscribe("state/+", 1)
    found = [late.wait_for(), late.wait_for()]
    assert sorted((m.topic, m.payload.decode(), m.qos, m.retain) for m in found) == expected
    # Nothing that was there was sent there again.
    assert heard_by(watcher, "state/b") == [(b"1", 1, True), (b"2", 1, True)]


def test_a_lost_link(broker: BrokerFactory, mirror: Mirrors) -> None:
    remote = broker(plugin=None, persistence=True)
    watcher = watch(remote)
    for topic in ("state/a", "state/b"):
        watcher.publish(topic, "before", 1, retain=True)
    with Proxy(remote.port) as link:
        local = mirror(link.port, subscriptions={"state/#": 1, "live/#": 2}, listens=True)
        watcher.wait_for("ready", timeout=20)
        consumers = Consumers(local)
        consumers.call("publish", topic="state/ours", payload="before", qos=1, retain=True)
        watcher.wait_for("state/ours")
        assert len(consumers.heard()) == 3
        # What the bridge has not got acknowledged it sends again. This one is heard there only when the bridge has read
        # what that broker had said by then.
        consumers.call("publish", topic="acknowledged", payload="", qos=2)
        watcher.wait_for("acknowledged", timeout=20)
        begin = len(local.log())
        link.stop()
        remote.restart()
        watcher = watch(remote)
        watcher.publish("state/a", "after", 1, retain=True)
        watcher.publish("state/ours", "after", 1, retain=True)
        for qos in (1, 2):
            consumers.call("publish", topic="live/ours", payload="meanwhile", qos=qos)
        consumers.call("publish", topic="state/new", payload="meanwhile", qos=1, retain=True)
        # Once it has tried in vain.
        local.wait_for_log(
            r"Connecting bridge mqttasgi|Connecting bridge \(step 2\)", timeout=20, since=begin
        )
        link.start()
        for _ in (1, 2):
            watcher.wait_for("live/ours", timeout=20)
        client = remote.client()
        consumers.client.subscribe("live/theirs", 2)
        client.publish("live/theirs", "again", 2)
        consumers.client.wait_for("live/theirs", timeout=20)
        client.subscribe("live/back")
        consumers.call("publish", topic="live/back", payload="", qos=1)
        client.wait_for("live/back")
        heard = consumers.heard()
    # Nothing older took the place of what had been published there meanwhile, and nothing was said twice.
    assert heard_by(watcher, "state/a") == [(b"before", 1, True), (b"after", 1, True)]
    assert heard_by(watcher, "state/b") == [(b"before", 1, True)]
    assert heard_by(watcher, "state/ours") == [(b"before", 1, True), (b"after", 1, True)]
    # At least once: Mosquitto sends what is retained here again with each try.
    assert set(heard_by(watcher, "state/new")) == {(b"meanwhile", 1, True)}
    assert heard_by(watcher, "live/ours") == [(b"meanwhile", 1, False), (b"meanwhile", 2, False)]
    # All that is retained there comes again, as it does when one subscribes again.
    # What comes from there and what is published here have no order between them.
    assert sorted(h for h in heard if h.topic.startswith("live/")) == [
        Heard("live/back", "", 1, False),
        Heard("live/ours", "meanwhile", 1, False),
        Heard("live/ours", "meanwhile", 2, False),
        Heard("live/theirs", "again", 2, False),
    ]
    assert sorted(h for h in heard if h.topic.startswith("state/")) == [
        Heard("state/a", "after", 1, False),
        Heard("state/b", "before", 1, False),
        Heard("state/new", "meanwhile", 1, False),
        Heard("state/ours", "after", 1, False),
    ]


def test_messages_wait_there_with_cleansession_false(broker: BrokerFactory, mirror: Mirrors) -> None:
    remote = broker(plugin=None)
    watcher, client = watch(remote), remote.client()
    local = mirror(remote.port, "-c", "false", subscriptions={"live/#": 2})
    watcher.wait_for("ready", timeout=20)
    # Its SUBSCRIBE came before.
    Consumers(remote).call("nothing")
    local.stop()
    for qos in (0, 1, 2):
        client.publish("live/x", str(qos), qos)
    local.start()
    watcher.wait_for("ready", timeout=20)
    heard = Consumers(remote).heard()
    # One with QoS 2 that begins before the plugin's session is there and ends after that may come twice.
    assert sorted(set(heard)) == [Heard("live/x", "1", 1, False), Heard("live/x", "2", 2, False)]
    assert sum(h.qos == 1 for h in heard) == 1


def test_topic_narrows(broker: BrokerFactory, mirror: Mirrors) -> None:
    remote = broker(plugin=None)
    watcher = watch(remote)
    local = mirror(remote.port, "--topic", "house/+/x", subscriptions={"#": 1}, listens=True)
    consumers = Consumers(local)
    consumers.call("publish", topic="house/1/y", payload="no", qos=1)
    consumers.call("publish", topic="house/1/x", payload="yes", qos=1)
    watcher.wait_for("house/1/x", timeout=20)
    watcher.publish("elsewhere", "no", 1)
    watcher.publish("house/2/x", "yes", 1)
    local_client = local.client()
    local_client.subscribe("house/2/x")
    watcher.publish("house/2/x", "end", 1)
    local_client.wait_for("house/2/x")
    assert not [m.topic for m in watcher.messages if m.topic in ("house/1/y", "did", "ready")]
    heard = {h.topic for h in consumers.heard()}
    assert "house/2/x" in heard and "elsewhere" not in heard


def test_login(broker: BrokerFactory, mirror: Mirrors, tmp_path: Path) -> None:
    lines = [passwords(tmp_path, hub="its secret", test="t")]
    remote = broker(plugin=None, anonymous=False, lines=lines)
    watcher = watch(remote, username="test", password="t")
    local = mirror(remote.port, "-U", "hub", "-P", "wrong")
    local.wait_for_log(r"Connection Refused: [Nn]ot authori[sz]ed", timeout=20)
    assert "Connecting bridge" in local.log()
    local.stop()
    mirror(remote.port, "-U", "hub", "-P", "its secret", "-i", "the-hub")
    watcher.wait_for("ready", timeout=20)
    assert "as the-hub (" in remote.log()


def test_a_broker_without_mqtt_5(mirror: Mirrors) -> None:
    # CONNACK, Unacceptable Protocol Version (MQTT 3.1.1, 3.2.2.3).
    with FakeListener(bytes((0x20, 2, 0, 1))) as remote:
        local = mirror(remote.port)
        local.wait_for_log("does not support MQTT v5.0, reconnecting using MQTT v3.1.1", timeout=20)
        remote.wait_for_connections(2)
        local.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_tls_with_certificates(
    broker: BrokerFactory, mirror: Mirrors, authority: Authority, tmp_path: Path
) -> None:
    required = ("require_certificate true", f"cafile {authority.cert}", "use_identity_as_username true")
    tls = TlsListener(authority, "server", *required)
    remote = broker(plugin=None, lines=tls.lines)
    watcher = watch(remote)
    hub, folder = authority.issue("hub"), tmp_path / "strangers"
    folder.mkdir()
    own = ("-C", str(hub.cert), "-K", str(hub.key))
    local = mirror(tls.port, *own, "-S", str(Authority(folder, "stranger").cert))
    local.wait_for_log(r"certificate verify failed", timeout=20)
    local.stop()
    mirror(tls.port, *own, "-S", str(authority.cert))
    watcher.wait_for("ready", timeout=20)
    assert "u'hub'" in remote.log()


# ---- without a broker ----


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return run_command("--bridge", "true", *words, "apps.listener:application", folder=APPS)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("-SSL", "true", "-p", "8883"), ["bridge_capath /etc/ssl/certs", "address localhost:8883"]),
        (("-H", "::1",), ["address [::1]:1883", "persistence false", "bridge_protocol_version mqttv50"]),
        (("-c", "false", "-i", "hub"), ["remote_clientid hub", "bridge_protocol_version mqttv311"]),
        (("--persistence", "/nowhere"), ["persistence false"]),
    ],
)  # fmt: skip
def test_configuration(words: Iterable[str], lines: Iterable[str]) -> None:
    printed = run(*words, "--print-config")
    assert printed.returncode == 0, printed.stderr
    assert not set(lines) - set(printed.stdout.splitlines())


def test_what_cannot_be_mirrored(tmp_path: Path, authority: Authority) -> None:
    websockets = run("-T", "websockets", "--print-config")
    assert websockets.returncode == 2
    assert "mirrors another broker over tcp only" in websockets.stderr
    wrong = run("-S", str(authority.issue("hub").key), "--print-config")
    assert wrong.returncode == 2
    assert "is not a CA's certificate in PEM form" in wrong.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_another_machine_is_mirrored(host: str) -> None:
    assert is_elsewhere(Settings(host=host))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "/run/somewhere.sock"])
def test_this_machine_is_not(host: str) -> None:
    assert not is_elsewhere(Settings(host=host))
    assert is_elsewhere(Settings(host=host, bridge=True))


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match='there is no host "no-such-host.invalid"'):
        is_elsewhere(Settings(host="no-such-host.invalid"))
