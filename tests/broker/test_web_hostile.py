"""Web clients that are slow, many or hostile: what they do is bounded, and consumers do not notice."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_web import TIMEOUT, Served
from websockets.exceptions import ConnectionClosed

from conftest import BrokerFactory
from support.certificates import Authority
from support.processes import wait_until
from support.web import ask, open_socket, read_to_end, trusting

MEGABYTE = 1 << 20
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n"
HANDSHAKE = (
    b"GET /ws/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def send_all(raw: socket.socket, parts: Iterator[bytes]) -> None:
    """Send until there is nothing more or nobody takes it."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            raw.sendall(part)


def test_heads_that_never_end(broker: BrokerFactory) -> None:
    """A slow loris: each connection is closed, however it is kept busy."""
    served = Served(broker, options={"http_connections": 40})
    lorises = [open_socket(served.port) for _ in range(40)]
    for raw in lorises[1:]:
        raw.sendall(b"GET / HTTP/1.1\r\n")
    # Nobody else gets in, and consumers do not notice.
    with open_socket(served.port) as late:
        assert read_to_end(late) == b""
    served.broker.wait_for_log(
        "new connections were closed, because 40 are open; plugin_opt_http_connections"
    )
    assert served.is_alive()
    open_ones = set(lorises)

    def are_closed() -> bool:
        for raw in list(open_ones):
            try:
                raw.sendall(b"X-a: b\r\n")
            except ConnectionError:
                open_ones.discard(raw)
        time.sleep(0.2)
        return len(open_ones) == 0

    wait_until(are_closed, 20, "the end of all connections")
    served.broker.wait_for_log(
        r"\d+ connections were closed whose clients sent a request, or took an answer, too"
    )
    assert ask(served.port).status == 200
    for raw in lorises:
        raw.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_handshakes_that_never_begin(broker: BrokerFactory, tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    authority = Authority(tmp_path)
    certificate = authority.issue("localhost")
    tls = {"http_cert": certificate.cert, "http_key": certificate.key}
    served = Served(broker, options={"loop": loop, "http_connections": 5, **tls})
    silent = [open_socket(served.port) for _ in range(5)]
    with open_socket(served.port) as late:
        assert read_to_end(late) == b""
    for raw in silent:
        assert read_to_end(raw) == b""
        raw.close()

    def has_room() -> bool:
        # A client hears of the end before the connection is not counted any more.
        try:
            return ask(served.port, tls=trusting(authority)).status == 200
        except OSError:
            return False

    wait_until(has_room, 5, "room for a connection")
    # The stop does not wait for one that has just begun.
    with open_socket(served.port):
        assert served.broker.stop() == 0


def test_an_upload_of_100_megabytes(broker: BrokerFactory) -> None:
    served = Served(broker)
    ask(served.port, method="POST", body=b"x" * 9 * MEGABYTE)
    before = served.broker.rss()
    with open_socket(served.port) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (100 * MEGABYTE))
        assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")
        send_all(raw, (b"x" * MEGABYTE for _ in range(100)))
    with open_socket(served.port) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        send_all(raw, (b"100000\r\n" + b"x" * MEGABYTE + b"\r\n" for _ in range(11)))
        assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")
        send_all(raw, (b"100000\r\n" + b"x" * MEGABYTE + b"\r\n" for _ in range(90)))
    assert served.broker.rss() - before < 16 * MEGABYTE
    served.broker.wait_for_log("requests had too large a body and got status 413; plugin_opt_http_body says")
    assert ask(served.port, method="POST", body=b"x" * 10 * MEGABYTE).json["body"] == 10 * MEGABYTE
    assert served.is_alive()


def test_the_answer_413_comes_to_who_sends_all_first(broker: BrokerFactory) -> None:
    """As simple clients do: to close at once would reset the connection before they have read it."""
    served = Served(broker, options={"http_body": "100k"})
    for _ in range(5):
        with open_socket(served.port) as raw:
            raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (4 * MEGABYTE))
            for _ in range(4):
                raw.sendall(b"x" * MEGABYTE)
            assert read_to_end(raw).startswith(b"HTTP/1.1 413 ")


