"""HTTP and WebSockets beside MQTT: one application, one process."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed
from support.certificates import Authority
from support.client import Client
from support.ports import free_port
from support.processes import PATIENCE, wait_until
from support.statistics import Statistics
from support.web import ask, open_socket, read_to_end, trusting
from support.web import connect as connect_http

TIMEOUT = 10 * PATIENCE


class Served:
    """A broker whose application is on the web, too."""

    def __init__(
        self, broker: BrokerFactory, application: str = "apps.web:application", **arguments: Any
    ) -> None:
        self.port = free_port()
        options = {"http": f"127.0.0.1:{self.port}", **arguments.pop("options", {})}
        self.broker: Broker = broker(application, options=options, **arguments)

    def websocket(self, path: str = "/ws/") -> AbstractContextManager[ClientConnection]:
        return connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=TIMEOUT, proxy=None)

    def is_alive(self) -> bool:
        """Whether consumers answer."""
        client = self.broker.client()
        client.subscribe("pong", qos=1)
        client.publish("ping", b"x", qos=1)
        alive = client.wait_for("pong").payload == b"x"
        client.close()
        return alive


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_three_protocols(broker: BrokerFactory, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    served = Served(broker, options={"loop": loop})
    served.broker.wait_for_log(f"HTTP and WebSockets are served at http://127.0.0.1:{served.port}\\.")
    assert ask(served.port).json["method"] == "GET"
    assert ask(served.port, method="POST", body=b"x" * 1_000_000).json["body"] == 1_000_000
    assert ask(served.port, method="POST", body=iter([b"x" * 9] * 9), encode_chunked=True).json["body"] == 81
    assert ask(served.port, "/nothing/").status == 404
    assert "server" not in ask(served.port).headers
    with served.websocket() as websocket:
        for message in ("text", b"bytes", "x" * 500_000):
            websocket.send(message)
            assert websocket.recv(TIMEOUT) == message
    with pytest.raises(InvalidStatus), served.websocket("/ws/nothing/"):
        pass
    assert served.is_alive()


def test_many_requests_on_one_connection(broker: BrokerFactory) -> None:
    served = Served(broker)
    connection = connect_http(served.port)
    for number in range(20):
        connection.request("POST", "/", body=b"x" * number)
        response = connection.getresponse()
        assert (response.status, f'"body": {number}'.encode() in response.read()) == (200, True)
    connection.close()
    # All at once, and the last one closes it.
    with open_socket(served.port) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9
            + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        assert read_to_end(raw).count(b"HTTP/1.1 200") == 10


def test_it_is_off_unless_asked_for(broker: BrokerFactory) -> None:
    started = broker("apps.web:application")
    assert "uvicorn" not in Path(f"/proc/{started.pid}/maps").read_text()
    assert "HTTP" not in started.log()


def test_its_numbers(broker: BrokerFactory) -> None:
    served = Served(broker, lines=["sys_interval 1"], options={"http_body": 10})
    statistics = Statistics(served.broker)
    with served.websocket():
        for _ in range(3):
            ask(served.port)
        assert ask(served.port, method="POST", body=b"x" * 11).status == 413
        statistics.wait_for(http__connections=1, http__requests=5, http__refused=1)


# ---- where ----


def test_a_unix_socket(broker: BrokerFactory, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    served = Served(broker, options={"http": f"unix:{path}"})
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert ask(path).json["client"] is None
    with unix_connect(path, "ws://localhost/ws/", open_timeout=TIMEOUT) as websocket:
        websocket.send("a")
        assert websocket.recv(TIMEOUT) == "a"
    served.broker.stop()
    assert not os.path.lexists(path)


def test_a_unix_socket_that_is_left_over(broker: BrokerFactory, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    served = Served(broker, options={"http": path})
    served.broker.kill()
    assert os.path.exists(path)
    served.broker.start()
    assert ask(path).status == 200
    # Another broker is told, and leaves it alone.
    second = broker("apps.web:application", options={"http": path}, start=False)
    with pytest.raises(BrokerFailed) as failed:
        second.start()
    assert f"option http: {path} is taken (somebody listens there)" in failed.value.log
    assert ask(path).status == 200


def test_tls(broker: BrokerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("localhost")
    served = Served(broker, options={"http_cert": certificate.cert, "http_key": certificate.key})
    served.broker.wait_for_log(f"served at https://127.0.0.1:{served.port}")
    context = trusting(authority)
    answer = ask(served.port, tls=context, method="POST", body=b"x" * 500_000)
    assert (answer.json["secure"], answer.json["body"]) == (True, 500_000)
    with connect(
        f"wss://localhost:{served.port}/ws/", ssl=context, open_timeout=TIMEOUT, proxy=None
    ) as websocket:
        websocket.send("x" * 100_000)
        assert websocket.recv(TIMEOUT) == "x" * 100_000
    # Whoever does not speak it is no trouble.
    with open_socket(served.port) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        read_to_end(raw)
    assert ask(served.port, tls=context).status == 200


# ---- behind a proxy ----

FORWARDED = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "home.example",
    "Forwarded": "for=192.0.2.7",
}


def test_nobody_else_says_who_the_client_is(broker: BrokerFactory) -> None:
    served = Served(broker, options={"http_proxies": "10.0.0.0/8,unix"})
    answer = ask(served.port, headers=FORWARDED).json
    assert (answer["client"], answer["secure"], answer["forwarded"]) == ("127.0.0.1", False, [])


def test_a_proxy_says_who_the_client_is(broker: BrokerFactory, tmp_path: Path) -> None:
    served = Served(broker, options={"http_proxies": "127.0.0.0/8"})
    answer = ask(served.port, headers=FORWARDED).json
    assert (answer["client"], answer["secure"]) == ("192.0.2.7", True)
    assert answer["forwarded"] == ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]
    # What the client itself has put in front is not believed.
    forged = {"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}
    assert ask(served.port, headers=forged).json["client"] == "192.0.2.7"
    path = str(tmp_path / "web.sock")
    Served(broker, options={"http": path, "http_proxies": "unix"})
    assert ask(path, headers=FORWARDED).json["client"] == "192.0.2.7"
    assert ask(path).json["client"] is None


# ---- what applications do ----


def test_a_view_that_fails(broker: BrokerFactory) -> None:
    served = Served(broker, expect_traceback=True)
    assert ask(served.port, "/fail/").status == 500
    served.broker.wait_for_log("RuntimeError: a view has failed")
    assert ask(served.port, "/leave/").status == 500
    assert served.is_alive()
    assert ask(served.port).status == 200


def test_the_view_that_blocks_is_named(broker: BrokerFactory) -> None:
    served = Served(broker, options={"watchdog": 0.4})
    served.broker.wait_for_log("application runs in Mosquitto")
    since = len(served.broker.log())
    assert ask(served.port, "/block/").status == 200
    served.broker.wait_for_log(
        r"The request GET '/block/' blocks the event loop: the loop has not", since=since
    )
    served.broker.wait_for_log(r"in block$", since=since)
    since = len(served.broker.log())
    with served.websocket() as websocket:
        websocket.send("block")
        served.broker.wait_for_log(
            r"The WebSocket '/ws/' blocks the event loop: the loop has not", since=since
        )
        assert websocket.recv(TIMEOUT) == "block"


def test_requests_are_logged_when_the_verbosity_says_so(broker: BrokerFactory) -> None:
    served = Served(broker)
    ask(served.port, "/?quiet")
    served.broker.reload({"verbosity": 1})
    served.broker.wait_for_log("verbosity")

    def is_logged() -> bool:
        ask(served.port, "/?loud")
        return '"GET /?loud HTTP/1.1" 200' in served.broker.log()

    wait_until(is_logged, 10, "a line about a request")
    assert "quiet" not in served.broker.log()


@pytest.mark.parametrize("debug", ["1", ""], ids=["django", "servestatic"])
def test_static_files_and_the_way_out_of_their_folder(
    broker: BrokerFactory, tmp_path: Path, debug: str
) -> None:
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "hello.txt").write_text("hello")
    (tmp_path / "secret.txt").write_text("secret")
    served = Served(
        broker,
        environment={"TEST_STATIC": str(folder), "TEST_DEBUG": debug},
        expect_traceback=bool(debug),
    )
    assert ask(served.port, "/static/hello.txt").body == b"hello"
    for path in (
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/..%5csecret.txt",
        "/static//../../secret.txt",
        f"/static/{tmp_path}/secret.txt",
        f"/static/%2f{tmp_path}/secret.txt",
        "/static/hello.txt/../../secret.txt",
        "/static/\x00../secret.txt".replace("\x00", "%00"),
    ):
        answer = ask(served.port, path)
        # Django's own raises an error then.
        assert answer.status in ((400, 404, 500) if debug else (400, 404)), path
        assert b"secret" not in answer.body.replace(b"secret.txt", b""), path


def test_an_application_without_http(broker: BrokerFactory) -> None:
    served = Served(broker, "apps.web:only_mqtt")
    served.broker.wait_for_log(
        'the application has no "http" among its protocols, so every request gets status 404'
    )
    assert ask(served.port).status == 404
    with pytest.raises(InvalidStatus), served.websocket():
        pass
    assert served.is_alive()


# ---- lifespan ----


def test_a_lifespan_begins_before_the_first_request_and_ends(broker: BrokerFactory) -> None:
    served = Served(broker, "apps.web_plain:application")
    assert ask(served.port).body == b"begun"
    served.broker.stop()
    assert "the lifespan has ended" in served.broker.log()


def test_an_application_that_knows_no_lifespan(broker: BrokerFactory) -> None:
    served = Served(broker, "apps.web_plain:application", environment={"TEST_LIFESPAN": "is unknown"})
    assert ask(served.port).body == b"not begun"


def test_a_lifespan_that_fails_stops_the_start(broker: BrokerFactory) -> None:
    with pytest.raises(BrokerFailed) as failed:
        Served(broker, "apps.web_plain:application", environment={"TEST_LIFESPAN": "fails"})
    assert "there is no oven" in failed.value.log
    assert "Cannot serve HTTP: the application's lifespan has not started" in failed.value.log
    assert not re.search(r"mosquitto version \S+ running", failed.value.log)


# ---- starts that fail ----


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"http": "8000"}, r'option http: "8000" has no host; write 127\.0\.0\.1:8000'),
        ({"http": "http://localhost:8000"}, r"option http: .* is a URL and no address"),
        ({"http": "127.0.0.1:99999"}, r"option http: .* has no port from 1 to 65535"),
        ({"http": "nowhere.invalid:8000"}, r'option http: there is no host "nowhere\.invalid"'),
        ({"http": "192.0.2.1:8000"}, r"option http: 192\.0\.2\.1:8000 is no address of this machine"),
        ({"http": "unix:web.sock"}, r"option http: .* is not a whole path"),
        ({"http": "/nowhere/web.sock"}, r"option http: /nowhere/web\.sock has no folder to be in; make it: "),
        ({"http": "/dev/null"}, r"option http: /dev/null is there already and is no socket"),
        ({"http_proxies": "10.0.0.1/8"}, r"option http_proxies: .* write 10\.0\.0\.0/8"),
        (
            {"http_proxies": "proxy"},
            r'option http_proxies: "proxy" has "proxy" in it, which is neither an address',
        ),
    ],
)
def test_a_start_that_fails_says_why(broker: BrokerFactory, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(BrokerFailed) as failed:
        Served(broker, options=options)
    assert re.search(f"Cannot serve HTTP: {sentence}", failed.value.log), failed.value.log
    assert not re.search(r"mosquitto version \S+ running", failed.value.log)


def test_a_port_that_is_taken(broker: BrokerFactory) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerFailed) as failed:
            broker("apps.web:application", options={"http": f"127.0.0.1:{port}"})
    assert (
        f"option http: 127.0.0.1:{port} is taken by another program; stop that (sudo ss -ltnp"
        in failed.value.log
    )


def test_a_key_of_another_certificate(broker: BrokerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    for cert, key, sentence in (
        (one.cert, other.key, f"option http_key: {other.key} is not the key of {one.cert}"),
        (
            one.cert,
            one.cert,
            f"option http_cert: {one.cert} and {one.cert} are not a certificate and its key",
        ),
    ):
        with pytest.raises(BrokerFailed) as failed:
            Served(broker, options={"http_cert": cert, "http_key": key})
        assert f"Cannot serve HTTP: {sentence}" in failed.value.log


def test_uvicorn_is_not_installed(broker: BrokerFactory, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError(\"No module named 'uvicorn'\")\n")
    tests = Path(__file__).resolve().parent
    with pytest.raises(BrokerFailed) as failed:
        Served(broker, python_path=(tmp_path, tests, tests.parents[1] / "python"))
    assert (
        "Cannot serve HTTP: option http needs uvicorn (No module named 'uvicorn'); install it"
        in failed.value.log
    )


def test_a_check_binds_nothing(broker: BrokerFactory) -> None:
    served = Served(broker)
    second = broker(
        "apps.web:application", options={"http": f"127.0.0.1:{served.port}", "check": True}, start=False
    )
    with pytest.raises(BrokerFailed) as failed:
        second.start()
    assert "Cannot serve HTTP" not in failed.value.log
    assert "taken" not in failed.value.log


# ---- the end ----


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_broker_stops_with_all_kinds_of_connections_open(broker: BrokerFactory, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    served = Served(broker, options={"loop": loop, "shutdown_timeout": 2})
    bye: Client = served.broker.client()
    bye.subscribe("bye", qos=1)
    streaming = connect_http(served.port)
    streaming.request("GET", "/stream/")
    response = streaming.getresponse()
    assert response.read(101)
    flooding = open_socket(served.port)
    flooding.sendall(b"GET /flood/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert flooding.recv(10)
    silent = open_socket(served.port)
    idle = connect_http(served.port)
    idle.request("GET", "/")
    idle.getresponse().read()
    with ExitStack() as stack:
        websockets = [stack.enter_context(served.websocket()) for _ in range(20)]
        stack.enter_context(served.websocket()).send("flood")
        assert served.broker.stop(timeout=10) == 0
        for websocket in websockets:
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(TIMEOUT)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    bye.wait_for("bye")
    assert "did not end in 1.2 s and are broken off" in served.broker.log()
    assert "Traceback" not in served.broker.log()
    assert "did not finish" not in served.broker.log()
    for connection in (streaming, idle, flooding, silent):
        connection.close()


def test_a_request_that_is_under_way_is_answered_at_the_end(broker: BrokerFactory) -> None:
    served = Served(broker, options={"watchdog": 0})
    with open_socket(served.port) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12")
        # A second one, answered, shows that the first is under way.
        assert ask(served.port).status == 200
        os.kill(served.broker.pid, signal.SIGTERM)
        wait_until(lambda: _is_closed(served.port), 5, "the end of the listener")
        raw.sendall(b"34")
        assert b'"body": 4' in read_to_end(raw)
    assert served.broker.wait() == 0


def _is_closed(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return False
    except ConnectionRefusedError:
        return True
