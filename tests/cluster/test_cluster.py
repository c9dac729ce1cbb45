"""Four processes share a real cluster's messages while they and a node are killed: what was acknowledged is handled."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from support.hivemq import HiveMQ
from support.processes import wait_until
from support.rmqtt import Cluster, Unavailable

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

HERE = Path(__file__).resolve().parent
MESSAGES = int(os.environ.get("CLUSTER_MESSAGES", "100000"))
PROCESSES = 4


class Fleet:
    """`mqttasgi --connect` with its processes, which are killed one after the other."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        self.handled_file = folder / "handled"
        self.handled_file.touch()
        self._log = folder / "fleet.log"
        python_path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "python")])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mqttasgi", "--connect", ",".join(urls), "--group", "fleet"),
                    *("--processes", str(PROCESSES), "recording:application"),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": python_path, "HANDLED": str(self.handled_file)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.killed = 0

    def workers(self) -> list[int]:
        """Return its children's process ids."""
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in children.split()]

    def kill_one(self) -> None:
        """End one of its processes with SIGKILL."""
        found = self.workers()
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
                self.killed += 1

    def handled(self) -> collections.Counter[bytes]:
        """Return how often each message was handled."""
        return collections.Counter(self.handled_file.read_bytes().split())

    def log(self) -> str:
        """Return the end of what it has said."""
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """End it as a person would."""
        assert self._process.poll() is None, f"mqttasgi ended:\n{self.log()}"
        self._process.terminate()
        self._process.wait(60)


#: HiveMQ allows 10 on their way unless set otherwise.
WINDOW = 10


class Publisher:
    """Publishes numbers with QoS 1, and knows which of them the broker has acknowledged.

    It connects again by itself, and publishes again what was not acknowledged: those may come twice by its doing.
    """

    def __init__(self, port: int) -> None:
        self.acknowledged: set[bytes] = set()
        self._port = port
        #: Packet identifier -> payload, on their way.
        self._open: dict[int, bytes] = {}
        self._client = self._connected()

    def publish(self, number: int) -> None:
        """Hand over one message, waiting while as many as may be are on their way."""
        self._until(WINDOW - 1)
        self._send(b"%d" % number)

    def wait(self) -> None:
        """Return when all are acknowledged."""
        self._until(0)

    def finish(self) -> None:
        """Return when all are acknowledged and the connection is closed."""
        self.wait()
        self._client.disconnect()

    def _send(self, payload: bytes) -> None:
        sent = self._client.publish(f"load/{int(payload) % 100}", payload, 1)
        self._open[sent.mid] = payload

    def _until(self, most: int) -> None:
        deadline = time.monotonic() + 60
        while len(self._open) > most:
            assert time.monotonic() < deadline, (
                f"the broker acknowledges nothing; {len(self._open)} are on their way"
            )
            left = len(self._open)
            if self._client.loop(1) != paho.MQTT_ERR_SUCCESS:
                payloads = list(self._open.values())
                self._open.clear()
                self._client = self._connected()
                for payload in payloads:
                    self._send(payload)
            if len(self._open) < left:
                deadline = time.monotonic() + 60

    def _connected(self) -> paho.Client:
        """Return a client with nothing of the one before it, when it is connected."""
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, f"no connection to port {self._port}"
            client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher", protocol=paho.MQTTv5)
            client.max_inflight_messages_set(WINDOW)
            client.on_socket_open = _at_once
            client.on_publish = self._acknowledged
            with contextlib.suppress(OSError):
                client.connect("127.0.0.1", self._port, 30, clean_start=True)
                while client.loop(1) == paho.MQTT_ERR_SUCCESS:
                    if client.is_connected():
                        return client
            time.sleep(0.2)  # the broker is away

    def _acknowledged(
        self, _client: object, _data: object, number: int, _code: object, _properties: object
    ) -> None:
        payload = self._open.pop(number, None)
        if payload is not None:
            self.acknowledged.add(payload)


