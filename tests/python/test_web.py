"""The web side without a broker: addresses, proxies, bounds, and what the log says of it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from fake_bridge import DEFAULTS, FakeBridge
from running import LoopThatStays, settle, until

from mqttasgi._web import Address, Proxies, parse_address
from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime.service import Service
from mqttasgi.runtime.web import connections, front, listener, server, site, turns
from mqttasgi.runtime.web.connections import (
    BODY_RATE,
    BODY_TIME,
    HEAD_TIME,
    WRITE_TIME,
    Connection,
    Connections,
)
from mqttasgi.runtime.web.front import Front
from mqttasgi.runtime.web.listener import Listener, WebError
from mqttasgi.runtime.web.site import Site, scope_types_of
from support.ports import free_port

#: The uvicorn of Python 3.9 makes use of what websockets has for that alone.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:websockets", "ignore::DeprecationWarning:uvicorn"
)
ROOT = Path(__file__).resolve().parents[2]


def test_nothing_of_it_is_imported_unless_it_is_wanted() -> None:
    code = (
        "import sys, mqttasgi.runtime.service, mqttasgi.command.cli\n"
        "assert not [name for name in sys.modules if 'uvicorn' in name or 'runtime.web' in name]"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "python")}
    )


# ---- addresses and proxies ----


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        (" localhost:1 ", Address("localhost", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("/run/web.sock", Address("", 0, "/run/web.sock")),
        ("unix:/run/web.sock", Address("", 0, "/run/web.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no port"),
        ("localhost", "has no port"),
        ("8000", "has no host"),
        (":8000", r"has no host; write 0\.0\.0\.0:8000"),
        ("::1:8000", "an IPv6 address stands in brackets"),
        ("[::1]", "has no port"),
        ("[::z]:1", "has no IPv6 address in its brackets"),
        ("a:0", "no port from 1 to 65535"),
        ("a:65536", "no port from 1 to 65535"),
        ("a:99999999999999999999", "no port from 1 to 65535"),
        ("a:-1", "no port from 1 to 65535"),
        ("a:\N{SUPERSCRIPT TWO}", "no port from 1 to 65535"),
        ("a:", "no port from 1 to 65535"),
        ("a b:1", "has no host's name or address"),
        ("http://a:1", "is a URL"),
        ("unix:web.sock", "is not a whole path"),
        ("web/a.sock:1", "has no host's name or address"),
        ("/" + "a" * 107, "is too long for a unix socket's path"),
    ],
)
def test_what_is_no_address(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_address(text)


def test_proxies() -> None:
    proxies = Proxies(" 127.0.0.1, 10.0.0.0/8 ,::1,")
    assert all(host in proxies for host in ("127.0.0.1", "10.255.0.1", "::1", "0:0:0:0:0:0:0:1"))
    assert not any(host in proxies for host in ("127.0.0.2", "11.0.0.1", "::2", "name", "", None))
    assert None in Proxies("unix")
    assert None not in Proxies("")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("proxy", '"proxy" in it'),
        ("10.0.0.1/8", r"write 10\.0\.0\.0/8$"),
        ("*", "nor the word unix"),
        ("1.2.3", "neither"),
    ],
)
def test_what_is_no_proxy(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Proxies(text)


# ---- between uvicorn and the application ----


class Call:
    """One request: what an application got and what was sent."""

    def __init__(
        self, application: Any, kinds: Optional[set[str]] = None, proxies: str = "", body_max: int = 10
    ) -> None:
        self.front = Front(application, kinds, Proxies(proxies), body_max, server.behind_proxy, self._add)
        self.sent: list[Any] = []
        self.parts: list[bytes] = []

    async def run(
        self, headers: Any = (), client: Any = ("192.0.2.1", 1), kind: str = "http"
    ) -> dict[str, Any]:
        scope = {
            "type": kind,
            "method": "POST",
            "path": "/",
            "scheme": "http",
            "client": client,
            "headers": list(headers),
        }
        await self.front(scope, self._receive, self._send)
        return scope

    def _add(self, statistic: str, by: int) -> None:
        assert (statistic, by) == ("http/requests", 1)

    async def _receive(self) -> Any:
        return {"type": "http.request", "body": self.parts.pop(0), "more_body": bool(self.parts)}

    async def _send(self, event: Any) -> None:
        self.sent.append(event)

    @property
    def status(self) -> Any:
        return self.sent[0].get("status") if self.sent else None


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """Read to the end, then answer."""
    while (event := await receive())["type"] == "http.request" and event["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "last": event["type"]})


async def test_a_body_that_announces_to_be_too_long_is_not_read() -> None:
    call = Call(reading)
    await call.run([(b"content-length", b"11")])
    assert (call.status, len(call.sent)) == (413, 2)
    call = Call(reading)
    call.parts = [b"x" * 10]
    await call.run([(b"content-length", b"10")])
    assert call.status == 200


async def test_a_body_that_grows_too_long() -> None:
    call = Call(reading)
    call.parts = [b"x" * 6, b"x" * 6, b"x" * 6]
    await call.run([(b"transfer-encoding", b"chunked")])
    assert (call.status, len(call.sent)) == (413, 2)  # and the application's own answer is not sent
    assert call.parts == [b"x" * 6]
    call = Call(reading)
    call.parts = [b"x" * 5, b"x" * 5]
    await call.run([(b"transfer-encoding", b"chunked")])
    assert (call.status, call.sent[0]["last"]) == (200, "http.request")


async def test_what_an_application_does_not_take() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    call = Call(never, {"mqtt"})
    await call.run()
    assert call.status == 404
    call = Call(never, {"mqtt"})
    await call.run(kind="websocket")
    assert call.sent == [{"type": "websocket.close"}]


async def test_a_websocket_without_a_route_is_refused_without_an_error() -> None:
    async def router(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("No route found for path 'a'.")

    call = Call(router)
    await call.run(kind="websocket")
    assert call.sent == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="No route"):
        await call.run(kind="http")


async def test_only_the_end_makes_a_cancelled_request_quiet() -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    call = Call(cancelled)
    with pytest.raises(asyncio.CancelledError):
        await call.run()
    call.front.is_ending = True
    await call.run()


async def test_the_end_makes_requests_quiet_that_wait_for_their_turn() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    call = Call(endless)
    tasks = [asyncio.ensure_future(call.run()) for _ in range(front.AT_A_TIME + 1)]
    await settle()
    call.front.is_ending = True
    for task in tasks:
        task.cancel()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [task.result() for task in tasks]


FORWARDED = [
    (b"x-forwarded-for", b"198.51.100.9"),
    (b"x-forwarded-proto", b"https"),
    (b"forwarded", b"for=a"),
    (b"a", b"b"),
]
#: To Django it is one of those.
IN_DISGUISE = (b"x_forwarded_host", b"evil.example")


@pytest.mark.parametrize(
    ("proxies", "client", "is_believed"),
    [
        ("", ("192.0.2.1", 1), False),
        ("192.0.2.0/24", ("192.0.2.1", 1), True),
        ("192.0.2.2", ("192.0.2.1", 1), False),
        ("unix", None, True),
        ("", None, False),
        ("192.0.2.1", None, False),
        ("unix", ("192.0.2.1", 1), False),
    ],
)
async def test_whose_word_is_taken(proxies: str, client: Any, is_believed: bool) -> None:
    seen: list[Any] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"], scope["scheme"], [name for name, _ in scope["headers"]]))

    await Call(look, proxies=proxies).run([*FORWARDED, IN_DISGUISE], client)
    await Call(look, proxies=proxies).run([], client)
    if is_believed:
        assert (seen[0][0][0], seen[0][1], len(seen[0][2])) == ("198.51.100.9", "https", 4)
    else:
        assert seen[0] == (client, "http", [b"a"])
    assert seen[1] == (client, "http", [])


async def test_others_have_their_turns_while_an_answer_has_no_end() -> None:
    turns: list[int] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        while len(turns) < 3:
            await send({"type": "http.response.body"})

    async def other() -> None:
        while len(turns) < 3:
            turns.append(1)
            await asyncio.sleep(0)

    await asyncio.gather(Call(endless).run(), other())


async def test_few_requests_are_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LONG", 1000)
    begun: list[asyncio.Event] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        begun.append(asyncio.Event())
        await begun[-1].wait()

    call = Call(waiting)
    tasks = [asyncio.ensure_future(call.run()) for _ in range(5)]
    await settle()
    assert len(begun) == front.AT_A_TIME
    begun[0].set()
    await until(lambda: len(begun) == front.AT_A_TIME + 1)
    tasks[1].cancel()
    await until(lambda: len(begun) == front.AT_A_TIME + 2)
    # WebSockets are not among them.
    tasks.append(asyncio.ensure_future(call.run(kind="websocket")))
    await until(lambda: len(begun) == front.AT_A_TIME + 3)
    for event in begun:
        event.set()
    await until(lambda: len(begun) == 6)
    begun[-1].set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_that_take_long_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LONG", 0.001)
    begun: list[int] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        begun.append(1)
        await asyncio.Event().wait()

    call = Call(endless)
    tasks = [asyncio.ensure_future(call.run()) for _ in range(20)]
    await until(lambda: len(begun) == 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert call.front._turnstile._free._value == front.AT_A_TIME


# ---- connections ----


class FakeTransport:
    def __init__(self) -> None:
        self.did: list[str] = []
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def can_write_eof(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name in ("abort", "close", "write_eof", "pause_reading", "resume_reading"):
            return lambda: self.did.append(name)
        raise AttributeError(name)


class FakeRequest:
    def __init__(self) -> None:
        self.more_body = True
        self.response_complete = False


class FakeProtocol:
    """uvicorn's, with what is looked at."""

    def __init__(self) -> None:
        self.cycle: Any = None
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Any) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.received += data


