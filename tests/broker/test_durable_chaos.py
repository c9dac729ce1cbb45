"""A broker that is killed at random instants under load: nothing is lost, out of order, or twice without a mark."""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed
from support.packets import PUBACK, PacketClient
from support.ports import free_port
from support.processes import SANITIZER, wait_until

PUBLISHERS = ("a", "b", "c", "d")
WINDOW = 10  # messages of a publisher that the broker has not acknowledged
PAUSE = 0.01  # seconds between two of them
GUEST, SPAWNS_GUEST = 3, 40  # as in apps.durable_chaos: each 40th message is for the guest


class Publisher:
    """Publishes 1, 2, 3 ... with QoS 1 and a session that stays; sends again what was not acknowledged, as it was.

    Attributes:
        acknowledged: The numbers.
        sent: How often each was sent.
        error: What went wrong with it, if anything did.
    """

    def __init__(self, port: int, name: str, protocol: int) -> None:
        self.name = name
        self.acknowledged: list[int] = []
        self.sent: Counter[int] = Counter()
        self.error: Exception | None = None
        self._port = port
        self._protocol = protocol
        self._waiting: dict[int, int] = {}  # numbers by packet identifier, in order
        self._last = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"publisher {name}")
        self._thread.start()

    def end(self) -> None:
        """Return when all that was sent has been acknowledged; the last one is for the guest, who is there then."""
        self._ends.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def _goes_on(self) -> bool:
        return not self._ends.is_set() or self._last % SPAWNS_GUEST != 0

    def _run(self) -> None:
        try:
            while self._goes_on or self._waiting:
                with suppress(ConnectionError), self._connect() as client:
                    self._publish(client)
                time.sleep(0.02)
        except Exception as error:
            self.error = error

    def _connect(self) -> PacketClient:
        # An MQTT 5 session ends with the connection unless it is to stay, here for a day.
        stays = b"\x11" + struct.pack("!I", 86400) if self._protocol == 5 else b""
        return PacketClient(
            self._port, f"publisher-{self.name}", clean=False, protocol=self._protocol, properties=stays
        )

    def _publish(self, client: PacketClient) -> None:
        for packet, number in self._waiting.items():
            self._send(client, packet, number, again=True)
        while self._waiting or self._goes_on:
            if self._goes_on and len(self._waiting) < WINDOW:
                self._last += 1
                packet = self._last % 65535 + 1
                self._waiting[packet] = self._last
                self._send(client, packet, self._last)
                time.sleep(PAUSE)
            if self._goes_on and len(self._waiting) < WINDOW // 2:
                continue
            body = client.expect(PUBACK)
            if len(body) > 2 and body[2] >= 0x80:
                raise AssertionError(f"publisher {self.name} was refused a message: reason code {body[2]:#x}")
            self.acknowledged.append(self._waiting.pop(struct.unpack("!H", body[:2])[0]))

    def _send(self, client: PacketClient, packet: int, number: int, again: bool = False) -> None:
        self.sent[number] += 1
        client.publish(f"load/{self.name}", f"{self.name} {number}".encode(), 1, packet, dup=again)


class Handled:
    """What a consumer has handled, over all lives of the broker."""

    def __init__(self, folder: Path, app_id: int) -> None:
        self.app_id = app_id
        self._file = folder / f"handled-{app_id}"
        self._offset = 0
        self._topics: dict[str, list[tuple[int, bool]]] = {}

    def on(self, topic: str) -> list[tuple[int, bool]]:
        """Return the numbers that have come on a topic, and whether they were marked as redelivered."""
        self._read()
        return self._topics.get(topic, [])

    def has(self, topic: str, number: int) -> bool:
        """Return whether that has been handled."""
        return any(number == each for each, _ in reversed(self.on(topic)))

    def check(self, topic: str, wanted: list[int], sent: Counter[int] | None = None) -> None:
        """Fail where something was handled out of order, is missing, or was handled too often without a mark.

        Args:
            wanted: What has to be there, in this order.
            sent: How often each was published, where that is known: so many may come without a mark.
        """
        numbers = self.on(topic)
        first = list(dict.fromkeys(number for number, _ in numbers))
        about = f"{self._file.name}, {topic}: "
        missing = sorted(set(wanted) - set(first))
        assert not missing, f"{about}{len(missing)} of {len(wanted)} never handled: {missing[:20]}"
        # Who is killed handles what it has in hand, beside its successor.
        if self.app_id == GUEST:
            return
        late = [number for before, number in zip(first, first[1:]) if number < before]
        assert not late, f"{about}handled after a newer one: {late[:20]}"
        if sent is None:
            return
        unmarked = Counter(number for number, marked in numbers if not marked)
        unsaid = {number: (n, sent[number]) for number, n in unmarked.items() if n > sent[number]}
        assert not unsaid, f"{about}handled without a mark, and sent, so often: {list(unsaid.items())[:20]}"

    def _read(self) -> None:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                topic, _, number, redelivered = line.decode().split()
                self._topics.setdefault(topic, []).append((int(number), redelivered == "1"))


