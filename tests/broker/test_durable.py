"""The durable inbox: what the broker has acknowledged, consumers handle, whatever becomes of the broker."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import struct
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import ROOT, Broker, BrokerFailed, mosquitto_version
from support.command import run_command
from support.durable import Handled, Keepers, numbers, publish
from support.packets import PUBACK, PUBREC, PacketClient
from support.processes import wait_until
from support.statistics import Statistics

QUOTA_EXCEEDED = 0x97
DISCONNECT = 14  # which only an MQTT 5 client gets
IS_POISONED = "RuntimeError: poisoned"


def start(
    broker: BrokerFactory, keepers: Keepers, *, application: str = "durable", **arguments: Any
) -> Broker:
    """Start `apps.durable`, with an inbox."""
    options = {"durable": keepers.inbox, "retries": 0, **arguments.pop("options", {})}
    started = broker(
        f"apps.{application}:application", options=options, environment=keepers.environment, **arguments
    )
    started.wait_for_log("Session with the listener")
    return started


def start_again(started: Broker) -> None:
    """End the broker as a power cut would, as far as its clients see, and start it."""
    started.kill()
    since = len(started.log())
    started.start()
    started.wait_for_log("(Session|The session) with the listener", since=since)


# ---- a crash ----


def test_what_was_acknowledged_is_handled_after_a_crash(broker: BrokerFactory, tmp_path: Path) -> None:
    """In order, marked, and before what is newer."""
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers)
    publish(started, "all/x", numbers(0, 20))
    start_again(started)
    publish(started, "all/x", numbers(20, 40))
    assert keepers.handled() == []
    keepers.open()
    handled = keepers.wait_for("39")
    assert handled == [Handled("all/x", str(n), 1, False, n < 20) for n in range(40)]


def test_what_was_handled_does_not_come_again_unmarked(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers)
    publish(started, "all/x", numbers(0, 200))
    keepers.wait_for("199")
    start_again(started)
    publish(started, "all/x", ["end"])
    handled = keepers.wait_for("end")
    assert [h.payload for h in handled if not h.redelivered] == [*numbers(0, 200), "end"]
    # What came again is the end of what was handled.
    again = [h.payload for h in handled if h.redelivered]
    assert again == numbers(200 - len(again), 200)


def test_properties_and_all_the_rest_are_kept(broker: BrokerFactory, tmp_path: Path) -> None:
    """A message that was stored is what the direct lane would have brought."""
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, application="durable_whole")
    with PacketClient(started.port, "whole", protocol=5) as client:
        # Content type, and a user property.
        said = b"\x03\x00\x04text" + b"\x26\x00\x01k\x00\x02\xc3\xa9"
        client.publish("all/whole", b"\x00\xff", 1, 7, properties=said)
        client.expect(PUBACK, 7)
        start_again(started)
    keepers.open()
    with PacketClient(started.port, "whole", protocol=5) as client:
        client.publish("all/whole", b"\x00\xff", 1, 8, properties=said)
        client.expect(PUBACK, 8)
        file = keepers.folder / "whole"
        wait_until(lambda: file.exists() and file.read_text().count("\n") == 2, 10, "two messages")
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first.pop("redelivered"), second.pop("redelivered")) == (True, False)
    assert first == second


@pytest.mark.parametrize("qos", [0, 1])
def test_qos_0_is_not_stored(broker: BrokerFactory, tmp_path: Path, qos: int) -> None:
    """That of the message, or of the subscription."""
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers)
    topic = "all/x" if qos == 0 else "zero/x"
    publish(started, topic, numbers(0, 10), qos)
    publish(started, "all/x", ["stored"])
    start_again(started)
    keepers.open()
    publish(started, topic, ["live"], qos)
    assert [h.payload for h in keepers.wait_for("live")] == ["stored", "live"]


def test_qos_2_comes_once(broker: BrokerFactory, tmp_path: Path) -> None:
    """In a run: the session brings it, and the inbox has it too."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"queue_size": 20})
    keepers.shut()
    publish(started, "two/x", numbers(0, 100), 2)
    keepers.open()
    publish(started, "two/x", ["end"], 2)
    assert keepers.wait_for("end") == [
        Handled("two/x", p, 2, False, False) for p in [*numbers(0, 100), "end"]
    ]


