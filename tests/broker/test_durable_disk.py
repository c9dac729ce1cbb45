"""The durable inbox on a disk that is full, broken or has damaged the file: a sentence, and never a crash or a hang."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed
from support.durable import Keepers, numbers, publish
from support.failing_disk import FailingDisk
from support.packets import PUBACK, PacketClient
from support.processes import SANITIZER, wait_until

REFUSAL = r"The durable inbox .* cannot be used: "
SMALL = 3  # MiB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of a few MiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine does not let root mount one: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def start(
    broker: BrokerFactory, keepers: Keepers, disk: FailingDisk | None = None, **options: object
) -> Broker:
    environment = {**keepers.environment, **(disk.environment if disk else {})}
    started = broker(
        "apps.durable:application",
        options={"durable": keepers.inbox, "retries": 0, "shutdown_timeout": 2, **options},
        environment=environment,
        log_types=("error", "warning", "notice", "information"),
    )
    started.wait_for_log("Session with the listener")
    return started


def fill(folder: Path, leave: int = 0) -> Path:
    """Leave so many bytes of a file system to others; return the file that has the rest."""
    ballast = folder / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(file, bytes(4096))
    os.ftruncate(file, max(0, os.fstat(file).st_size - leave))
    os.close(file)
    return ballast


class Sender:
    """Publishes numbers with QoS 1, until one is not acknowledged.

    Attributes:
        taken: Those that were.
    """

    def __init__(self, started: Broker) -> None:
        self.taken: list[str] = []
        self._started = started

    def send(self, at_most: int = 1) -> bool:
        """Publish as many; return whether all were acknowledged. The next call begins with the one that was not."""
        with PacketClient(self._started.port, "sender", clean=False) as client:
            for _ in range(at_most):
                number = len(self.taken)
                packet = number % 65535 + 1
                try:
                    client.publish("all/x", f"{number} ".ljust(4000, ".").encode(), 1, packet)
                    client.expect(PUBACK, packet)
                except ConnectionError:
                    return False
                self.taken.append(str(number))
        return True


def handled(keepers: Keepers) -> list[str]:
    return [payload.split()[0] for payload in keepers.payloads()]


@pytest.mark.parametrize("crash", [False, True])
def test_a_full_disk(broker: BrokerFactory, tmp_path: Path, small_disk: Path, crash: bool) -> None:
    """Publishers are told, as when the inbox has its size, the log now and then; when there is room, all goes on."""
    keepers = Keepers(tmp_path)
    keepers.inbox = small_disk / "inbox"
    keepers.shut()
    started = start(broker, keepers)
    since = len(started.log())
    sender = Sender(started)
    assert not sender.send(1000), "there is no room for so many"
    assert len(sender.taken) > 10
    started.wait_for_log(f"{keepers.inbox}.*(full|room)", since=since)
    # Others are served, and the log does not have a line for each.
    publish(started, "nobody/hears", ["1"] * 10)
    for _ in range(10):
        assert not sender.send()
    said = re.findall("mqttasgi: The durable inbox.*", started.log()[since:])
    assert 1 <= len(said) < 10
    if crash:
        started.kill()
        # The start needs a few pages, which may be there or not.
        try:
            started.start()
        except BrokerFailed as failure:
            assert "the disk or a quota is full. Make room" in failure.log
            subprocess.run(["mount", "-o", f"remount,size={2 * SMALL}m", small_disk], check=True)
            started.start()
    keepers.open()
    wait_until(lambda: sender.send(), 20, "room for another")
    publish(started, "all/x", ["end"])
    keepers.wait_for("end", timeout=20)
    first = list(dict.fromkeys(handled(keepers)))
    assert first == [*sender.taken, "end"]


def test_a_disk_that_others_fill_and_empty(broker: BrokerFactory, tmp_path: Path, small_disk: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.inbox = small_disk / "inbox"
    keepers.shut()
    started = start(broker, keepers)
    sender = Sender(started)
    assert sender.send(20)
    for _ in range(3):
        ballast = fill(small_disk)
        # What has room in pages that are there is taken.
        assert not sender.send(1000)
        ballast.unlink()
        wait_until(lambda: sender.send(20), 10, "room for others")
    keepers.open()
    publish(started, "all/x", ["end"])
    keepers.wait_for("end", timeout=20)
    assert handled(keepers) == [*sender.taken, "end"]


def test_a_disk_that_is_full_at_the_start(broker: BrokerFactory, tmp_path: Path, small_disk: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.inbox = small_disk / "inbox"
    fill(small_disk)
    with pytest.raises(BrokerFailed) as failure:
        start(broker, keepers)
    assert failure.value.status is not None and failure.value.status > 0
    assert "the disk or a quota is full. Make room, or name a file elsewhere." in failure.value.log


def test_a_disk_that_is_read_only(broker: BrokerFactory, tmp_path: Path, small_disk: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.inbox = small_disk / "inbox"
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(BrokerFailed) as failure:
        start(broker, keepers)
    assert failure.value.status is not None and failure.value.status > 0
    assert "its file system is mounted read-only" in failure.value.log


# ---- a disk that fails ----


@pytest.fixture
def failing_disk(tmp_path: Path) -> FailingDisk:
    if SANITIZER:
        pytest.skip("a sanitizer's library comes before all others")
    (tmp_path / "failing").mkdir()
    return FailingDisk(tmp_path, "failing/inbox")


def keepers_on(disk: FailingDisk, folder: Path) -> Keepers:
    """Return consumers whose inbox is on a disk that fails."""
    keepers = Keepers(folder)
    keepers.inbox = folder / disk.words
    return keepers


@pytest.mark.parametrize(("call", "sync"), [("write", "process"), ("write", "full"), ("sync", "full")])
def test_what_cannot_be_stored_is_not_acknowledged(
    broker: BrokerFactory, tmp_path: Path, failing_disk: FailingDisk, call: str, sync: str
) -> None:
    keepers = keepers_on(failing_disk, tmp_path)
    keepers.shut()
    started = start(broker, keepers, disk=failing_disk, durable_sync=sync)
    sender = Sender(started)
    assert sender.send(10)
    since = len(started.log())
    failing_disk.fail(call)
    for _ in range(3):
        assert not sender.send()
    started.wait_for_log("durable", since=since)
    publish(started, "nobody/hears", ["1"])
    failing_disk.heal()
    wait_until(lambda: sender.send(), 10, "the disk to be tried again")
    assert sender.send(10)
    keepers.open()
    publish(started, "all/x", ["end"])
    keepers.wait_for("end", timeout=20)
    # What was written, but not said to be, may come twice: it was sent twice.
    first = list(dict.fromkeys(handled(keepers)))
    assert first == [*sender.taken, "end"]


def test_removals_that_cannot_be_written_wait(
    broker: BrokerFactory, tmp_path: Path, failing_disk: FailingDisk
) -> None:
    keepers = keepers_on(failing_disk, tmp_path)
    keepers.shut()
    started = start(broker, keepers, disk=failing_disk)
    sender = Sender(started)
    assert sender.send(50)
    failing_disk.fail("write")
    keepers.open()
    wait_until(lambda: handled(keepers) == sender.taken, 10, "all to be handled")
    publish(started, "nobody/hears", ["1"] * 50)
    failing_disk.heal()
    started.restart()
    publish(started, "all/x", ["end"])
    keepers.wait_for("end")
    assert handled(keepers) == [*sender.taken, "end"]


def test_what_cannot_be_read_is_read_later(
    broker: BrokerFactory, tmp_path: Path, failing_disk: FailingDisk
) -> None:
    """Nothing is lost in silence: it waits in the file."""
    keepers = keepers_on(failing_disk, tmp_path)
    keepers.shut()
    started = start(broker, keepers, disk=failing_disk, queue_size=5)
    sender = Sender(started)
    assert sender.send(600), "more than SQLite keeps in memory"
    since = len(started.log())
    failing_disk.fail("read")
    keepers.open()
    started.wait_for_log("durable", since=since)
    publish(started, "nobody/hears", ["1"])
    failing_disk.heal()
    publish(started, "all/x", ["end"])
    keepers.wait_for("end", timeout=30)
    assert handled(keepers) == [*sender.taken, "end"]


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_disk_that_fails_at_the_start(
    broker: BrokerFactory, tmp_path: Path, failing_disk: FailingDisk, call: str
) -> None:
    keepers = keepers_on(failing_disk, tmp_path)
    start(broker, keepers, disk=failing_disk).stop()
    failing_disk.fail(call)
    with pytest.raises(BrokerFailed) as failure:
        start(broker, keepers, disk=failing_disk)
    assert failure.value.status is not None and failure.value.status > 0
    assert "its disk fails" in failure.value.log


# ---- damage ----

PAGE = 4096
Damage = Callable[[random.Random, Path], None]


def flip(dice: random.Random, file: Path, count: int = 5) -> None:
    """Change some bytes."""
    size = file.stat().st_size
    with file.open("r+b") as opened:
        for _ in range(count if size else 0):
            offset = dice.randrange(size)
            opened.seek(offset)
            byte = opened.read(1)[0]
            opened.seek(offset)
            opened.write(bytes([byte ^ (1 << dice.randrange(8))]))


def cut(dice: random.Random, file: Path) -> None:
    """Take the end away."""
    os.truncate(file, dice.randrange(file.stat().st_size + 1))


def tear(dice: random.Random, file: Path) -> None:
    """Leave half of the last page, and of another one zeros."""
    size = file.stat().st_size
    os.truncate(file, max(0, size - dice.randrange(1, PAGE)))
    with file.open("r+b") as opened:
        opened.seek(dice.randrange(size // PAGE + 1) * PAGE + PAGE // 2)
        opened.write(bytes(PAGE // 2))


@pytest.fixture(scope="module")
def state() -> dict[str, Path]:
    """What a broker that was killed has left, once it is there."""
    return {}


def left_by_a_crash(broker: BrokerFactory, folder: Path, state: dict[str, Path]) -> Path:
    """Return a folder with an inbox, its log, and the file with dead letters: 300 messages, some of them handled."""
    if "folder" not in state:
        keepers = Keepers(folder)
        started = start(broker, keepers)
        publish(started, "all/x", numbers(0, 50))
        keepers.wait_for("49")
        keepers.shut()
        publish(started, "all/x", [f"{number} ".ljust(500, ".") for number in range(300)])
        started.kill()
        state["folder"] = keepers.folder
    return state["folder"]


@pytest.mark.parametrize("damage", [flip, cut, tear])
@pytest.mark.parametrize("where", ["inbox", "inbox-wal", "inbox-newest"])
@pytest.mark.parametrize("times", [1, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_damage(
    broker: BrokerFactory, tmp_path: Path, state: dict[str, Path], damage: Damage, where: str, times: int
) -> None:
    """The broker starts, and serves; or it says what is wrong, with the cure."""
    original = left_by_a_crash(broker, tmp_path, state)
    seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 30)))
    dice = random.Random(seed)
    outcomes = []
    for turn in range(times):
        (tmp_path / str(turn)).mkdir()
        keepers = Keepers(tmp_path / str(turn))
        for file in original.glob("inbox*"):
            shutil.copy(file, keepers.folder)
        file = keepers.folder / where
        damage(dice, file)
        outcomes.append(outcome(broker, keepers, f"seed {seed}, turn {turn}"))
    print(f"seed {seed}: {outcomes}")


def outcome(broker: BrokerFactory, keepers: Keepers, about: str) -> str:
    """Start a broker with a damaged file; return `started` or its refusal. Fails where it is neither."""
    try:
        started = start(broker, keepers)
    except BrokerFailed as failure:
        assert failure.status is not None and failure.status > 0, about
        sentences = [line for line in failure.log.splitlines() if "durable inbox" in line]
        assert sentences, f"{about}: {failure.log}"
        return sentences[0]
    # It may find out later. What it cannot store it does not acknowledge.
    sender = Sender(started)
    sender.send(20)
    publish(started, "nobody/hears", ["1"])
    if sender.taken and "damaged" not in started.log():
        keepers.wait_for("19 ".ljust(4000, "."), timeout=20)
    assert started.stop() == 0, about
    return "started"