def kill_if_running(started: Broker) -> None:
    if started.running:
        os.kill(started.pid, signal.SIGKILL)


def kill_at_random(started: Broker, dice: random.Random) -> str:
    """Let the broker run for a while, end it, and start it, which may end the same way. Returns what was done."""
    time.sleep(dice.uniform(0, 2))
    how = dice.choices(["kill", "stop", "kill at start"], [6, 1, 2])[0]
    if how == "stop":
        started.stop()
    else:
        started.kill()
    if how == "kill at start":
        killer = threading.Timer(dice.uniform(0, 1.5), kill_if_running, [started])
        killer.start()
        try:
            started.start()
        except BrokerFailed as failure:
            if failure.status != -signal.SIGKILL:
                raise
        killer.join()
        started.kill()
    started.start()
    return how


@pytest.mark.skipif(
    bool(SANITIZER), reason="what is killed reports nothing, and the rest is tested elsewhere"
)
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(8, marks=pytest.mark.timeout(600)),
        pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_killed_at_random(broker: BrokerFactory, tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "handled"
    folder.mkdir()
    seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 30)))
    dice = random.Random(seed)
    started = broker(
        "apps.durable_chaos:application",
        options={"durable": folder / "inbox", "retries": 0, "durable_tries": 100, "shutdown_timeout": 2},
        environment={"TEST_FOLDER": str(folder)},
        port=free_port(),
        log_types=("error", "warning", "notice", "information"),
        expect_traceback="now and then",
    )
    publishers = [Publisher(started.port, name, protocol) for name, protocol in zip(PUBLISHERS, (3, 4, 5, 5))]
    consumers = [Handled(folder, app_id) for app_id in (0, 1, 2, GUEST)]
    try:
        done = Counter(kill_at_random(started, dice) for _ in range(kills))
    finally:
        for publisher in publishers:
            publisher.end()
    acknowledged = sum(len(publisher.acknowledged) for publisher in publishers)
    print(f"seed {seed}: {dict(done)}, {acknowledged} messages", flush=True)
    expected = {
        (consumer, topic): numbers
        for publisher in publishers
        for consumer in consumers
        for topic, numbers in expected_by(consumer.app_id, publisher)
    }
    wait_until(
        lambda: all(consumer.has(topic, numbers[-1]) for (consumer, topic), numbers in expected.items()),
        20 + kills,
        "the last messages",
        lambda: f"seed {seed}; the last are { {topic: c.on(topic)[-1:] for c, topic in expected} }",
    )
    failures = []
    sent = {f"load/{publisher.name}": publisher.sent for publisher in publishers}
    for (consumer, topic), numbers in expected.items():
        try:
            consumer.check(topic, numbers, sent.get(topic))
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join([f"seed {seed}", *failures])


def expected_by(app_id: int, publisher: Publisher) -> Iterator[tuple[str, list[int]]]:
    """Return what a consumer has to have handled of a publisher's messages: for each topic its numbers, in order."""
    numbers = sorted(publisher.acknowledged)
    if app_id != GUEST:
        yield f"load/{publisher.name}", numbers
    if app_id:
        passed = [number for number in numbers if goes_to(number) == app_id]
        yield f"passed/{app_id}/{publisher.name}", passed


def goes_to(number: int) -> int:
    """Return the worker that the master passes it on to."""
    return GUEST if number % SPAWNS_GUEST == 0 else number % 2 + 1