def test_qos_2_that_was_stored_survives(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, lines=["sys_interval 1"])
    publish(started, "two/x", numbers(0, 10), 2)
    Statistics(started).wait_for(durable__messages=10)
    start_again(started)
    keepers.open()
    publish(started, "two/x", ["end"], 2)
    handled = keepers.wait_for("end")
    # A subscriber that was away gets what the broker kept, too, which is nothing after a crash.
    assert [h.payload for h in handled] == [*numbers(0, 10), "end"]
    assert [h.redelivered for h in handled] == [*[True] * 10, False]


def test_an_orderly_stop_with_messages_waiting(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"shutdown_timeout": 1})
    publish(started, "all/x", numbers(0, 100))
    started.restart()
    keepers.open()
    publish(started, "all/x", ["end"])
    handled = keepers.wait_for("end")
    assert [h.payload for h in handled] == [*numbers(0, 100), "end"]
    assert not handled[-1].redelivered


def test_an_orderly_stop_hands_nothing_twice(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers)
    publish(started, "all/x", numbers(0, 500))
    keepers.wait_for("499")
    started.restart()
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == [*numbers(0, 500), "end"]


def test_it_works_for_a_machine_that_dies_too(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"durable_sync": "full"})
    publish(started, "all/x", numbers(0, 20))
    start_again(started)
    keepers.open()
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == [*numbers(0, 20), "end"]


# ---- who it is for ----


def test_each_consumer_has_its_own(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path, workers=[1, 2])
    started = start(broker, keepers)
    wait_for_workers(started, 1, 2)
    keepers.shut(1)
    for number in range(10):
        publish(started, "all/x", [f"all {number}"])
        publish(started, "to/0/x", [f"master {number}"])
        publish(started, "to/1/x", [f"worker {number}"])
    # The other two have nothing left.
    for app_id in (0, 2):
        keepers.wait_for("all 9", app_id)
    keepers.wait_for("master 9")
    started.stop()
    started.start()
    wait_for_workers(started, 1, 2)
    keepers.open(1)
    publish(started, "all/x", ["end"])
    of_worker = [f"{whose} {number}" for number in range(10) for whose in ("all", "worker")]
    assert [h.payload for h in keepers.wait_for("end", 1)] == [*of_worker, "end"]
    assert [h.payload for h in keepers.wait_for("end", 2)] == [*[f"all {n}" for n in range(10)], "end"]
    of_master = [f"{whose} {number}" for number in range(10) for whose in ("all", "master")]
    assert [h.payload for h in keepers.wait_for("end")] == [*of_master, "end"]


def test_a_worker_that_is_spawned_again_gets_what_waits_first(broker: BrokerFactory, tmp_path: Path) -> None:
    """Also later than at the start; what is there for it waits for it, and one of another path does not get it."""
    keepers = Keepers(tmp_path, workers=[1])
    keepers.shut(1)
    started = start(broker, keepers)
    wait_for_workers(started, 1)
    publish(started, "to/1/x", numbers(0, 20))
    (keepers.folder / "workers").write_text("")
    start_again(started)
    publish(started, "all/x", ["nobody spawns it"])
    keepers.wait_for("nobody spawns it")
    assert keepers.handled(1) == []
    start_again(started)
    client = started.client()
    client.subscribe("ready/1", qos=1)
    publish(started, "to/0/x", ["spawn 1"])
    client.wait_for("ready/1")
    publish(started, "to/1/x", numbers(20, 40))
    keepers.open(1)
    handled = keepers.wait_for("39", 1)
    assert [(h.payload, h.redelivered) for h in handled] == [(str(n), n < 20) for n in range(40)]