def tell_nobody(statistic: str, by: int, text: str) -> None:
    assert statistic == "http/refused"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr(turns, "SHARE", 1000.0)
    connection = Connection(Connections(10, None, FakeProtocol, tell_nobody))
    connection.connection_made(FakeTransport())
    return connection


def seconds_until_the_end(connection: Connection, most: int = 1000, received: int = 0) -> Optional[int]:
    """Return after how many looks the connection is given up; None: it is not."""
    for second in range(most):
        if received:
            for _ in range(received):
                connection.get_buffer(-1)[:1] = b"x"
                connection.buffer_updated(1)
        connection.look(1.0)
        if "abort" in connection._transport.did:
            return second
    return None


def test_a_head_has_its_time(made: Connection) -> None:
    assert seconds_until_the_end(made, received=1) == HEAD_TIME
    assert made.inner.received == b"x" * int(HEAD_TIME + 1)


def test_each_head_has_its_time(made: Connection) -> None:
    for _ in range(5):
        assert seconds_until_the_end(made, int(HEAD_TIME)) is None
        made.inner.cycle = FakeRequest()
        made.inner.cycle.more_body = False
        assert seconds_until_the_end(made) is None  # the application may take its time
        made.inner.cycle.response_complete = True
    assert seconds_until_the_end(made) == HEAD_TIME + 1


