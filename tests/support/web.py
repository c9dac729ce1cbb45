"""Talks HTTP and WebSocket to a broker that serves them."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from .certificates import Authority
from .processes import PATIENCE


@dataclass
class Answer:
    """What came back for a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10 * PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(where: int | str, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return a connection to a port of this machine, or to a unix socket's path."""
    if isinstance(where, str):
        return UnixConnection(where)
    if tls is not None:
        return http.client.HTTPSConnection("localhost", where, timeout=10 * PATIENCE, context=tls)
    return http.client.HTTPConnection("127.0.0.1", where, timeout=10 * PATIENCE)


def ask(
    where: int | str,
    path: str = "/",
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    **arguments: Any,
) -> Answer:
    """Send one request on a connection of its own, and return what comes back.

    Further arguments are those of `HTTPConnection.request`: `body`, `headers`, `encode_chunked`.
    """
    connection = connect(where, tls)
    try:
        connection.request(method, path, **arguments)
        response = connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
    finally:
        connection.close()


def trusting(authority: Authority) -> ssl.SSLContext:
    """Return the context of a client that trusts an authority, which lacks what Python 3.13 asks of one."""
    context = ssl.create_default_context(cafile=authority.cert)
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context


def open_socket(port: int) -> socket.socket:
    """Return a plain connection, for what no library of HTTP would send."""
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(30 * PATIENCE)
    return made


def read_to_end(connection: socket.socket) -> bytes:
    """Return everything until the other side has closed or reset it."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received