def test_a_worker_that_is_killed_and_spawned(broker: BrokerFactory, tmp_path: Path) -> None:
    """In one run. What is in its hands is handled by it, beside its successor; the successor gets the rest."""
    keepers = Keepers(tmp_path, workers=[1])
    started = start(broker, keepers)
    wait_for_workers(started, 1)
    keepers.shut(1)
    publish(started, "to/1/x", numbers(0, 20))
    client = started.client()
    client.subscribe("ready/1", qos=1)
    client.wait_for("ready/1")  # it was
    publish(started, "to/0/x", ["kill 1", "spawn 1"])
    client.wait_for("ready/1")
    publish(started, "to/1/x", numbers(20, 30))
    keepers.open(1)
    wait_for_all(keepers, 1, numbers(0, 30))
    # What both have had comes marked to the second.
    unmarked = Counter(h.payload for h in keepers.handled(1) if not h.redelivered)
    assert all(count == 1 for count in unmarked.values())


def wait_for_all(keepers: Keepers, app_id: int, payloads: list[str]) -> None:
    """Return when a consumer has handled these, in whatever order."""
    wait_until(
        lambda: set(payloads) <= set(keepers.payloads(app_id)),
        10,
        "all to be handled",
        lambda: f"missing: {sorted(set(payloads) - set(keepers.payloads(app_id)))}",
    )


@pytest.mark.parametrize("crash", [False, True])
def test_a_worker_that_has_failed_is_killed_and_spawned(
    broker: BrokerFactory, tmp_path: Path, crash: bool
) -> None:
    """While it waits for its restart, what it had not handled waits, too; also what is of the broker's last life."""
    keepers = Keepers(tmp_path, workers=[1])
    if crash:
        keepers.shut()
    started = start(broker, keepers, expect_traceback=IS_POISONED)
    wait_for_workers(started, 1)
    since = len(started.log())
    publish(started, "to/1/x", ["1", "poison 2"])
    if crash:
        start_again(started)
        wait_for_workers(started, 1)
        publish(started, "to/1/x", ["3", "4"])
        keepers.open()
    else:
        publish(started, "to/1/x", ["3", "4"])
    started.wait_for_log("is restarted in", since=since)
    client = started.client()
    client.subscribe("ready/1", qos=1)
    client.wait_for("ready/1")  # it was
    publish(started, "to/1/x", ["5"])
    publish(started, "to/0/x", ["kill 1", "spawn 1"])
    client.wait_for("ready/1")
    publish(started, "to/1/x", ["6"])
    keepers.cure()
    handled = keepers.wait_for("6", 1)
    assert list(dict.fromkeys(h.payload for h in handled)) == ["1", "poison 2", "3", "4", "5", "6"]


def test_a_worker_that_is_killed_while_a_message_is_on_its_way(broker: BrokerFactory, tmp_path: Path) -> None:
    """Its successor gets it, at once: no start of the broker has to come between."""
    keepers = Keepers(tmp_path, workers=[1])
    started = start(broker, keepers)
    wait_for_workers(started, 1)
    client = started.client()
    client.subscribe("ready/1", qos=1)
    client.wait_for("ready/1")  # it was
    for number in range(20):
        for command in (f"forward to/1/x {number}", "kill 1", "spawn 1"):
            client.publish("to/0/x", command, qos=1, wait=False)
        client.wait_for("ready/1")
    publish(started, "to/1/x", ["end"])
    keepers.wait_for("end", 1)
    wait_for_all(keepers, 1, numbers(0, 20))


def wait_for_workers(started: Broker, *app_ids: int) -> None:
    """Return when these have subscribed: what is published from now on is theirs too."""
    with started.client() as client:
        for app_id in app_ids:
            client.subscribe(f"ready/{app_id}", qos=1)
            client.wait_for(f"ready/{app_id}", timeout=10)


def test_what_consumers_publish_to_each_other_survives(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path, workers=[1])
    keepers.shut(1)
    started = start(broker, keepers)
    wait_for_workers(started, 1)
    client = started.client()
    client.subscribe("to/1/x", qos=1)
    publish(started, "to/0/x", [f"forward to/1/x {number}" for number in range(20)])
    while client.wait_for("to/1/x").payload != b"19":
        pass
    start_again(started)
    wait_until(lambda: "forward to/1/x 19" in keepers.payloads(), 5, "the master")
    keepers.open(1)
    publish(started, "to/0/x", ["forward to/1/x end"])
    handled = keepers.wait_for("end", 1)
    # The master may have forwarded some of them again: those are marked for it, not for whom it sends them.
    assert list(dict.fromkeys(h.payload for h in handled)) == [*numbers(0, 20), "end"]
    assert all(h.redelivered for h in handled[:20])