def test_a_body_has_its_time_and_more_the_longer_it_is(made: Connection) -> None:
    made.inner.cycle = FakeRequest()
    assert seconds_until_the_end(made) == BODY_TIME + 1
    second = Connection(Connections(10, None, FakeProtocol, tell_nobody))
    second.connection_made(FakeTransport())
    second.inner.cycle = FakeRequest()
    assert seconds_until_the_end(second, 300, received=BODY_RATE) is None


def test_nobody_is_blamed_for_an_application_that_does_not_read(made: Connection) -> None:
    made.inner.cycle = FakeRequest()
    made.inner.transport.pause_reading()
    assert seconds_until_the_end(made) is None


def test_the_message_of_a_websocket_has_its_time(made: Connection) -> None:
    del made.inner.cycle
    made.inner.frames = []
    for _ in range(5):
        assert seconds_until_the_end(made, 100) is None
        made.inner.frames = [b""]
        assert seconds_until_the_end(made, int(BODY_TIME)) is None
        made.inner.frames = []
    made.inner.frames = [b""]
    assert seconds_until_the_end(made) == BODY_TIME + 1


def test_the_message_of_a_websocket_has_so_many_frames(made: Connection) -> None:
    del made.inner.cycle
    made.inner.frames = [b""] * connections.FRAMES
    made.buffer_updated(1)
    assert "abort" not in made._transport.did
    made.inner.frames.append(b"")
    made.buffer_updated(1)
    assert made._transport.did[-1] == "abort"


def test_who_takes_nothing_is_given_up(made: Connection) -> None:
    made.inner.cycle = FakeRequest()
    made.inner.cycle.more_body = False
    made._transport.unsent = 1000
    for _ in range(100):
        made._transport.unsent -= 1
        made.look(WRITE_TIME / 2)
    assert made._transport.did == []
    assert seconds_until_the_end(made) == WRITE_TIME


def test_what_is_closed_with_much_unsent_waits_for_a_client_that_reads(made: Connection) -> None:
    made._transport.unsent = 1000
    made.inner.transport.close()
    for _ in range(100):
        made._transport.unsent -= 1
        made.look(WRITE_TIME / 2)
    assert made._transport.did == ["close"]
    assert made.inner.transport.is_closing()


