"""`mqttasgi --connect`: which brokers it reaches and how, and what becomes of messages when something ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import BrokerFactory
from support.broker import Broker, passwords
from support.certificates import Authority
from support.client import Client
from support.command import run_command
from support.elsewhere import Command
from support.listeners import FakeListener, Proxy
from support.ports import free_port
from support.processes import running, wait_until

CommandFactory = Callable[..., Command]
APPLICATION = "apps.elsewhere:application"


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandFactory]:
    """Make commands, which are stopped when the test ends. The log is `command-N.log`."""
    made: list[Command] = []

    def make(*addresses: str, application: str = APPLICATION, **arguments: Any) -> Command:
        log = tmp_path / f"command-{len(made)}.log"
        made.append(Command(log, application, addresses, **arguments))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        assert "Traceback" not in each.log()


@pytest.fixture
def remote(broker: BrokerFactory) -> Broker:
    """A broker without the plugin, which keeps what it has over a crash as far as Mosquitto can."""
    return broker(plugin=None, persistence=True, lines=["max_queued_messages 0", "autosave_interval 1"])


def url(broker: Broker, scheme: str = "mqtt") -> str:
    return f"{scheme}://127.0.0.1:{broker.port}"


def witness(broker: Broker, **arguments: Any) -> Client:
    """Return a client that hears what has been handled."""
    client = broker.client(**arguments)
    client.subscribe("handled", 1)
    return client


def numbers(client: Client) -> list[int]:
    """Return what has been handled, as often as it has been."""
    return [int(message.payload) for message in client.messages if message.topic == "handled"]


def wait_for_all(client: Client, count: int, timeout: float = 30) -> None:
    """Wait until each number below this has been handled at least once."""
    wait_until(
        lambda: set(numbers(client)) >= set(range(count)),
        timeout,
        "all numbers",
        lambda: str(numbers(client)),
    )


def assert_answers(client: Client) -> None:
    client.publish("number/x", "7", qos=1)
    assert client.wait_for("handled").payload == b"7"


# ---- ways to a broker ----


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_schemes(broker: BrokerFactory, command: CommandFactory, tmp_path: Path, scheme: str) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1"]
    arguments: list[str] = []
    if scheme in ("mqtts", "wss"):
        authority = Authority(tmp_path)
        shown = authority.issue("server")
        lines += [f"certfile {shown.cert}", f"keyfile {shown.key}"]
        arguments = ["--cacert", str(authority.cert)]
    if scheme in ("ws", "wss"):
        lines.append("protocol websockets")
    started = broker(plugin=None, lines=lines)
    command(f"{scheme}://127.0.0.1:{port}", arguments=arguments).start()
    client = witness(started)
    assert_answers(client)
    # More than one read of TLS or of a WebSocket frame.
    for number in range(300):
        client.publish("number/x", str(number), qos=1, wait=False)
    wait_for_all(client, 300)
    # More than one write of them.
    large = b"7".zfill(100_000)
    client.publish("number/x", large, qos=1)
    wait_until(lambda: client.messages[-1].payload == large, 20, "a large message")


def test_a_login(broker: BrokerFactory, command: CommandFactory, tmp_path: Path) -> None:
    started = broker(plugin=None, anonymous=False, lines=[passwords(tmp_path, fleet="p@ss word")])
    command(f"mqtt://fleet:p%40ss%20word@127.0.0.1:{started.port}").start()
    assert_answers(witness(started, username="fleet", password="p@ss word"))


def test_a_wrong_password_is_said_and_given_up(
    broker: BrokerFactory, command: CommandFactory, tmp_path: Path
) -> None:
    started = broker(plugin=None, anonymous=False, lines=[passwords(tmp_path, fleet="secret")])
    made = command(f"mqtt://fleet:guess@127.0.0.1:{started.port}", arguments=["--retries", "1"]).spawn()
    assert made.wait() == 1
    assert re.search(r"No connection to mqtt://fleet@127\.0\.0\.1:\d+: ", made.log())
    assert "guess" not in made.log()


def test_a_clients_certificate(broker: BrokerFactory, command: CommandFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown, own, port = authority.issue("server"), authority.issue("fleet"), free_port()
    started = broker(
        plugin=None,
        lines=[
            f"listener {port} 127.0.0.1",
            *(f"certfile {shown.cert}", f"keyfile {shown.key}", f"cafile {authority.cert}"),
            *("require_certificate true", "use_identity_as_username true"),
        ],
    )
    words = ["--cacert", str(authority.cert), "--cert", str(own.cert), "--key", str(own.key)]
    command(f"mqtts://127.0.0.1:{port}", arguments=words).start()
    started.wait_for_log(r"New client connected from 127\.0\.0\.1:\d+ as mqttasgi-.*u'fleet'")
    assert_answers(witness(started))


def test_another_certificate_is_said(broker: BrokerFactory, command: CommandFactory, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    theirs, ours = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    shown, port = theirs.issue("server"), free_port()
    lines = [f"listener {port} 127.0.0.1", f"certfile {shown.cert}", f"keyfile {shown.key}"]
    broker(plugin=None, lines=lines)
    words = ["--cacert", str(ours.cert), "--retries", "1"]
    made = command(f"mqtts://127.0.0.1:{port}", arguments=words).spawn()
    assert made.wait() == 1
    assert "its certificate cannot be verified" in made.log()


# ---- several addresses, and none ----


def test_addresses_are_tried_in_turn(broker: BrokerFactory, command: CommandFactory) -> None:
    first, second = broker(plugin=None), broker(plugin=None)
    made = command(
        f"mqtt://127.0.0.1:{free_port()}", url(first), url(second), arguments=["--retries", "0"]
    ).start()
    assert_answers(witness(first))
    first.kill()
    second.wait_for_log("New client connected .* as mqttasgi-", timeout=30)
    client = witness(second)
    # It subscribes to all again: the second broker has no session.
    second.wait_for_log(r"mqttasgi-\S+ 1 number/\+")
    assert_answers(client)
    assert made.log().count("connected as") == 1


def test_a_broker_that_is_never_there(command: CommandFactory) -> None:
    made = command(f"mqtt://127.0.0.1:{free_port()}", arguments=["--retries", "1"]).spawn()
    assert made.wait() == 1
    assert "nothing listens there" in made.log()
    assert "It was tried once" in made.log()


@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silence", "end", "HTTP"]
)
def test_what_is_no_broker(broker: BrokerFactory, command: CommandFactory, answer: bytes | None) -> None:
    """The next address is tried, whatever happens in the middle of the handshake."""
    started = broker(plugin=None)
    with FakeListener(answer) if answer != b"" else ClosingListener() as wrong:
        command(f"mqtt://127.0.0.1:{wrong.port}", url(started), arguments=["--retries", "5"]).start()
        assert wrong.accepted == 1
        assert_answers(witness(started))


class ClosingListener(FakeListener):
    """Closes when CONNECT has come."""

    def __init__(self) -> None:
        super().__init__(None)

    def serve(self, connection: Any) -> None:
        connection.recv(4096)


# ---- ends ----


@pytest.mark.parametrize("group", ["", "fleet"])
def test_the_broker_is_killed_and_back(remote: Broker, command: CommandFactory, group: str) -> None:
    """The consumers go on, and get what comes meanwhile: the broker has saved their session.

    Mosquitto 2.0.11 has forgotten by then what the session shares.
    """
    made = command(url(remote), arguments=["--retries", "0"], group=group).start()
    assert_answers(witness(remote))
    remote.wait_for_log("Saving in-memory database", since=len(remote.log()))
    remote.kill()
    made.wait_for_log("No connection to")
    remote.start()
    client = witness(remote)
    if group:
        remote.wait_for_log("Sending SUBACK to mqttasgi-", since=remote.log().rindex(" starting"), timeout=60)
    for number in range(10):
        client.publish("number/x", str(number), qos=1)
    wait_for_all(client, 10, 60)
    assert made.log().count("connected as") == 1


def test_the_broker_is_killed_and_has_forgotten(broker: BrokerFactory, command: CommandFactory) -> None:
    """The consumers are subscribed again without noticing."""
    remote = broker(plugin=None)
    made = command(url(remote), arguments=["--retries", "0"]).start()
    assert_answers(witness(remote))
    since = len(remote.log())
    remote.kill()
    remote.start()
    remote.wait_for_log(r"^mqttasgi-\S+ 1 number/\+", since=since, timeout=60)
    assert_answers(witness(remote))
    assert made.log().count("connected as") == 1


def test_what_comes_while_the_connection_is_cut(remote: Broker, command: CommandFactory) -> None:
    """Each message comes once: also those that are being handled meanwhile, which the broker sends again."""
    go = remote.folder / "go"
    with Proxy(remote.port) as proxy:
        made = command(
            f"mqtt://127.0.0.1:{proxy.port}",
            arguments=["--retries", "0"],
            environment={"TEST_GO": str(go)},
        ).start()
        client = witness(remote)
        for number in range(20):
            client.publish("number/x", str(number), qos=1)
        made.wait_for_log("begins 0$")
        proxy.stop()
        made.wait_for_log("No connection to")
        for number in range(20, 30):
            client.publish("number/x", str(number), qos=1)
        since = len(remote.log())
        proxy.start()
        remote.wait_for_log(r"Sending PUBLISH to mqttasgi-.*\(d0.*number/x", since=since, timeout=60)
        go.touch()
        wait_for_all(client, 30)
        assert sorted(numbers(client)) == list(range(30))
        assert made.stop() == 0


def test_a_process_is_killed_while_it_handles(remote: Broker, command: CommandFactory) -> None:
    """It is started again, and gets what it had not handled."""
    go = remote.folder / "go"
    made = command(url(remote), environment={"TEST_GO": str(go)}).start()
    client = witness(remote)
    for number in range(50):
        client.publish("number/x", str(number), qos=1)
    made.wait_for_log("begins 0$")
    (pid,) = made.pids()
    os.kill(pid, signal.SIGKILL)
    go.touch()
    made.wait_for_log("was killed by signal 9; it is started again")
    wait_for_all(client, 50)
    assert made.log().count("connected as 0 of 1") == 2


def test_a_message_that_crashes_its_process(remote: Broker, command: CommandFactory, tmp_path: Path) -> None:
    """It becomes a dead letter, also when it is handled once more; the others go on."""
    mended = tmp_path / "mended"
    options = {"durable": tmp_path / "inbox.db", "durable_tries": 3}
    made = command(
        url(remote), group="fleet", processes=2, options=options, environment={"TEST_MENDED": str(mended)}
    ).start()
    client = witness(remote)
    for number in range(20):
        client.publish("number/crash" if number == 10 else "number/x", str(number), qos=1)
    wait_until(lambda: len(set(numbers(client))) == 19, 60, "the others", made.log)
    # What had been handled just before comes again, each time.
    assert set(numbers(client)) == set(range(20)) - {10}
    made.wait_for_log(
        "Processes have died 3 times in a row while consumer 'master' was handling a message on topic "
        "'number/crash': it is a dead letter now"
    )
    assert made.log().count("was killed by signal 11") == 3

    def letters() -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"{options['durable']}.dead")) as file:
            return file.execute("SELECT id, reason, tries, topic, payload FROM dead_letter").fetchall()

    assert letters() == [(1, "process ended", 3, "number/crash", b"10")]
    replay = ("dead", "replay", "--all", "--wait", "60", "--file", str(options["durable"]))
    done = run_command(*replay, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(
        lambda: letters() == [(2, "process ended", 3, "number/crash", b"10")], 60, "the letter", made.log
    )
    assert made.log().count("was killed by signal 11") == 6
    mended.touch()
    assert run_command(*replay, folder=tmp_path).returncode == 0
    wait_for_all(client, 20)
    wait_until(lambda: not letters(), 20, "no letter")
    assert made.log().count("was killed by signal 11") == 6
    assert len(made.pids()) == 2


def test_a_group_shares_and_survives(remote: Broker, command: CommandFactory) -> None:
    """Each message is handled once in all; one whose process is killed, at least once."""
    made = command(url(remote), group="fleet", processes=2).start()
    assert sorted(re.findall(r"connected as (\d) of 2", made.log())) == ["0", "1"]
    client = witness(remote)
    for number in range(200):
        client.publish("number/x", str(number), qos=1, wait=False)
    wait_for_all(client, 200)
    assert sorted(numbers(client)) == list(range(200))
    for process in (0, 1):
        assert re.search(rf"mqttasgi\[{process}\]: .*handled", made.log())

    os.kill(made.pids()[0], signal.SIGKILL)
    for number in range(200, 400):
        client.publish("number/x", str(number), qos=1, wait=False)
    wait_for_all(client, 400, 60)
    wait_until(lambda: len(made.pids()) == 2, 20, "the process that was killed")


def test_what_comes_while_the_command_is_down(remote: Broker, command: CommandFactory) -> None:
    """With cleansession false the broker keeps it."""
    made = command(url(remote), options={"cleansession": False, "client_id": "hub"}).start()
    client = witness(remote)
    for down in (made.stop, made.kill):
        down()
        for number in range(20):
            client.publish("number/x", str(number), qos=1)
        before = len(client.messages)
        made.start()
        wait_until(
            lambda: {int(m.payload) for m in client.messages[before:]} == set(range(20)),  # noqa: B023
            30,
            "what was kept",
        )


def test_a_session_of_another_client(remote: Broker, command: CommandFactory) -> None:
    """One from before may have messages at QoS 2, which nothing here asks for."""
    for_ever = Properties(PacketTypes.CONNECT)
    for_ever.SessionExpiryInterval = 0xFFFFFFFF
    other = remote.client(client_id="hub", connect_properties=for_ever)
    other.subscribe("number/+", 2)
    other.abort()
    client = witness(remote)
    for number in range(30):
        client.publish("number/x", str(number), qos=2)
    made = command(url(remote), options={"cleansession": False, "client_id": "hub"}).start()
    wait_for_all(client, 30)
    assert sorted(numbers(client)) == list(range(30))
    assert "No connection" not in made.log()


def test_the_session_ends_with_the_command(remote: Broker, command: CommandFactory) -> None:
    """With cleansession true, which is the default, nothing comes from before."""
    made = command(url(remote), options={"client_id": "hub"}).start()
    assert made.stop() == 0
    client = witness(remote)
    client.publish("number/x", "1", qos=1)
    made.start()
    client.publish("number/x", "2", qos=1)
    assert client.wait_for("handled").payload == b"2"


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_a_will(remote: Broker, command: CommandFactory, loop: str) -> None:
    words = [
        "--will-topic",
        "gone/{id}",
        "--will-payload",
        "without a word",
        "--will-qos",
        "1",
        "--id",
        "hub",
    ]
    made = command(url(remote), arguments=words, options={"loop": loop}).start()
    client = remote.client()
    client.subscribe("gone/+", 1)
    made.kill()
    message = client.wait_for("gone/hub")
    assert message.payload == b"without a word"
    made.start()
    assert made.stop() == 0
    client.publish("gone/end", "", qos=1)
    assert client.wait_for("gone/+").topic == "gone/end"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(remote: Broker, command: CommandFactory, number: signal.Signals) -> None:
    """What is being handled is handled, then the consumer disconnects."""
    go = remote.folder / "go"
    made = command(url(remote), environment={"TEST_GO": str(go)}, options={"shutdown_timeout": 60}).start()
    client = witness(remote)
    client.publish("number/x", "1", qos=1)
    made.wait_for_log("begins 1$")
    os.kill(made.pid, number)
    remote.wait_for_log(r"Received UNSUBSCRIBE from mqttasgi-")
    go.touch()
    assert made.wait() == 0
    assert client.wait_for("handled").payload == b"1"
    assert re.search("handled 1\n(.|\n)*disconnecting", made.log())


def test_one_whose_consumer_blocks_ends_after_the_command(remote: Broker, command: CommandFactory) -> None:
    made = command(url(remote), options={"shutdown_timeout": 0.1, "watchdog": 0}).start()
    (pid,) = made.pids()
    remote.client().publish("number/block", "1", qos=1)
    made.wait_for_log("begins 1$")
    os.kill(made.pid, signal.SIGKILL)
    assert made.wait() == -signal.SIGKILL
    wait_until(lambda: not running(pid), 20, "the end of the process")


def test_one_retires_when_the_connection_is_back(remote: Broker, command: CommandFactory) -> None:
    """It handles what the broker has for it, although there was no connection as it was told to retire."""
    with Proxy(remote.port) as proxy:
        made = command(
            f"mqtt://127.0.0.1:{proxy.port}", options={"cleansession": False, "client_id": "hub"}
        ).start()
        client = witness(remote)
        proxy.stop()
        made.wait_for_log("No connection to")
        for number in range(10):
            client.publish("number/x", str(number), qos=1)
        os.kill(made.pid, signal.SIGUSR2)
        proxy.start()
        assert made.wait() == 0
        wait_for_all(client, 10)


def test_one_that_is_killed_at_the_end_is_said(remote: Broker, command: CommandFactory) -> None:
    go = remote.folder / "go"
    made = command(url(remote), environment={"TEST_GO": str(go)}, options={"shutdown_timeout": 60}).start()
    client = witness(remote)
    client.publish("number/x", "1", qos=1)
    made.wait_for_log("begins 1$")
    (pid,) = made.pids()
    os.kill(made.pid, signal.SIGTERM)
    remote.wait_for_log(r"Received UNSUBSCRIBE from mqttasgi-")
    os.kill(pid, signal.SIGKILL)
    assert made.wait() == 0
    assert "was killed by signal 9 before it was done" in made.log()


def test_the_processes_end_with_the_command(remote: Broker, command: CommandFactory) -> None:
    made = command(url(remote)).start()
    pids = made.pids()
    os.kill(made.pid, signal.SIGKILL)
    assert made.wait() == -signal.SIGKILL
    wait_until(lambda: not any(map(running, pids)), 20, "the end of the processes")
    assert "disconnecting" in made.log()