@pytest.mark.parametrize("what", ["retained", "will", "shared"])
def test_what_the_session_brings(broker: BrokerFactory, tmp_path: Path, what: str) -> None:
    """It is stored when it comes."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, lines=["sys_interval 1"])
    client = started.client()
    keepers.shut()
    before = []
    if what == "retained":
        client.publish("late/x", "brought", qos=1, retain=True)
        before = ["subscribe late/#"]
        publish(started, "to/0/x", before)
    elif what == "will":
        started.client(will=("all/x", "brought", 1, False)).abort()
    else:
        publish(started, "group/x", ["brought"])
    Statistics(started).wait_for(durable__messages=len(before) + 1)
    start_again(started)
    keepers.open()
    publish(started, "all/x", ["end"])
    handled = keepers.wait_for("end")
    assert [(h.payload, h.redelivered) for h in handled] == [
        *[(payload, True) for payload in [*before, "brought"]],
        ("end", False),
    ]
    assert handled[-2].retain == (what == "retained")


# ---- more than there is room for ----


def test_what_finds_no_room_in_the_queue_waits_in_the_file(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"queue_size": 20})
    keepers.shut()
    publish(started, "all/x", numbers(0, 500))
    keepers.open()
    publish(started, "all/x", numbers(500, 600))
    handled = keepers.wait_for("599", timeout=20)
    assert handled == [Handled("all/x", str(n), 1, False, False) for n in range(600)]
    assert "dropped" not in started.log()


@pytest.mark.parametrize(
    "bound", [{"consumer_queue_size": 10}, {"queue_size": 100, "overload": "drop_oldest"}]
)
def test_bounds_of_all_kinds_lose_nothing(
    broker: BrokerFactory, tmp_path: Path, bound: dict[str, object]
) -> None:
    keepers = Keepers(tmp_path, workers=[1])
    started = start(broker, keepers, options=bound)
    wait_for_workers(started, 1)
    keepers.shut(1)
    publish(started, "all/x", numbers(0, 300))
    keepers.wait_for("299")
    keepers.open(1)
    for app_id in (0, 1):
        handled = keepers.wait_for("299", app_id)
        assert handled == [Handled("all/x", str(n), 1, False, False) for n in range(300)]


class Sender:
    """A publisher that keeps what was not acknowledged, and sends it again when it is back.

    Attributes:
        taken: What the broker has acknowledged, in that order.
        refused: What it has answered with a reason code, which is in the end of it.
    """

    def __init__(self, started: Broker, protocol: int, qos: int = 1) -> None:
        self.taken: list[str] = []
        self.refused: list[tuple[str, int]] = []
        self._started = started
        self._protocol = protocol
        self._qos = qos
        self._packet = 0

    def send(self, payload: str, topic: str = "all/x") -> bool:
        """Publish with a connection of its own; return whether it was acknowledged."""
        self._packet += 1
        padded = f"{payload} ".ljust(4000, ".").encode()
        answer = PUBACK if self._qos == 1 else PUBREC
        with PacketClient(self._started.port, "sender", clean=False, protocol=self._protocol) as client:
            try:
                client.publish(topic, padded, self._qos, self._packet)
                first, said = client.read()
                if first >> 4 == DISCONNECT:
                    client.wait_for_end()
                    return False
            except ConnectionError:
                return False
            assert first >> 4 == answer and struct.unpack("!H", said[:2])[0] == self._packet
            code = said[2] if len(said) > 2 else 0
            if code >= 0x80:
                self.refused.append((payload, code))
                return False
            if self._qos == 2:
                client.release(self._packet)
                client.expect(7, self._packet)
            self.taken.append(payload)
            return True


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_full_inbox_is_told_to_publishers(broker: BrokerFactory, tmp_path: Path, protocol: int) -> None:
    """With a reason code where there is one for it, else by the end of the connection; nothing acknowledged is lost."""
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"durable_size": "64K"})
    sender = Sender(started, protocol)
    since = len(started.log())
    count = 0
    while sender.send(str(count)):
        count += 1
        assert count < 100
    assert 5 < count < 20
    started.wait_for_log(r"The durable inbox .* is full \(durable_size, 65536 bytes\)", since=since)
    knows_code = protocol == 5 and mosquitto_version() >= (2, 1, 0)
    assert [code for _, code in sender.refused] == ([QUOTA_EXCEEDED] if knows_code else [])
    # It stays full, and others are served.
    assert not sender.send(str(count))
    publish(started, "nobody/hears", ["1"])
    publish(started, "zero/x", ["2"])
    keepers.open()
    wait_until(lambda: sender.send(str(count)), 10, "room for another")
    publish(started, "all/x", ["end"])
    handled = keepers.wait_for("end")
    assert [h.payload.split()[0] for h in handled if h.topic == "all/x"] == [*sender.taken, "end"]
    assert sender.taken == numbers(0, count + 1)
    assert not any(h.redelivered for h in handled)


def test_a_full_inbox_and_a_crash(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"durable_size": "64K"})
    sender = Sender(started, 4)
    count = 0
    while sender.send(str(count)):
        count += 1
    start_again(started)
    assert not sender.send(str(count))
    keepers.open()
    wait_until(lambda: sender.send(str(count)), 10, "room for another")
    handled = keepers.wait_for(f"{count} ".ljust(4000, "."))
    assert [h.payload.split()[0] for h in handled] == sender.taken == numbers(0, count + 1)


def test_other_clients_do_not_see_what_was_refused(broker: BrokerFactory, tmp_path: Path) -> None:
    """A message that the publisher will send again must not have reached anybody."""
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"durable_size": "64K"})
    watcher = started.client()
    watcher.subscribe("all/#", qos=1)
    sender = Sender(started, 4)
    count = 0
    while sender.send(str(count)):
        count += 1
    assert not sender.send(str(count))
    watcher.publish("all/end", "end", qos=0)
    watcher.wait_for("all/end")
    seen = [message.payload.split()[0].decode() for message in watcher.messages if message.topic == "all/x"]
    assert seen == sender.taken


# ---- dead letters ----


@pytest.mark.parametrize("tries", [2, pytest.param(5, marks=pytest.mark.long)])
def test_a_message_that_always_fails_is_a_dead_letter(
    broker: BrokerFactory, tmp_path: Path, tries: int
) -> None:
    """And the next one is handled. When it is asked for again, it is handled, too."""
    keepers = Keepers(tmp_path)
    options = {} if tries == 5 else {"durable_tries": tries}
    started = start(broker, keepers, options=options, expect_traceback=IS_POISONED)
    publish(started, "all/x", ["before", "poison 1", "after"])
    handled = keepers.wait_for("after", timeout=40)
    assert [h.payload for h in handled] == ["before", "after"]
    query = "SELECT consumer, reason, tries, topic, payload, qos, traceback FROM dead_letter"
    wait_until(lambda: len(keepers.ask(query)) == 1, 5, "the dead letter")
    consumer, reason, counted, topic, payload, qos, traceback = keepers.ask(query)[0]
    assert (consumer, reason, counted, topic, payload, qos) == (
        "master",
        "failed",
        tries,
        "all/x",
        b"poison 1",
        1,
    )
    assert IS_POISONED in traceback
    assert started.log().count(IS_POISONED) == tries
    keepers.cure()
    keepers.ask("UPDATE dead_letter SET replay = 1")
    handled = keepers.wait_for("poison 1")
    assert handled[-1] == Handled("all/x", "poison 1", 1, False, True)
    wait_until(lambda: not keepers.ask(query), 5, "the end of the dead letter")
    # It does not come again.
    started.restart()
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == ["before", "after", "poison 1", "end"]


def test_a_dead_letter_that_is_asked_for_while_the_broker_is_stopped(
    broker: BrokerFactory, tmp_path: Path
) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"durable_tries": 1}, expect_traceback=IS_POISONED)
    publish(started, "all/x", ["poison 1", "poison 2", "after"])
    keepers.wait_for("after", timeout=20)
    wait_until(lambda: len(keepers.ask("SELECT id FROM dead_letter")) == 2, 5, "the dead letters")
    started.stop()
    keepers.cure()
    keepers.ask("UPDATE dead_letter SET replay = 1 WHERE payload = ?", b"poison 2")
    started.start()
    keepers.wait_for("poison 2")
    publish(started, "all/x", ["end"])
    handled = [h.payload for h in keepers.wait_for("end")]
    assert handled == ["after", "poison 2", "end"]
    wait_until(lambda: keepers.ask("SELECT payload FROM dead_letter") == [(b"poison 1",)], 5, "the other one")


def test_dead_letters_by_the_command(broker: BrokerFactory, tmp_path: Path) -> None:
    """While the broker runs: listed, shown, handled again, and thrown away."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"durable_tries": 1}, expect_traceback=IS_POISONED)
    publish(started, "all/x", ["poison 1", "poison 2", "after"])
    keepers.wait_for("after", timeout=20)
    wait_until(lambda: len(keepers.ask("SELECT id FROM dead_letter")) == 2, 5, "the dead letters")

    def command(*words: str) -> str:
        place = ("--file", str(keepers.dead))
        done = run_command("dead", *words, *place, folder=tmp_path, PYTHONPATH=str(ROOT / "python"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = json.loads(command("list", "--json"))
    assert [letter["topic"] for letter in listed] == ["all/x", "all/x"]
    of_payload = {payload: number for number, payload in keepers.ask("SELECT id, payload FROM dead_letter")}
    shown = command("show", str(of_payload[b"poison 2"]))
    assert "poison 2" in shown and IS_POISONED in shown
    keepers.cure()
    command("replay", str(of_payload[b"poison 2"]))
    keepers.wait_for("poison 2")
    command("drop", str(of_payload[b"poison 1"]))
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == ["after", "poison 2", "end"]
    assert keepers.ask("SELECT * FROM dead_letter") == []


@pytest.mark.parametrize("before", [[], ["before"]])
def test_a_message_that_the_broker_dies_of(broker: BrokerFactory, tmp_path: Path, before: list[str]) -> None:
    """At each start again: then it is a dead letter, alone, and the next one is handled."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"durable_tries": 2})
    with PacketClient(started.port, "deadly") as client:
        for packet, payload in enumerate([*before, "die"], 1):
            client.publish("all/x", payload.encode(), 1, packet)
        client.wait_for_end()
    started.kill()
    starts = 0

    def buried() -> list[tuple[Any, ...]]:
        return keepers.ask("SELECT reason, payload FROM dead_letter")

    while not started.running:
        starts += 1
        assert starts < 10
        started.kill()
        try:
            started.start()
        except BrokerFailed as failure:
            assert failure.status == -signal.SIGKILL
            continue
        wait_until(lambda: not started.running or any(row[1] == b"die" for row in buried()), 10, "its end")
    publish(started, "all/x", ["after"])
    keepers.wait_for("after")
    assert list(dict.fromkeys(keepers.payloads())) == [*before, "after"]
    assert buried() == [("broker ended", b"die")]


def test_what_nobody_asks_for_is_a_dead_letter(broker: BrokerFactory, tmp_path: Path) -> None:
    """After a time; and when it is asked for again it waits for its consumer as before."""
    keepers = Keepers(tmp_path, workers=[1])
    keepers.shut(1)
    started = start(broker, keepers, options={"durable_keep": 1})
    wait_for_workers(started, 1)
    publish(started, "to/1/x", ["1", "2"])
    started.kill()
    (keepers.folder / "workers").write_text("")
    time.sleep(1.5)
    started.start()
    query = "SELECT consumer, reason, payload FROM dead_letter ORDER BY id"
    name = "worker 1 apps.durable.Keeper"
    wait_until(
        lambda: keepers.ask(query) == [(name, "expired", b"1"), (name, "expired", b"2")],
        10,
        "the dead letters",
        lambda: f"what there is: {keepers.ask(query)}",
    )
    keepers.open(1)
    publish(started, "to/0/x", ["spawn 1"])
    wait_for_workers(started, 1)
    keepers.ask("UPDATE dead_letter SET replay = 1")
    assert [(h.payload, h.redelivered) for h in keepers.wait_for("2", 1)] == [("1", True), ("2", True)]


def test_tries_count_over_a_crash(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"durable_tries": 2}, expect_traceback=IS_POISONED)
    since = len(started.log())
    publish(started, "all/x", ["poison 1"])
    started.wait_for_log("is restarted in", since=since)
    start_again(started)
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == ["end"]
    wait_until(lambda: keepers.ask("SELECT tries FROM dead_letter") == [(2,)], 5, "the dead letter")


def test_what_fails_comes_again_and_first(broker: BrokerFactory, tmp_path: Path) -> None:
    """To the next instance, marked, before what came after it."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, expect_traceback=IS_POISONED)
    since = len(started.log())
    publish(started, "all/x", ["1", "poison 2", *numbers(3, 20)])
    started.wait_for_log("is restarted in", since=since)
    keepers.cure()
    handled = keepers.wait_for("19")
    assert [h.payload for h in handled] == ["1", "poison 2", *numbers(3, 20)]
    assert [h.payload for h in handled if h.redelivered] == ["poison 2"]


def test_one_that_is_given_up_leaves_its_messages_to_its_successor(
    broker: BrokerFactory, tmp_path: Path
) -> None:
    """Also those that come later: its subscriptions stay in force."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"retries": 1}, expect_traceback=f"{IS_POISONED}|cannot connect")
    broken = keepers.folder / "broken"
    broken.touch()
    publish(started, "all/x", ["poison 1", "2"])
    started.wait_for_log("is given up", timeout=15)
    publish(started, "all/x", ["3"])
    started.stop()
    broken.unlink()
    keepers.cure()
    started.start()
    publish(started, "all/x", ["end"])
    assert [h.payload for h in keepers.wait_for("end")] == ["poison 1", "2", "3", "end"]


# ---- what can be seen of it ----


def test_statistics(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(
        broker,
        keepers,
        lines=["sys_interval 1"],
        options={"durable_tries": 1},
        expect_traceback=IS_POISONED,
    )
    statistics = Statistics(started)
    publish(started, "all/x", numbers(0, 10))
    statistics.wait_for(durable__messages=10)
    assert int(statistics.all()["durable/bytes"]) > 10 * len("all/x0")
    start_again(started)
    statistics = Statistics(started)
    statistics.wait_for(durable__messages=10)
    wait_until(lambda: int(statistics.all().get("durable/oldest", 0)) >= 1, 10, "the oldest's age")
    keepers.open()
    statistics.wait_for(durable__messages=0, durable__bytes=0, durable__oldest=0, durable__redelivered=10)
    publish(started, "all/x", ["poison", "after"])
    statistics.wait_for(durable__dead=1)


# ---- the start ----


def refused(broker: BrokerFactory, keepers: Keepers, **arguments: Any) -> str:
    """Return the log of a broker that ends at its start, as it must."""
    with pytest.raises(BrokerFailed) as failure:
        start(broker, keepers, **arguments)
    assert failure.value.status is not None and failure.value.status > 0, "it must exit, not die"
    assert "Opening" not in failure.value.log, "no client may have been let in"
    return failure.value.log


def make_database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_a_file_that_is_not_ours(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    make_database(keepers.inbox, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    before = keepers.inbox.read_bytes()
    assert "it is a database of another program. Name another file." in refused(broker, keepers)
    assert keepers.inbox.read_bytes() == before
    keepers.inbox.write_text("Dear diary, today I met a broker.\n" * 200)
    assert "it is no SQLite file" in refused(broker, keepers)
    assert keepers.inbox.read_text().startswith("Dear diary")


def test_a_file_of_a_newer_version(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    start(broker, keepers).stop()
    make_database(keepers.inbox, "PRAGMA user_version = 1000")
    assert "it is of a newer mqttasgi (format 1000" in refused(broker, keepers)


def test_a_file_that_another_broker_has(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    first = start(broker, keepers)
    assert "another process has it open. Each broker needs a file of its own" in refused(broker, keepers)
    # The first one has noticed nothing.
    publish(first, "all/x", ["1"])
    keepers.wait_for("1")


def test_a_file_that_is_cut(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.shut()
    started = start(broker, keepers, options={"shutdown_timeout": 1})
    publish(started, "all/x", ["x" * 1000] * 100)
    started.stop()
    os.truncate(keepers.inbox, keepers.inbox.stat().st_size // 2)
    assert "it is damaged" in refused(broker, keepers)


def test_a_folder_that_is_not_there(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    keepers.inbox = tmp_path / "nowhere" / "inbox"
    assert f"there is no folder {tmp_path / 'nowhere'}. Make it" in refused(broker, keepers)
    keepers.inbox = tmp_path
    assert "it is a folder or a device. Name a file." in refused(broker, keepers)


def test_a_folder_that_is_not_to_be_written(broker: BrokerFactory, tmp_path: Path) -> None:
    """By an ordinary user; root may everything."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    keepers = Keepers(tmp_path)
    folder = tmp_path / "locked"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    keepers.inbox = folder / "inbox"
    assert f"may not read and write it and the folder {folder}" in refused(broker, keepers)


def test_the_file_is_the_brokers_alone(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    start(broker, keepers, options={"durable_tries": 1}, expect_traceback=IS_POISONED)
    for file in keepers.folder.glob("inbox*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_check_leaves_the_file_alone(broker: BrokerFactory, tmp_path: Path) -> None:
    """It says what would refuse the start, and makes nothing."""
    keepers = Keepers(tmp_path)
    log = refused(broker, keepers, options={"check": True})
    assert "Check passed" in log
    assert not keepers.inbox.exists()
    make_database(keepers.inbox, "CREATE TABLE theirs (x)")
    log = refused(broker, keepers, options={"check": True})
    assert "it is a database of another program" in log
    assert "Check passed" not in log


def test_a_relative_path(broker: BrokerFactory, tmp_path: Path) -> None:
    """The broker changes its folder when it becomes a daemon."""
    keepers = Keepers(tmp_path)
    log = refused(broker, keepers, options={"durable": "inbox"})
    assert 'option durable: "inbox" is not a whole path, which begins with /' in log


def test_without_it_nothing_is_written(broker: BrokerFactory, tmp_path: Path) -> None:
    keepers = Keepers(tmp_path)
    started = start(broker, keepers, options={"durable": None})
    publish(started, "all/x", ["1"])
    assert keepers.wait_for("1") == [Handled("all/x", "1", 1, False, False)]
    assert not list(keepers.folder.glob("inbox*"))


def test_it_ends_by_a_signal_in_the_midst_of_a_flood(broker: BrokerFactory, tmp_path: Path) -> None:
    """Orderly; what was acknowledged is handled, before the end or after the start."""
    keepers = Keepers(tmp_path)
    started = start(broker, keepers)
    taken = []
    with PacketClient(started.port, "flood") as client, suppress(ConnectionError):
        for number in range(100_000):
            if number == 300:
                os.kill(started.pid, signal.SIGTERM)
            client.publish("all/x", str(number).encode(), 1, number % 65535 + 1)
            (packet,) = struct.unpack("!H", client.expect(PUBACK)[:2])
            assert packet == number % 65535 + 1
            taken.append(str(number))
    assert started.wait() == 0
    started.start()
    publish(started, "all/x", ["end"])
    handled = keepers.wait_for("end")
    first = list(dict.fromkeys(h.payload for h in handled))
    assert [payload for payload in first if payload in set(taken)] == taken
    assert all(count == 1 for count in Counter(h.payload for h in handled if not h.redelivered).values())
