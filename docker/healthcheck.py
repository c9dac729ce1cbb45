#!/usr/bin/python3 -IS
"""Tells Docker whether the broker in this container answers: exit status 0, or 1 with a sentence.

It connects as the plugin's own session does, to the address in the configuration that the
broker was started with. That is always plain MQTT on this machine, by TCP or by a unix socket,
whatever clients speak: TLS, websockets, or nothing where another broker is mirrored. So it
needs no option of its own. The broker opens its listeners once the application has started.
Where the broker serves HTTP, somebody has to listen there as well; no page is asked for, because
only the application knows which one costs nothing.
"""

from __future__ import annotations

import os
import socket
import sys

# Short of the image's HEALTHCHECK --timeout, so that the sentence is still said.
TIMEOUT = 3.0
CLIENT_ID = "mqttasgi-healthcheck"


class Unhealthy(Exception):
    """The text is a sentence."""


def configuration() -> str:
    """Return the path of the configuration of the broker in this container."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).split("\0")
        except OSError:
            continue  # it has ended
        if os.path.basename(words[0]) == "mosquitto" and "-c" in words:
            return words[words.index("-c") + 1]
    raise Unhealthy("no broker runs in this container")


def options(path: str) -> dict[str, str]:
    """Return the plugin's options in a configuration, by their names."""
    found = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.strip().partition(" ")
                if key.startswith("plugin_opt_"):
                    found[key[len("plugin_opt_") :]] = value.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unhealthy(
            f"the broker's configuration {path} cannot be read: {error}"
        ) from None
    return found


def http_address(text: str) -> tuple[str, int]:
    """Return where the option `http` has pages served: a path, or a host and its port."""
    if text.startswith(("/", "unix:")):
        return text.removeprefix("unix:"), 0
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    # What listens at all addresses of the container listens at this one, too.
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def connect(host: str, port: int) -> socket.socket:
    try:
        if not host.startswith("/"):
            return socket.create_connection((host, port), TIMEOUT)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        connection.connect(host)
        return connection
    except OSError as error:
        address = host if host.startswith("/") else f"{host}:{port}"
        raise Unhealthy(f"nobody listens at {address}: {error}") from None


def text(value: str) -> bytes:
    """Return a string as MQTT writes it: behind its length."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def connect_packet(username: str | None, password: str | None) -> bytes:
    """Return CONNECT of MQTT 3.1.1, with a clean session that is kept alive for 10 seconds."""
    flags, payload = 0x02, text(CLIENT_ID)
    if username is not None:
        flags, payload = flags | 0x80, payload + text(username)
        if password is not None:
            flags, payload = flags | 0x40, payload + text(password)
    body = text("MQTT") + bytes((4, flags, 0, 10)) + payload
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes((digit | (0x80 if rest else 0),))
        if not rest:
            return b"\x10" + length + body


def receive(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise Unhealthy("the broker closed the connection")
        found += part
    return found


def check() -> str:
    """Return what is to be said of a healthy broker."""
    named = options(configuration())
    if named.get("http"):
        connect(*http_address(named["http"])).close()
    with connect(
        named.get("host", "localhost"), int(named.get("port", 1883))
    ) as connection:
        try:
            connection.sendall(
                connect_packet(named.get("username"), named.get("password"))
            )
            answer = receive(connection, 4)
            if answer[:2] != b"\x20\x02":
                raise Unhealthy(
                    f"the broker answers {answer.hex()}, which is no CONNACK"
                )
            if answer[3]:
                # Whoever wrote a password file of their own may not have told the plugin.
                return f"the broker answers, and refuses this login (code {answer[3]})"
            connection.sendall(b"\xc0\x00")  # PINGREQ
            if receive(connection, 2) != b"\xd0\x00":
                raise Unhealthy("the broker does not answer PINGREQ with PINGRESP")
            connection.sendall(b"\xe0\x00")  # DISCONNECT
        except OSError as error:
            raise Unhealthy(f"the broker does not answer: {error}") from None
    return "the broker answers"


if __name__ == "__main__":
    try:
        print(check())
    except Unhealthy as problem:
        print(problem)
        sys.exit(1)
