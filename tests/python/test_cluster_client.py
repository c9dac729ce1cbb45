"""What `--connect` does about paho, without a broker."""

from __future__ import annotations

import struct
from typing import Any

import paho.mqtt.client as paho
import pytest

from mqttasgi.cluster.client import Client


class Slow:
    """A socket that takes ten bytes at once."""

    def __init__(self) -> None:
        self.taken = b""

    def send(self, data: bytes) -> int:
        self.taken += bytes(data[:10])
        return min(10, len(data))


def websocket(monkeypatch: pytest.MonkeyPatch, sock: Slow) -> Any:
    """Return paho's WebSocket over a socket, after the handshake and without masks."""
    monkeypatch.setattr(paho._WebsocketWrapper, "_do_handshake", lambda *_: None)
    monkeypatch.setattr(paho.os, "urandom", bytes)
    given: Any = sock
    return paho._WebsocketWrapper(given, "host", 80, False, "/mqtt", None)


@pytest.fixture
def client() -> Client:
    client = Client(paho.CallbackAPIVersion.VERSION2, "id", protocol=paho.MQTTv5, manual_ack=True)
    client.on_socket_register_write = lambda *_: None
    return client


def packets(client: Client) -> list[bytes]:
    """Return what is on its way out."""
    return [bytes(packet["packet"]) for packet in client._out_packet]


def test_what_a_websocket_sends_in_parts_is_sent_whole(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = Slow()
    client._sock = websocket(monkeypatch, sock)
    large, small = b"a" * 1000, b"b" * 4
    client._packet_queue(paho.PUBLISH, large, 1, 1)
    client._packet_queue(paho.PUBACK, small, 2, 1)
    for _ in range(1000):
        client.loop_write()
    assert sock.taken == b"\x82\xfe\x03\xe8" + bytes(4) + large + b"\x82\x84" + bytes(4) + small
    client._sock = None


def come(client: Client, command: int, packet: bytes) -> Any:
    """Handle a packet that has come."""
    client._in_packet.update(command=command, packet=bytearray(packet))
    return client._packet_handle()


def test_a_callback_that_fails_ends_the_connection(client: Client) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    failures: list[Exception] = []
    client.failed = failures.append
    client.on_message = fail
    assert come(client, paho.PUBLISH, b"\0\1a\0") == paho.MQTT_ERR_PROTOCOL
    assert len(failures) == 1


def test_a_topic_that_is_no_text_is_passed_over(client: Client) -> None:
    passed_over: list[str] = []
    client.unreadable = lambda topic, _: passed_over.append(topic)
    client.on_message = lambda _client, _data, message: print(message.topic)
    assert come(client, paho.PUBLISH, b"\0\1\xff\0") == paho.MQTT_ERR_SUCCESS
    assert passed_over == ["\ufffd"]


def test_a_refusal_ends_what_is_published_at_qos_2(client: Client) -> None:
    """There is no PUBREL, and the identifier is free (MQTT 5, 4.3.3)."""
    codes: list[int] = []
    client.on_publish = lambda _client, _data, _number, code, _properties: codes.append(code.value)
    number = client.publish("a", b"", 2).mid
    come(client, paho.PUBREC, struct.pack("!HB", number, 0x87))
    assert (codes, packets(client), client._out_messages) == ([0x87], [], {})


def test_what_comes_at_qos_2_is_completed(client: Client) -> None:
    """A session that another client has begun may have it; PUBACK would end the connection."""
    come_to: list[Any] = []
    client.on_message = lambda _client, _data, message: come_to.append(message.payload)
    come(client, paho.PUBLISH | 4, b"\0\1a\0\7\0x")
    come(client, paho.PUBREL | 2, b"\0\7")
    come(client, paho.PUBREL | 2, b"\0\x08")
    assert come_to == [b"x"]
    assert packets(client) == [b"\x50\2\0\7", b"\x70\2\0\7", b"\x70\2\0\x08"]


def test_nothing_is_published_before_the_broker_has_answered(client: Client) -> None:
    """CONNECT comes first, and then what was published before."""
    nobody: Any = Slow()
    first = client.publish("first", b"", 1)
    client._sock = nobody
    second = client.publish("second", b"", 1)
    assert packets(client) == []
    client.loop_write = lambda: paho.MQTT_ERR_SUCCESS
    come(client, paho.CONNACK, b"\0\0\0")
    assert [first.mid, second.mid] == [1, 2]
    assert [packet[4:9] for packet in packets(client)] == [b"first", b"secon"]
    client._sock = None