def test_a_body_that_nobody_wants_is_dropped_for_a_while(made: Connection) -> None:
    made.inner.cycle = FakeRequest()
    made.inner.cycle.response_complete = True
    made.inner.transport.close()
    assert made._transport.did == ["write_eof", "resume_reading"]
    made.buffer_updated(100)
    assert made.inner.received == b""
    assert seconds_until_the_end(made) == connections.LINGER_TIME


class FakeTime:
    """A clock, and what the processor has worked: so much for each part that comes to a protocol."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now = 1000.0
        self.worked = 0.0
        monkeypatch.setattr(turns, "time", self)
        monkeypatch.setattr(connections, "time", self)
        monkeypatch.setattr(FakeProtocol, "data_received", self._work)
        self.cost = cost
        self.parsed: list[bytes] = []

    def _work(self, data: bytes) -> None:
        self.worked += self.cost
        self.parsed.append(data)

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.worked


def receive(connection: Connection, data: bytes) -> None:
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


async def test_all_connections_together_take_a_share_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeTime(monkeypatch, turns.SHARE / 5)
    all_of_them = Connections(10, None, FakeProtocol, tell_nobody)
    each = [Connection(all_of_them) for _ in range(3)]
    for number, connection in enumerate(each):
        connection.connection_made(FakeTransport())
        receive(connection, b"%d" % number * 5000)
    # Something of the first one, then others have the loop; and nothing more is read.
    assert [part[:1] for part in time.parsed] == [b"0"] * 5
    assert [connection._transport.did for connection in each] == [["pause_reading"]] * 3
    await settle()
    assert len(time.parsed) == 5
    time.now += turns.WINDOW
    await until(lambda: len(time.parsed) == 10)
    assert {part[:1] for part in time.parsed[5:]} == {b"0", b"1", b"2"}
    each[0].connection_lost(None)
    monkeypatch.setattr(turns, "SHARE", 1000.0)
    time.now += turns.WINDOW
    await until(lambda: each[2]._transport.did == ["pause_reading", "resume_reading"])
    for number, connection in enumerate(each[1:], 1):
        assert b"".join(part for part in time.parsed if part[:1] == b"%d" % number) == b"%d" % number * 5000
        assert connection._transport.did == ["pause_reading", "resume_reading"]


async def test_a_turn_that_was_too_long_is_missing_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeTime(monkeypatch, turns.SHARE * 2.5)
    connection = Connection(Connections(10, None, FakeProtocol, tell_nobody))
    connection.connection_made(FakeTransport())
    receive(connection, b"a" * 5000)
    counts = []
    for _ in range(6):
        counts.append(len(time.parsed))
        time.now += turns.WINDOW
        assert connection._connections.turns._later is not None
        connection._connections.turns._later.cancel()
        connection._connections.turns._run_later()
    assert counts == [1, 1, 2, 2, 2, 3]
    connection.abort()


def test_what_an_application_does_not_want_yet_waits(made: Connection) -> None:
    made.inner.transport.pause_reading()
    made.buffer_updated(3)
    assert made.inner.received == b""
    assert made._transport.did == ["pause_reading"]


async def test_who_does_not_take_its_answers_is_not_heard(made: Connection) -> None:
    def answer(data: bytes) -> None:
        made.inner.transport.write(data)

    made.inner.data_received = answer
    made._transport.write = lambda data: None
    made.inner.pause_writing = made.inner.resume_writing = lambda: None
    made.buffer_updated(3)
    assert made._transport.did == []
    made.pause_writing()
    made.buffer_updated(3)
    assert made._transport.did == ["pause_reading"]
    # The application has its own reasons, and both must be gone.
    made.inner.transport.pause_reading()
    made.inner.transport.resume_reading()
    assert made._transport.did == ["pause_reading"]
    made.inner.transport.pause_reading()
    made.resume_writing()
    assert made._transport.did == ["pause_reading"]
    made.inner.transport.resume_reading()
    assert made._transport.did == ["pause_reading", "resume_reading"]
    # Who is merely slow to take what the application sends is heard.
    made.inner.data_received = lambda data: None
    made.pause_writing()
    made.buffer_updated(3)
    assert made._transport.did == ["pause_reading", "resume_reading"]


async def test_what_is_dear_for_its_bytes_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    time = FakeTime(monkeypatch, turns.SHARE / 2)
    connection = Connection(Connections(10, None, FakeProtocol, lambda *told: said.append(told)))
    connection.connection_made(FakeTransport())

    def second() -> None:
        time.now += 1.0
        receive(connection, b"a" * 100)

    # A request now and then, or messages that the application gets, are worth it.
    for _ in range(300):
        connection.inner.cycle = FakeRequest()
        second()
    for _ in range(300):
        second()
        connection.inner.transport.pause_reading()
        connection.inner.transport.resume_reading()
    assert "abort" not in connection._transport.did
    for _ in range(int(connections.DEAR / time.cost) + 10):
        second()
    assert connection._transport.did[-1] == "abort"
    connection._connections.look(1.0)
    assert said[0][:2] == ("http/refused", 1)


async def test_there_are_so_many_and_no_more() -> None:
    said: list[Any] = []
    all_of_them = Connections(2, None, FakeProtocol, lambda *told: said.append(told))
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        all_of_them.admit(ours)
    assert len(all_of_them) == 2
    assert pairs[2][1].recv(1) == b""
    all_of_them.look(1.0)
    all_of_them.look(1.0)
    text = "HTTP: 1 new connections were closed, because 2 are open; plugin_opt_http_connections says how many may be."
    assert said == [("http/refused", 1, text)]
    await asyncio.sleep(0)
    await until(lambda: all(connection.inner is not None for connection in all_of_them._open))
    all_of_them.end()
    await until(lambda: len(all_of_them) == 0)
    for _, theirs in pairs:
        theirs.close()


# ---- where it listens ----


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EADDRINUSE, "is taken by another program; stop that .*or choose another port"),
        (errno.EACCES, "ports below 1024 are for root. Choose a port above, and a proxy"),
        (errno.EADDRNOTAVAIL, "is no address of this machine"),
        (errno.ENOMEM, "cannot be listened at: "),
    ],
)
def test_ports_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, code: int, sentence: str) -> None:
    def bind(self: Any, address: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(listener.socket.socket, "bind", bind)
    with pytest.raises(WebError, match=f"option http: 127.0.0.1:80 .*{sentence}"):
        Listener(Address("127.0.0.1", 80))


def test_a_socket_that_somebody_else_has_made_meanwhile_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    first = Listener(Address("", 0, path))
    os.unlink(path)
    second = Listener(Address("", 0, path))
    first.close()
    assert os.path.exists(path)
    second.close()
    assert not os.path.exists(path)


# ---- the whole ----


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def new_site(bridge: FakeBridge, application: Any = answering, **options: Any) -> tuple[Site, Service, int]:
    port = free_port()
    service = Service(bridge, LoopThatStays(asyncio.get_running_loop()))  # type: ignore[arg-type]
    made = Site(service, {**DEFAULTS, "http": f"127.0.0.1:{port}", **options}, application)  # type: ignore[typeddict-item]
    service.site = made
    return made, service, port


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_serves_and_ends(bridge: FakeBridge) -> None:
    made, _, port = new_site(bridge)
    ready: list[bool] = []
    made.start(lambda: ready.append(True))
    await until(lambda: bool(ready))
    assert f"HTTP and WebSockets are served at http://127.0.0.1:{port}." in bridge.text()
    answer = await ask(port)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"hello\r\n0\r\n\r\n")
    made.stop(1.0)
    await until(lambda: made.has_ended)
    with pytest.raises(ConnectionRefusedError):
        await ask(port)


async def test_an_application_that_cancels_every_task_is_told(bridge: FakeBridge) -> None:
    made, service, _ = new_site(bridge)
    service.beginning.has_started = True
    made.start(lambda: None)
    await until(lambda: "are served at" in bridge.text())
    assert made._task is not None
    made._task.cancel()
    await until(lambda: made.has_ended)
    assert "The application has cancelled the task that serves HTTP" in bridge.text()


async def test_uvicorn_may_end_a_process_but_not_this_one(
    bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def startup(self: Any, sockets: Any = None) -> None:
        sys.exit(3)

    monkeypatch.setattr(server.Server, "startup", startup)
    made, service, _ = new_site(bridge)
    made.start(lambda: None)
    await until(lambda: made.has_ended)
    assert "HTTP is not served any more:" in bridge.text()
    assert service.stopped  # nobody was let in yet


async def test_what_is_missing_is_said(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_speaks_websocket", lambda: False)
    new_site(bridge, check=True)
    assert "WebSockets are not served, because neither websockets nor wsproto is installed" in bridge.text()
    new_site(bridge, MqttConsumer.as_asgi(), check=True)
    assert 'the application has no "http" among its protocols' in bridge.text()


def test_which_scopes_an_application_takes() -> None:
    from channels.routing import ProtocolTypeRouter

    assert scope_types_of(answering) is None
    assert scope_types_of(MqttConsumer.as_asgi()) == {"mqtt"}
    assert scope_types_of(ProtocolTypeRouter({"mqtt": answering, "http": answering})) == {"mqtt", "http"}