def test_chunks_of_one_byte(broker: BrokerFactory) -> None:
    """They are much work for few bytes: others go on meanwhile, and that has an end."""
    served = Served(broker)
    with open_socket(served.port) as raw:
        raw.sendall(b"POST /nothing/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sender = threading.Thread(target=send_all, args=(raw, (b"1\r\nx\r\n" * 1000 for _ in range(1000))))
        sender.start()
        while sender.is_alive():
            assert served.is_alive()
            assert ask(served.port).status == 200
        sender.join()
    served.broker.wait_for_log(
        "connections were closed whose clients sent many chunks or frames with next to"
    )


def test_heads_that_are_too_large_or_nonsense(broker: BrokerFactory) -> None:
    served = Served(broker)
    for head in (
        REQUEST + b"X-a: " + b"b" * 100_000,
        REQUEST + b"X-a: b\r\n" * 20_000,
        b"GET /" + b"a" * 100_000,
        os.urandom(40_000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffffff\r\n",
    ):
        with open_socket(served.port) as raw:
            send_all(raw, iter([head]))
            assert b" 200 " not in read_to_end(raw)
    assert ask(served.port).status == 200
    assert served.is_alive()


def test_clients_that_take_nothing(broker: BrokerFactory) -> None:
    served = Served(broker)
    before = served.broker.rss()
    raws = [open_socket(served.port) for _ in range(10)]
    for raw in raws:
        raw.sendall(b"GET /flood/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.recv(10)
    assert ask(served.port).status == 200
    assert served.is_alive()
    assert served.broker.rss() - before < 64 * MEGABYTE
    for raw in raws:
        raw.close()  # an answer without an end that nobody wants any more
    assert ask(served.port).status == 200
    assert served.is_alive()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_pings_whose_answers_nobody_takes(broker: BrokerFactory, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    served = Served(broker, options={"loop": loop})
    before = served.broker.rss()
    with open_socket(served.port) as raw:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in raw.recv(4096)
        raw.settimeout(3)
        pings = (b"\x89\xfd" + bytes(4) + b"p" * 125) * 1000
        # They would be taken without an end, were the answers kept in memory.
        sent = 0
        with pytest.raises(OSError, match="timed out"):
            while sent < 128 * MEGABYTE:
                sent += raw.send(pings[sent % len(pings) :])
        assert served.is_alive()
        assert served.broker.rss() - before < 16 * MEGABYTE
        # With the answers taken, it goes on.
        got = 0
        while got < sent // 2:
            part = raw.recv(MEGABYTE)
            assert part
            got += len(part)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_floods_through_a_websocket(broker: BrokerFactory, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    served = Served(broker, options={"loop": loop})
    before = served.broker.rss()
    raws = [open_socket(served.port) for _ in range(5)]
    for raw in raws:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in raw.recv(4096)
        raw.setblocking(False)
    # The smallest of messages, as many as there is room for; nobody reads what comes back.
    frames = b"\x82\x81abcdx" * 10_000
    for _ in range(20):
        for raw in raws:
            with contextlib.suppress(BlockingIOError):
                raw.send(frames)
        assert served.is_alive()
    assert served.broker.rss() - before < 64 * MEGABYTE
    for raw in raws:
        raw.close()
    assert ask(served.port).status == 200


def test_a_message_that_is_too_long(broker: BrokerFactory) -> None:
    served = Served(broker)
    with served.websocket() as websocket:
        websocket.send("x" * (2 * MEGABYTE))
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(TIMEOUT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    with served.websocket() as websocket, pytest.raises(ConnectionClosed):
        # In parts, none of which is too long.
        websocket.send(["x" * 65536] * 32)
        websocket.recv(TIMEOUT)
    assert served.is_alive()


def test_messages_are_not_compressed(broker: BrokerFactory) -> None:
    """Few bytes of a client's would be many of the broker's memory."""
    served = Served(broker)
    with served.websocket() as websocket:  # which offers to compress
        assert websocket.response is not None
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers
        websocket.send("a" * 1000)
        assert websocket.recv(TIMEOUT) == "a" * 1000


def test_a_message_of_too_many_frames(broker: BrokerFactory) -> None:
    """They count nothing in its length, but each takes memory."""
    auto = pytest.importorskip("uvicorn.protocols.websockets.auto")
    if not hasattr(auto, "WebSocketsSansIOProtocol"):
        pytest.skip("an uvicorn before 0.50 keeps the frames where nobody can count them")
    served = Served(broker)
    with served.websocket() as websocket:
        websocket.send(["a"] * 1000)
        assert websocket.recv(TIMEOUT) == "a" * 1000
    with open_socket(served.port) as raw:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in raw.recv(4096)
        send_all(raw, iter([b"\x01\x80" + bytes(4)]))
        send_all(raw, (b"\x00\x80" + bytes(4) for _ in range(2000)))
        assert read_to_end(raw) == b""
    served.broker.wait_for_log(
        "connections were closed whose clients sent many chunks or frames with next to"
    )
    assert served.is_alive()


def test_paths_of_websockets_that_are_not_there_leave_no_traceback(broker: BrokerFactory) -> None:
    served = Served(broker)
    for _ in range(3):
        with open_socket(served.port) as raw:
            raw.sendall(
                b"GET /nothing/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert read_to_end(raw).startswith(b"HTTP/1.1 403 ")
    assert "Traceback" not in served.broker.log()


def test_descriptors_come_back(broker: BrokerFactory) -> None:
    served = Served(broker)
    ask(served.port)

    def descriptors() -> set[str]:
        # Each of Python's threads shows the same ones.
        return set(served.broker.descriptor_targets())

    before = descriptors()
    for _ in range(50):
        open_socket(served.port).close()
        ask(served.port, "/nothing/")
        with served.websocket() as websocket:
            websocket.send("a")
    wait_until(
        lambda: len(descriptors()) <= len(before) + 2,
        10,
        "the descriptors",
        lambda: "\n".join(descriptors() - before),
    )
