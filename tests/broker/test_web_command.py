"""HTTP by the command `mqttasgi`: from each place, and with --reload."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_web import TIMEOUT
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.broker import finish_all
from support.certificates import Authority
from support.command import SOURCES, Command, run_command
from support.ports import free_port
from support.processes import running, wait_until
from support.web import ask, trusting

APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"1"})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    elif scope["type"] == "mqtt":
        while (await receive())["type"] != "mqtt.disconnect":
            pass
    else:
        raise ValueError(scope["type"])
"""


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[list[Command]]:
    """Is to hold what a test starts, so that it ends."""
    made: list[Command] = []
    yield made
    finish_all(made)


@pytest.mark.parametrize("source", SOURCES)
def test_from_each_place(commands: list[Command], tmp_path: Path, source: str) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("localhost")
    port = free_port()
    settings: dict[str, Any] = {
        "MQTTASGI_HTTP": f"127.0.0.1:{port}",
        "MQTTASGI_HTTP_CERT": certificate.cert,
        "MQTTASGI_HTTP_KEY": certificate.key,
        "MQTTASGI_HTTP_PROXIES": "127.0.0.1",
    }
    folder = tmp_path / "broker-0"
    folder.mkdir()
    commands.append(Command(folder, "apps.web:application", source=source, settings=settings))
    commands[0].start()
    answer = ask(port, tls=trusting(authority), headers={"X-Forwarded-For": "192.0.2.7"})
    assert (answer.json["client"], answer.json["secure"]) == ("192.0.2.7", True)


def test_reload_with_a_websocket_open(commands: list[Command], tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    port = free_port()
    folder = tmp_path / "broker-0"
    folder.mkdir()
    started = Command(
        folder,
        "site_app:application",
        words=["--reload"],
        python_path=None,
        settings={"MQTTASGI_HTTP": f"127.0.0.1:{port}"},
    )
    commands.append(started)
    code = started.project / "site_app.py"
    code.write_text(APPLICATION)
    started._spawn()

    def answers(text: bytes) -> bool:
        with contextlib.suppress(ConnectionError):
            return ask(port).body == text
        return False

    wait_until(lambda: answers(b"1"), 30, "the first code's answer", started.log)
    with connect(f"ws://127.0.0.1:{port}/", open_timeout=TIMEOUT, proxy=None) as websocket:
        code.write_text(APPLICATION.replace('"body": b"1"', '"body": b"2"'))
        with pytest.raises(ConnectionClosed):
            websocket.recv(TIMEOUT)
        wait_until(lambda: answers(b"2"), 30, "the new code's answer", started.log)
    os.kill(started.pid, signal.SIGTERM)
    wait_until(lambda: not running(started.pid), 15, "the end")
    assert started.stop() == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--http", "8000"], 'argument --http: "8000" has no host; write 127.0.0.1:8000'),
        (["--http", "[::1]"], 'argument --http: "[::1]" has no port'),
        (["--http", "a:b"], 'argument --http: "a:b" has no port from 1 to 65535'),
        (
            ["--http-proxies", "127.0.0.1"],
            "argument --http-proxies: HTTP is not served; say where with --http",
        ),
        (["--http", "a:1", "--http-proxies", "me"], 'argument --http-proxies: "me" has "me" in it'),
        (["--http", "a:1", "--http-cert", "/dev/null"], "argument --http-cert: "),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, words: list[str], says: str) -> None:
    done = run_command(*words, "apps.web:application", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mqttasgi: {says}")
    assert done.stderr.count("\n") == 1