def _at_once(_client: object, _data: object, connection: socket.socket) -> None:
    """Send small packets when they are made: one would wait 40 ms for the acknowledgement of the one before it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.fixture
def rmqtt(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes of RMQTT."""
    try:
        cluster = Cluster(tmp_path / "rmqtt")
        cluster.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield cluster
    cluster.stop()


@pytest.fixture
def hivemq(tmp_path: Path) -> Iterator[HiveMQ]:
    """One HiveMQ CE."""
    broker = HiveMQ(tmp_path / "hivemq")
    try:
        broker.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield broker
    broker.kill()


def run_fleet(
    folder: Path, urls: list[str], port: int, name: str, disturb: dict[int, object], loses: int = 0
) -> None:
    """Publish at `port` while the fleet at `urls` loses a process a second, and check that all was handled.

    Args:
        folder: For the fleet's files.
        urls: Where the fleet connects.
        port: Where messages are published.
        name: The broker's.
        disturb: What else is to happen, by the message before which it does.
        loses: How many messages the broker itself may lose of each process that is killed.
    """
    fleet = Fleet(folder, urls)
    wait_until(lambda: len(fleet.workers()) >= PROCESSES, 30, "the processes", fleet.log)
    publisher = Publisher(port)
    _until_shared(publisher, fleet)
    ended = threading.Event()

    def kill_every_second() -> None:
        while not ended.wait(1):
            fleet.kill_one()

    killer = threading.Thread(target=kill_every_second)
    killer.start()
    began = time.monotonic()
    try:
        for number in range(MESSAGES):
            if number in disturb:
                disturb[number]()  # type: ignore[operator]
            publisher.publish(number)
        publisher.finish()
    finally:
        ended.set()
        killer.join()
    missing = _settled(publisher, fleet)
    handled = fleet.handled()
    twice = sum(times - 1 for times in handled.values())
    print(
        f"\n{name}: {len(publisher.acknowledged)} acknowledged in {time.monotonic() - began:.0f} s, {fleet.killed} "
        f"processes killed, {len(missing)} not handled, {twice} handled again"
    )
    fleet.stop()
    assert len(missing) <= loses * fleet.killed, sorted(missing)[:20]


def _until_shared(publisher: Publisher, fleet: Fleet) -> None:
    """Publish until all processes have subscribed: before, the broker drops what nobody has asked for."""
    number = MESSAGES
    deadline = time.monotonic() + 60
    while len(fleet.handled()) < PROCESSES * 10:
        assert time.monotonic() < deadline, f"nothing is handled:\n{fleet.log()}"
        publisher.publish(number)
        number += 1
        time.sleep(0.05)
    publisher.wait()
    publisher.acknowledged.clear()


def _settled(publisher: Publisher, fleet: Fleet) -> set[bytes]:
    """Return what is still missing when nothing more has come for some seconds."""
    missing, came = publisher.acknowledged - fleet.handled().keys(), time.monotonic()
    while missing and time.monotonic() - came < 20:
        time.sleep(0.5)
        left = publisher.acknowledged - fleet.handled().keys()
        if left != missing:
            missing, came = left, time.monotonic()
    return missing


def test_rmqtt_gives_what_killed_processes_had_to_them_again(tmp_path: Path, rmqtt: Cluster) -> None:
    """The node that dies is one that no process is at: a session dies with its node, and RMQTT goes on feeding it.

    RMQTT 0.24 loses what it is writing when a connection breaks: `deliver()` of its session.rs has taken that from the
    queue, and counts it as under way only after the write.
    """
    first, second, third = rmqtt.nodes

    def back() -> None:
        third.start()
        rmqtt.wait()

    disturb = {MESSAGES // 3: third.kill, 2 * MESSAGES // 3: back}
    run_fleet(tmp_path, [first.url, second.url], first.port, "RMQTT", disturb, loses=1)


def test_hivemq_loses_nothing_of_killed_processes_and_its_own_death(tmp_path: Path, hivemq: HiveMQ) -> None:
    """A single node: it is killed, and started again at once."""

    def die() -> None:
        hivemq.kill()
        hivemq.start()

    run_fleet(tmp_path, [hivemq.url], hivemq.port, "HiveMQ CE", {MESSAGES // 2: die})
