"""What the broker is told of messages that it keeps until they have been handled, and what becomes of those."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, Callable

import pytest
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from django.db import OperationalError
from fake_bridge import FakeBridge, FakeClientMessage, FakeMessage
from running import Start, master_of, settle, until

from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import durable, restarts
from mqttasgi.runtime import service as service_module
from mqttasgi.runtime.lines import Lines
from mqttasgi.runtime.service import Service

TRIES = 3


class Keeps(MqttConsumer):
    """Does what a message says, and writes down what it got, with an `again` where it may have had it."""

    channel_layer_alias = "none"
    says: list[str] = []  # noqa: RUF012
    #: How often its connect() is to fail.
    refusals = 0
    #: How often its database has refused it.
    refused = 0

    async def connect(self) -> None:
        await self.subscribe("in/#", 1)
        if Keeps.refusals:
            Keeps.refusals -= 1
            raise OSError("the lamp's cloud is away")
        self.says.append("connected")

    async def receive(self, mqtt_message: Any) -> None:
        payload = mqtt_message["payload"].decode()
        self.says.append(f"{payload} again" if mqtt_message["redelivered"] else payload)
        if payload == "raise":
            raise LookupError("there is no lamp")
        if payload == "raise once" and not mqtt_message["redelivered"]:
            raise LookupError("there is no lamp")
        if payload == "away":
            Keeps.refused += 1
            if Keeps.refused <= 2 * TRIES:
                raise OperationalError("connection failed: Connection refused")
        if payload == "stop":
            raise StopConsumer
        if payload == "exit":
            raise SystemExit(3)
        if payload == "wait":
            await asyncio.Event().wait()
        if payload == "turn":
            await asyncio.sleep(0.03)
        if payload == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async def disconnect(self) -> None:
        self.says.append("disconnected")
        await self.unsubscribe("in/#")


class Layered(Keeps):
    """The same with a channel layer, by which it is told to fail."""

    channel_layer_alias = "default"

    async def connect(self) -> None:
        assert self.channel_layer is not None
        await self.channel_layer.group_add("kept", self.channel_name)
        await super().connect()

    async def kept_fail(self, event: Any) -> None:
        self.says.append("fails")
        await asyncio.sleep(0.01)
        raise LookupError("there is no lamp")

    async def kept_stop(self, event: Any) -> None:
        self.says.append("stops")
        await asyncio.sleep(0.01)
        raise StopConsumer


@pytest.fixture(autouse=True)
def forgets() -> None:
    Keeps.says, Keeps.refusals = [], 0


@pytest.fixture(params=[Keeps, Layered])
def consumer(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def begin(start: Start) -> Any:
    async def begin(application: Any, **arguments: Any) -> Service:
        service: Service = await start(application, durable_tries=TRIES, **arguments)
        return service

    return begin


def feed(bridge: FakeBridge, *payloads: str, handle: int = 1, first: int = 1, tries: int = 0) -> None:
    """Deliver messages that are stored as `first` and on."""
    for number, payload in enumerate(payloads, first):
        bridge.deliver("in/x", payload.encode(), 1, handle, stored=number, tries=tries)


def said(*words: str) -> Callable[[], bool]:
    return lambda: Keeps.says == list(words)


def told(bridge: FakeBridge, what: str) -> list[Any]:
    """Return the arguments of each such call; of `done` the pairs of all of them together."""
    calls = [call[1:] for call in bridge.told if call[0] == what]
    return [pair for call in calls for pair in call] if what == "done" else calls


@pytest.mark.parametrize(("file", "tries"), [("", 0), ("/inbox", 4)])
def test_the_options_turn_it_on(
    bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, file: str, tries: int
) -> None:
    monkeypatch.setattr(service_module.loop, "prepare", lambda *arguments: None)
    options: Any = {**bridge.options(), "durable": file, "durable_tries": 4}
    made = service_module._make(bridge, options, Lines(bridge)).durable
    assert (made.is_on, made._tries_max) == (bool(file), tries)


# ---- handled ----


async def test_nothing_is_said_where_nothing_is_kept(bridge: FakeBridge, start: Start) -> None:
    service = await start(Keeps.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    bridge.deliver("in/x", b"1")
    bridge.deliver("in/x", b"raise")
    bridge.deliver("in/x", b"raise", handle=2)
    await until(lambda: Keeps.says.count("connected") == 4)
    assert master_of(service).handling is None
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert bridge.told == []
    assert bridge.subscriptions == {}


async def test_a_message_is_done_when_the_next_is_asked_for(
    bridge: FakeBridge, begin: Any, consumer: Any
) -> None:
    service = await begin(consumer.as_asgi())
    feed(bridge, "1", "2", "wait")
    await until(said("connected", "1", "2", "wait"))
    service.durable.flush()
    assert told(bridge, "done") == [(1, 1), (1, 2)]


async def test_only_those_that_are_kept_for_this_consumer(bridge: FakeBridge, begin: Any) -> None:
    service = await begin(Keeps.as_asgi())
    bridge.deliver("in/x", b"1", 0)
    bridge.give((1, FakeMessage("in/x", b"2", 1, stored=5), 0))  # it subscribed at QoS 0
    bridge.give((1, FakeClientMessage({"id": "lamp"}), 0))
    bridge.give((1, FakeMessage("in/x", b"3", 2, stored=6), 1))
    await until(said("connected", "1", "2", "3"))
    await settle()
    service.durable.flush()
    assert told(bridge, "done") == [(1, 6)]


async def test_they_are_said_together_soon_after(bridge: FakeBridge, begin: Any) -> None:
    await begin(Keeps.as_asgi())
    feed(bridge, "1", "2", "3")
    await until(lambda: "3" in Keeps.says)
    await settle()
    assert told(bridge, "done") == []
    await until(lambda: bool(told(bridge, "done")))
    assert bridge.told[-1] == ("done", (1, 1), (1, 2), (1, 3))
    feed(bridge, "4", first=4)
    await until(lambda: bridge.told[-1] == ("done", (1, 4)))


async def test_many_are_said_at_once(bridge: FakeBridge, begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "HANDLED_AFTER", 3600)
    service = await begin(Keeps.as_asgi())
    feed(bridge, *map(str, range(durable.HANDLED_MAX + 1)))
    await until(lambda: str(durable.HANDLED_MAX) in Keeps.says)
    await settle()
    assert len(told(bridge, "done")) == durable.HANDLED_MAX
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert len(told(bridge, "done")) == durable.HANDLED_MAX + 1


async def test_all_that_was_handled_is_said_before_the_end(
    bridge: FakeBridge, begin: Any, consumer: Any
) -> None:
    service = await begin(consumer.as_asgi())
    feed(bridge, "1", "2")
    await until(lambda: not bridge.waiting)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert Keeps.says == ["connected", "1", "2", "disconnected"]
    assert told(bridge, "done") == [(1, 1), (1, 2)]
    assert bridge.told[-1] == ("consumer_gone", 1, True)


async def test_one_that_stops_its_consumer_is_handled(bridge: FakeBridge, begin: Any, consumer: Any) -> None:
    service = await begin(consumer.as_asgi())
    feed(bridge, "stop", "2")
    await until(lambda: not service.roster.by_handle)
    assert bridge.told[-2:] == [("done", (1, 1)), ("consumer_gone", 1, False)]
    assert bridge.subscriptions == {}


async def test_a_plain_application(bridge: FakeBridge, begin: Any) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            await receive()

    service = await begin(application)
    feed(bridge, "1", "2")
    await until(lambda: not service.roster.by_handle)
    assert told(bridge, "done") == [(1, 1), (1, 2)]


async def test_one_in_hand_when_time_is_up_is_neither_handled_nor_failed(
    bridge: FakeBridge, begin: Any, consumer: Any
) -> None:
    service = await begin(consumer.as_asgi())
    service.farewell.seconds = 0.01
    feed(bridge, "1", "wait", "3")
    await until(lambda: "wait" in Keeps.says)
    task = master_of(service).task
    bridge.control("stop")
    await until(lambda: service.stopped)
    await until(task.done)
    await settle()
    service.durable.flush()
    assert told(bridge, "done") == [(1, 1)]
    assert told(bridge, "failed") == []
    assert told(bridge, "consumer_gone") == [(1, True)]
    assert bridge.statistics["messages/dropped/consumer_ended"] == 0


# ---- failed at ----


async def test_a_message_that_fails_once_comes_again_before_all_newer(
    bridge: FakeBridge, begin: Any, consumer: Any
) -> None:
    service = await begin(consumer.as_asgi())
    feed(bridge, "1", "raise once", "3", "4")
    await until(lambda: "4" in Keeps.says)
    again = ["disconnected", "connected", "raise once again", "3", "4"]
    assert Keeps.says == ["connected", "1", "raise once", *again]
    assert told(bridge, "failed") == [(1, 2, 1, False)]
    assert "LookupError: there is no lamp" in bridge.tracebacks[0]
    assert "in receive" in bridge.tracebacks[0]
    await settle()
    service.durable.flush()
    assert told(bridge, "done") == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert told(bridge, "consumer") == [(1, "master")]
    assert told(bridge, "consumer_gone") == []


@pytest.mark.parametrize(
    ("consumer", "poison"),
    [
        (Keeps, "raise"),
        (Layered, "raise"),
        (Keeps, "cancel"),
        (Layered, "cancel"),
        (Keeps, "exit"),  # the other one would end the test's loop
    ],
    indirect=["consumer"],
)
async def test_a_poisonous_message_becomes_a_dead_letter(
    bridge: FakeBridge, begin: Any, consumer: Any, poison: str
) -> None:
    await begin(consumer.as_asgi(), retries=1)
    feed(bridge, poison, "2")
    await until(lambda: "2" in Keeps.says)
    got = [word for word in consumer.says if word.startswith((poison, "2"))]
    assert got == [poison, f"{poison} again", f"{poison} again", "2"]
    assert told(bridge, "failed") == [(1, 1, 1, False), (1, 1, 2, False), (1, 1, 3, True)]
    level, line = next((level, line) for level, line in bridge.lines if "dead letter" in line)
    assert level == bridge.LOG_ERR
    assert "Consumer tests:application (master, app_id 0) has failed 3 times at the message on topic" in line
    assert "'in/x'" in line
    assert "`mqttasgi dead list`" in line
    assert "is given up" not in bridge.text()
    await until(lambda: told(bridge, "done") == [(1, 2)])


async def test_no_message_is_to_blame_for_a_database_that_is_away(
    bridge: FakeBridge, begin: Any, consumer: Any
) -> None:
    Keeps.refused = 0
    await begin(consumer.as_asgi(), retries=1)
    feed(bridge, "away", "2")
    await until(lambda: "2" in Keeps.says)
    assert [word for word in consumer.says if word.startswith(("away", "2"))] == [
        "away", *["away again"] * 2 * TRIES, "2"
    ]  # fmt: skip
    assert told(bridge, "failed") == []
    assert "is given up" not in bridge.text()


async def test_each_message_has_its_own_tries(bridge: FakeBridge, begin: Any) -> None:
    await begin(Keeps.as_asgi())
    feed(bridge, "raise", "raise", "3")
    await until(lambda: "3" in Keeps.says)
    assert [(stored, tries) for _, stored, tries, _ in told(bridge, "failed")] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (2, 3),
    ]


async def test_tries_of_an_earlier_life_count(bridge: FakeBridge, begin: Any) -> None:
    await begin(Keeps.as_asgi())
    feed(bridge, "raise", tries=1)
    feed(bridge, "raise", "end", first=2, tries=7)
    await until(lambda: "end" in Keeps.says)
    assert told(bridge, "failed") == [(1, 1, 2, False), (1, 1, 3, True), (1, 2, 8, True)]


async def test_a_message_that_is_not_kept_is_consumed_by_its_failure(bridge: FakeBridge, begin: Any) -> None:
    await begin(Keeps.as_asgi())
    bridge.deliver("in/x", b"raise")
    feed(bridge, "2")
    await until(lambda: "2" in Keeps.says)
    assert Keeps.says == ["connected", "raise", "disconnected", "connected", "2"]
    assert told(bridge, "failed") == []


async def test_connect_that_fails_counts_against_no_message(bridge: FakeBridge, begin: Any) -> None:
    await begin(Keeps.as_asgi())
    Keeps.refusals = 3
    feed(bridge, "raise once", "2")
    await until(lambda: "2" in Keeps.says)
    assert [word for word in Keeps.says if word[0] in "r2"] == ["raise once", "raise once again", "2"]
    assert told(bridge, "failed") == [(1, 1, 1, False)]


async def test_the_layers_event_counts_against_no_message(bridge: FakeBridge, begin: Any) -> None:
    """The message that waited meanwhile was not handled before."""
    service = await begin(Layered.as_asgi())
    await get_channel_layer().group_send("kept", {"type": "kept.fail"})
    await until(lambda: "fails" in Keeps.says)
    feed(bridge, "1", "2")
    await until(lambda: "2" in Keeps.says)
    assert Keeps.says == ["connected", "fails", "disconnected", "connected", "1", "2"]
    await settle()
    service.durable.flush()
    assert told(bridge, "failed") == []
    assert told(bridge, "done") == [(1, 1), (1, 2)]


async def test_a_message_that_waited_when_the_layer_stopped_its_consumer(
    bridge: FakeBridge, begin: Any
) -> None:
    service = await begin(Layered.as_asgi())
    await get_channel_layer().group_send("kept", {"type": "kept.stop"})
    await until(lambda: "stops" in Keeps.says)
    feed(bridge, "1", "2")
    await until(lambda: not service.roster.by_handle)
    assert told(bridge, "done") == told(bridge, "failed") == []


async def test_a_layer_that_ends_meanwhile(
    bridge: FakeBridge, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message that was being handled is cancelled and comes again; it was not its fault."""
    fails = asyncio.Event()
    layer = get_channel_layer()
    receive = layer.receive

    async def receive_or_fail(channel: str) -> Any:
        tasks = [asyncio.ensure_future(fails.wait()), asyncio.ensure_future(receive(channel))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        raise asyncio.CancelledError

    monkeypatch.setattr(layer, "receive", receive_or_fail)
    await begin(Layered.as_asgi())
    feed(bridge, "wait")
    for number in range(TRIES + 1):
        await until(lambda number=number: sum("wait" in word for word in Keeps.says) == number + 1)  # type: ignore[misc]
        fails.set()
        await until(lambda number=number: bridge.text().count("ended with an error") == number + 1)  # type: ignore[misc]
        fails.clear()
    assert Keeps.says[:4] == ["connected", "wait", "connected", "wait again"]
    assert told(bridge, "failed") == told(bridge, "done") == []
    assert "handling a message" not in bridge.text()
    assert "CancelledError: its task was cancelled" in bridge.text()


async def test_a_failure_in_the_last_moments_counts(bridge: FakeBridge, begin: Any) -> None:
    service = await begin(Keeps.as_asgi())
    feed(bridge, "turn", "raise", "3")
    await until(lambda: Keeps.says[-1] == "turn")
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert told(bridge, "failed") == [(1, 2, 1, False)]
    assert told(bridge, "done") == [(1, 1)]
    assert "3" not in Keeps.says
    assert bridge.statistics["messages/dropped/consumer_ended"] == 0
    assert set(bridge.subscriptions) == {(1, "in/#")}


async def test_disconnect_that_fails_fails_no_message(bridge: FakeBridge, begin: Any) -> None:
    class Ends(Keeps):
        async def disconnect(self) -> None:
            raise RuntimeError("at the end")

    service = await begin(Ends.as_asgi())
    feed(bridge, "1")
    await until(lambda: "1" in Keeps.says)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert told(bridge, "done") == [(1, 1)]
    assert told(bridge, "failed") == []


async def test_a_traceback_is_bounded(bridge: FakeBridge, begin: Any) -> None:
    class Loud(Keeps):
        async def receive(self, mqtt_message: Any) -> None:
            raise LookupError(100_000 * "x" + "the end")

    await begin(Loud.as_asgi())
    feed(bridge, "1")
    await until(lambda: bool(bridge.tracebacks))
    text = bridge.tracebacks[0]
    assert len(text.encode()) <= durable.TRACEBACK_MAX
    assert text.startswith("Traceback (most recent call last):")
    assert "LookupError" in text
    assert text.endswith("xxthe end")
    assert "\\udc80\\0." in durable.traceback_of(LookupError("\udc80\0."))
    assert 65_000 < len(durable.traceback_of(LookupError("ü" * 100_000)).encode()) <= durable.TRACEBACK_MAX


async def test_what_a_failed_run_left_cannot_say_that_its_message_is_done(
    bridge: FakeBridge, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await begin(Keeps.as_asgi())
    run = master_of(service)
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise")
    await until(lambda: "disconnected" in Keeps.says)
    await settle()
    again = asyncio.ensure_future(run.receive())
    await settle()
    service.durable.flush()
    assert told(bridge, "done") == []
    again.cancel()


async def test_the_bytes_that_wait_are_right_after_it(bridge: FakeBridge, begin: Any) -> None:
    from mqttasgi.runtime.overload import Overload

    service = await begin(Keeps.as_asgi())
    inbox = service.roster.by_handle[1].inbox
    inbox._overload = Overload(bridge, 100, 10_000)
    feed(bridge, "raise", "wait")
    await until(lambda: "wait" in Keeps.says)
    assert inbox.queue_bytes == 0


async def test_no_message_lives_on(bridge: FakeBridge, begin: Any) -> None:
    """It counts towards the queue's bound while it does, and a traceback is kept until a collection."""
    service = await begin(Keeps.as_asgi())
    gc.disable()
    try:
        messages = [FakeMessage("in/x", payload, 1, stored=7) for payload in (b"1", b"raise", b"3")]
        alive = [weakref.ref(message) for message in messages]
        for message in messages:
            bridge.give((1, message, 1))
        del message
        messages.clear()
        await until(lambda: "3" in Keeps.says)
        await settle()
        assert [reference() for reference in alive] == [None] * 3
    finally:
        gc.enable()
    assert service.durable._tries == {}


# ---- who is there ----


async def test_a_workers_name_lasts(bridge: FakeBridge, begin: Any) -> None:
    service = await begin(Keeps.as_asgi())
    for app_id in (7, "hall", ("a", 1)):
        service.workers.spawn(master_of(service), app_id, f"{__name__}.Keeps")
    assert told(bridge, "consumer") == [
        (1, "master"),
        (2, "worker 7 test_durable.Keeps"),
        (3, "worker 'hall' test_durable.Keeps"),
        (4, "worker ('a', 1) test_durable.Keeps"),
    ]


async def test_an_app_id_without_a_name_raises_at_the_spawn(bridge: FakeBridge, begin: Any) -> None:
    class Nameless:
        def __repr__(self) -> str:
            raise LookupError("no name")

    service = await begin(Keeps.as_asgi())
    with pytest.raises(LookupError, match="no name"):
        service.workers.spawn(master_of(service), Nameless(), f"{__name__}.Keeps")
    assert list(service.roster.by_handle) == [1]


async def test_a_killed_worker_handles_what_it_has(bridge: FakeBridge, begin: Any) -> None:
    service = await begin(Keeps.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    await until(said("connected", "connected"))
    feed(bridge, "1", "2", handle=2)
    await until(lambda: not bridge.waiting)
    service.workers.kill(master_of(service), 7)
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    await until(lambda: 2 not in service.roster.by_handle)
    assert told(bridge, "done") == [(2, 1), (2, 2)]
    assert told(bridge, "consumer_gone") == [(2, False)]
    assert set(bridge.subscriptions) == {(1, "in/#"), (3, "in/#")}


async def test_one_killed_while_it_waits_for_its_next_start(
    bridge: FakeBridge, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await begin(Keeps.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise", "2", handle=2)
    await until(lambda: service.roster.by_handle[2].restart is not None)
    await settle()
    service.workers.kill(master_of(service), 7)
    assert told(bridge, "consumer_gone") == [(2, False)]
    assert set(bridge.subscriptions) == {(1, "in/#")}
    # What it had is still kept.
    assert bridge.statistics["messages/dropped/consumer_ended"] == 0
    assert service.durable._tries == {}


async def test_one_that_is_given_up_keeps_its_subscriptions(bridge: FakeBridge, begin: Any) -> None:
    service = await begin(Keeps.as_asgi(), retries=1)
    Keeps.refusals = 2
    feed(bridge, "raise", "2")
    bridge.deliver("in/x", b"3")
    bridge.control("hold", 1, 0)
    feed(bridge, "4", first=4)
    bridge.control("hold", 0, 7)
    feed(bridge, "5", first=5)
    await until(lambda: "is given up" in bridge.text())
    await settle()
    assert told(bridge, "consumer_gone") == [(1, True)]
    assert set(bridge.subscriptions) == {(1, "in/#")}
    feed(bridge, "6", first=6)
    await until(lambda: not bridge.waiting)
    # The one that is not kept.
    assert bridge.statistics["messages/dropped/consumer_ended"] == 1
    assert bridge.suspend_calls == 1
    assert not service.stopped


async def test_at_the_stop_subscriptions_stay(bridge: FakeBridge, begin: Any, consumer: Any) -> None:
    """Also where disconnect() unsubscribes, as it is told to in every example; not what a message says."""

    class Ends(consumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await super().connect()
            await self.subscribe("other", 1)

        async def receive(self, mqtt_message: Any) -> None:
            await super().receive(mqtt_message)
            await self.unsubscribe("other")

    service = await begin(Ends.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    await until(lambda: Keeps.says.count("connected") == 2)
    bridge.deliver("in/x", b"1")
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert Keeps.says.count("disconnected") == 2
    assert set(bridge.subscriptions) == {(1, "in/#"), (2, "in/#")}
    assert sorted(told(bridge, "consumer_gone")) == [(1, True), (2, True)]


async def test_at_the_stop_one_that_waits_for_its_next_start_keeps_them_too(
    bridge: FakeBridge, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await begin(Keeps.as_asgi())
    monkeypatch.setattr(restarts, "RESTART_DELAY", 3600)
    feed(bridge, "raise")
    await until(lambda: service.roster.by_handle[1].restart is not None)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert told(bridge, "consumer_gone") == [(1, True)]
    assert set(bridge.subscriptions) == {(1, "in/#")}


async def test_a_killed_workers_disconnect_unsubscribes_at_the_stop_too(
    bridge: FakeBridge, begin: Any
) -> None:
    service = await begin(Keeps.as_asgi())
    service.workers.spawn(master_of(service), 7, f"{__name__}.Keeps")
    await until(said("connected", "connected"))
    feed(bridge, "turn", handle=2)
    await until(lambda: "turn" in Keeps.says)
    service.workers.kill(master_of(service), 7)
    bridge.control("stop")
    await until(lambda: service.stopped)
    assert sorted(told(bridge, "consumer_gone")) == [(1, True), (2, False)]


# ---- merged with what was retained ----


@pytest.mark.parametrize("general", [False, True])
async def test_of_two_copies_of_a_message_both_are_done(
    bridge: FakeBridge, begin: Any, general: bool
) -> None:
    """The live message makes room for the same one as it was retained."""
    service = await begin(Keeps.as_asgi())
    if general:
        bridge.control("hold", 0, 1)
    bridge.control("hold", 1)
    feed(bridge, "live")
    bridge.deliver("in/x", b"live", 1, retain=True, stored=2)
    # Of another filter.
    bridge.deliver("in/x", b"live", 1, retain=True, stored=3)
    bridge.control("release", 1)
    if general:
        bridge.control("release", 0, 1)
    await until(said("connected", "live"))
    await settle()
    service.durable.flush()
    assert sorted(told(bridge, "done")) == [(1, 1), (1, 2), (1, 3)]


async def test_a_copy_that_is_not_kept_takes_no_place(bridge: FakeBridge, begin: Any) -> None:
    """It would be lost by a failure."""
    service = await begin(Keeps.as_asgi())
    bridge.control("hold", 1)
    feed(bridge, "live", "2")
    bridge.deliver("in/x", b"live", 0, retain=True)
    bridge.control("release", 1)
    await until(said("connected", "live", "live", "2"))
    await settle()
    service.durable.flush()
    assert told(bridge, "done") == [(1, 1), (1, 2)]


# ---- the beginning ----


class SpawnsOne(MqttConsumer):
    channel_layer_alias = "none"
    may: asyncio.Event

    async def connect(self) -> None:
        await self.spawn_worker(7, f"{__name__}.Slow", {})


class Slow(Keeps):
    async def connect(self) -> None:
        await SpawnsOne.may.wait()
        await super().connect()


@pytest.mark.parametrize("refusals", [0, 1])
async def test_clients_wait_for_the_workers_of_the_start(
    bridge: FakeBridge, begin: Any, refusals: int
) -> None:
    SpawnsOne.may, Keeps.refusals = asyncio.Event(), refusals
    starting = asyncio.ensure_future(begin(SpawnsOne.as_asgi()))
    await until(lambda: len(told(bridge, "consumer")) == 2)
    await settle()
    assert (bridge.has_started, bridge.settled_calls) == (False, 0)
    SpawnsOne.may.set()
    await starting
    assert (bridge.has_started, bridge.settled_calls) == (True, 1)
    if not refusals:
        assert set(bridge.subscriptions) == {(2, "in/#")}


async def test_a_master_that_fails_meanwhile_is_started_again(bridge: FakeBridge, begin: Any) -> None:
    """Its connect() had returned, so the application had started."""

    class Fails(SpawnsOne):
        failed = False

        async def connect(self) -> None:
            await super().connect()
            await self.subscribe("in/#", 1)

        async def receive(self, mqtt_message: Any) -> None:
            Fails.failed = True
            raise LookupError("there is no lamp")

    SpawnsOne.may = asyncio.Event()
    starting = asyncio.ensure_future(begin(Fails.as_asgi()))
    await until(lambda: (1, "in/#") in bridge.subscriptions)
    bridge.deliver("in/x", b"1")
    await until(lambda: "runs again" in bridge.text())
    assert Fails.failed
    assert not bridge.has_started
    SpawnsOne.may.set()
    service = await starting
    assert not service.stopped
    assert bridge.has_started
