"""A broker with another allocator than glibc's before all libraries, as long-running Python programs often have: what
one side allocates and the other frees has to come from one of them."""

from __future__ import annotations

import ctypes.util
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, sanitizer_environment
from support.certificates import Authority, TlsListener
from support.client import Client
from support.consumers import Recorders
from support.properties import to_paho

PROPERTIES: dict[str, Any] = {
    "payload_format_indicator": 1,
    "content_type": "text/plain; charset=utf-8",
    "response_topic": "answers/to me",
    "correlation_data": b"\x00\xff\r\n",
    "user_property": [("room", "hall"), ("unit", "°C"), ("room", "kitchen")],
}
ALLOCATORS = ["jemalloc", "tcmalloc_minimal", "mimalloc"]


def library(name: str) -> str:
    """The file to preload; skips the test where it is not installed, or a sanitizer has its own allocator."""
    file = ctypes.util.find_library(name)
    if file is None:
        pytest.skip(f"lib{name} is not installed")
    if sanitizer_environment():
        pytest.skip("a sanitizer brings an allocator")
    return file


def start(broker: BrokerFactory, allocator: str, **arguments: object) -> Broker:
    environment = {"LD_PRELOAD": library(allocator)}
    started = broker("apps.recorder:application", environment=environment, **arguments)
    assert started.pid is not None
    maps = Path(f"/proc/{started.pid}/maps").read_text()
    assert allocator in maps, "it is not preloaded"
    return started


def exchange(recorders: Recorders, client: Client, reply: str) -> None:
    """Everything that has strings, by both lanes and both ways."""
    recorders.subscribe("p/#")
    client.subscribe(reply, 2)
    for number in range(20):
        for qos in (0, 1, 2):
            client.publish("p/a", f"{number}", qos, properties=to_paho(PROPERTIES))
            recorders.call(
                "publish", topic=reply, payload="x" * 100, qos=qos, retain=True, properties=PROPERTIES
            )
            client.wait_for(reply)
    messages = [message for message in recorders.messages() if message["topic"] == "p/a"]
    assert len(messages) == 60
    for message in messages:
        assert message["properties"] == PROPERTIES


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_messages_with_properties(broker: BrokerFactory, allocator: str) -> None:
    started = start(broker, allocator)
    started.wait_for_log("Session with the listener")
    client = started.client()
    client.publish("p/kept", "1", 1, retain=True, properties=to_paho(PROPERTIES))
    exchange(Recorders(started), client, "r/a")
    victim = started.client(will=("p/will", "gone", 1, False))
    client.subscribe("p/will")
    victim.abort()
    client.wait_for("p/will")
    started.stop()


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_without_a_session(broker: BrokerFactory, allocator: str) -> None:
    started = start(broker, allocator, options={"session": "off"})
    recorders, client = Recorders(started), started.client()
    recorders.subscribe("p/#")
    for qos in (0, 1, 2):
        client.publish("p/a", "", qos, properties=to_paho(PROPERTIES))
    assert [message["qos"] for message in recorders.messages()] == [0, 1, 2]
    started.stop()


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_certificates(broker: BrokerFactory, tmp_path: Path, allocator: str) -> None:
    """The broker's OpenSSL and the plugin's is one."""
    authority = Authority(tmp_path)
    tls = TlsListener(authority, "server", "require_certificate true", f"cafile {authority.cert}")
    hub = authority.issue("hub")
    options = {"port": tls.port, "cacert": authority.cert, "cert": hub.cert, "key": hub.key}
    started = start(broker, allocator, lines=tls.lines, options=options)
    started.wait_for_log("Session with the listener")
    exchange(Recorders(started), started.client(), "r/a")
    started.stop()
