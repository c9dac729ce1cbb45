"""A minute of requests and 200 WebSockets beside MQTT: nothing is lost."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from test_web import TIMEOUT, Served

from conftest import BrokerFactory
from support.web import connect as connect_http

#: Seconds.
LONG = 60
WEBSOCKETS, CONNECTIONS = 200, 8

pytestmark = pytest.mark.long


def test_nothing_is_lost_under_load(broker: BrokerFactory) -> None:
    served = Served(broker, log_types=["error", "warning", "notice"])
    end = time.monotonic() + LONG
    served_requests: list[int] = []
    echoed: list[int] = []
    failures: list[Exception] = []

    def ask_on() -> None:
        connection = connect_http(served.port)
        count = 0
        try:
            while time.monotonic() < end:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                count += 1
        except Exception as failure:
            failures.append(failure)
        connection.close()
        served_requests.append(count)

    def echo_on() -> None:
        count = 0
        try:
            with ExitStack() as stack:
                websockets = [stack.enter_context(served.websocket()) for _ in range(WEBSOCKETS)]
                while time.monotonic() < end:
                    for websocket in websockets:
                        websocket.send(str(count))
                        assert websocket.recv(TIMEOUT) == str(count)
                        count += 1
        except Exception as failure:
            failures.append(failure)
        echoed.append(count)

    threads = [threading.Thread(target=ask_on) for _ in range(CONNECTIONS)]
    threads.append(threading.Thread(target=echo_on))
    for thread in threads:
        thread.start()
    client = served.broker.client()
    client.subscribe("pong", qos=1)
    sent = 0
    while time.monotonic() < end:
        client.publish("ping", str(sent), qos=1)
        assert client.wait_for("pong", timeout=TIMEOUT).payload == str(sent).encode()
        sent += 1
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(sent, min(served_requests), echoed[0]) > 0
    print(f"{sent} messages, {sum(served_requests)} requests, {echoed[0]} echoes")
