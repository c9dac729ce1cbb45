"""What the runtime gets of what a broker elsewhere sends, without a broker."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqttasgi.cluster.address import parse
from mqttasgi.cluster.bridge import ClusterBridge
from mqttasgi.cluster.log import Log
from mqttasgi.cluster.settings import Settings

ME, YOU = 1, 2


@pytest.fixture
def bridge() -> ClusterBridge:
    options = {
        "queue_size": 10,
        "queue_bytes": 1000,
        "overload": "drop_newest",
        "shutdown_timeout": 1,
        "durable_tries": 5,
    }
    bridge = ClusterBridge(Settings("a:b", [parse("mqtt://host")], "id", options=options), Log(0, 1, 0))
    bridge._early = None
    return bridge


def published(topic: str, packet_id: int) -> paho.MQTTMessage:
    message = paho.MQTTMessage(packet_id, topic.encode())
    message.qos, message.payload, message.retain = 1, b"", False
    message.properties = Properties(PacketTypes.PUBLISH)
    return message


def taken(bridge: ClusterBridge) -> list[tuple[int, bool]]:
    """Return who gets something, and whether it may be dropped."""
    found: list[tuple[int, Any, int]] = [each for batch in bridge.take(100) for each in batch[0]]
    return sorted((handle, message.is_droppable) for handle, message, _ in found)


def test_what_a_consumer_wants_at_qos_0_may_be_dropped(bridge: ClusterBridge) -> None:
    """Although it comes at QoS 1 for another: the broker does not wait until it is handled."""
    bridge.subscribe(ME, "a", 0, 0)
    bridge.subscribe(YOU, "a", 1, 0)
    bridge.message(published("a", 1))
    assert taken(bridge) == [(ME, True), (YOU, False)]


def test_a_filter_raised_to_qos_1_fills_no_memory(
    bridge: ClusterBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What overlaps is asked for at QoS 1, and acknowledged at once where QoS 0 is wanted."""

    class Now:
        def time(self) -> float:
            return 0.0

    monkeypatch.setattr(bridge, "_loop", Now())
    bridge.subscribe(ME, "#", 0, 0)
    bridge.subscribe(ME, "a", 1, 0)
    for number in range(1, 100):
        bridge.message(published("b", number))
    assert len(taken(bridge)) == 10
