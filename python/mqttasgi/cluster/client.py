"""paho's client on an asyncio loop, and where it does not do what MQTT 5 says.

Methods whose names begin with _ are paho's of 2.2, which `pyproject.toml` asks for.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from typing import Any, Callable

import paho.mqtt.client as paho
from paho.mqtt.exception import MQTTException

from .._reasons import FAILURE

#: Packets that are read before the consumers run again.
TURN = 64


class Client(paho.Client):  # type: ignore[misc]
    """Passes over what paho cannot read, instead of closing a connection on which it would come again."""

    #: Told the topic and what is wrong of a PUBLISH that is passed over.
    unreadable: Callable[[str, str], None]
    #: Told what a packet's callback has raised, which ends the connection.
    failed: Callable[[Exception], None]

    def run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read and write when this loop says that the socket can."""
        self._event_loop = loop
        self.failed = lambda error: loop.call_exception_handler(
            {"message": "A packet of the broker could not be handled; connecting again", "exception": error}
        )
        #: More is read in the next turn of the loop.
        self._reads_on = False
        self.on_socket_open = lambda _client, _data, sock: loop.call_soon_threadsafe(self._opened, sock)
        self.on_socket_close = lambda _client, _data, sock: self._closed(sock)
        self.on_socket_register_write = lambda _client, _data, sock: loop.call_soon_threadsafe(
            self._write_later, sock
        )
        self.on_socket_unregister_write = lambda _client, _data, sock: loop.remove_writer(sock)

    # ---- the socket ----

    def _opened(self, sock: Any) -> None:
        if self.socket() is sock:
            self._event_loop.add_reader(sock, self._read)

    def _closed(self, sock: Any) -> None:
        # Also in the connecting thread, for a handshake that failed: nobody waits for that socket yet.
        if sock.fileno() >= 0:
            self._event_loop.remove_reader(sock)
            self._event_loop.remove_writer(sock)

    def _write_later(self, sock: Any) -> None:
        if self.socket() is sock and self.want_write():
            self._event_loop.add_writer(sock, self.loop_write)

    def _read(self) -> None:
        """Read packets, which paho does one by one, for a turn of the loop costs more than a packet."""
        for _ in range(TURN):
            self.loop_read()
            sock = self.socket()
            if sock is None or not (_waits(sock) or getattr(sock, "pending", int)()):
                return
        # What TLS or a WebSocket has decoded already makes no descriptor readable. But where that is readable
        # as well, each turn of the loop would read once more than the one before.
        if not self._reads_on:
            self._reads_on = True
            self._event_loop.call_soon(self._read_on, sock)

    def _read_on(self, sock: Any) -> None:
        self._reads_on = False
        if self.socket() is sock:
            self._read()

    # ---- packets ----

    def _packet_handle(self) -> Any:
        """Handle a packet, and have the connection closed if that fails: paho would handle it for ever."""
        try:
            return super()._packet_handle()
        except Exception as error:
            self.failed(error)
            return paho.MQTT_ERR_PROTOCOL

    def _sock_send(self, buf: Any) -> int:
        """Send, as paho does, and again what a WebSocket has sent a part of.

        That returns 0 then and wants the same once more, for which paho does not wait.
        """
        sent: int = super()._sock_send(buf)
        if not sent and buf:
            self._call_socket_register_write()
            raise BlockingIOError
        return sent

    def _handle_publish(self) -> Any:
        packet = self._in_packet["packet"]
        end = 2 + int.from_bytes(packet[:2], "big")
        try:
            packet[2:end].decode()  # paho passes on what is no text
            return super()._handle_publish()
        except (MQTTException, struct.error, UnicodeDecodeError) as error:
            if self._in_packet["command"] & 0x06 and len(packet) >= end + 2:
                self.ack(int.from_bytes(packet[end : end + 2], "big"), 1)
            self.unreadable(bytes(packet[2:end]).decode(errors="replace"), str(error))
            return paho.MQTT_ERR_SUCCESS

    def _send_publish(self, *arguments: Any, **named: Any) -> Any:
        """Send a PUBLISH, but not before CONNECT, which another thread may be about to send.

        Nor before CONNACK, so that those from before come first.
        """
        return super()._send_publish(*arguments, **named) if self.is_connected() else paho.MQTT_ERR_NO_CONN

    def _handle_pubrec(self) -> Any:
        """Take a refusal for the end of an exchange at QoS 2, which paho would go on with."""
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] >= FAILURE:
            return self._handle_pubackcomp("PUBACK")
        return super()._handle_pubrec()

    def _handle_pubrel(self) -> Any:
        """Complete at once what comes at QoS 2, for which another client's session may have asked."""
        self.manual_ack_set(False)
        try:
            return super()._handle_pubrel()
        finally:
            self.manual_ack_set(True)


def _waits(sock: Any) -> bool:
    """Whether there is something to read from a socket."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return bool(size)
