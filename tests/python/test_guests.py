"""`mqttasgi.broker` in a service with a fake bridge: publishing and subscribing beside the consumers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any, Callable

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from fake_bridge import FakeBridge
from running import Echo, Start, settle, until

from mqttasgi import _host, broker
from mqttasgi.consumers import MqttConsumer
from mqttasgi.runtime import farewell, processes
from mqttasgi.runtime.bridge import GUEST
from mqttasgi.runtime.lines import of_log

#: The first of the guests: the master has the handle 1.
FIRST = GUEST | 2


def read(messages: broker.Messages, into: list[Any]) -> asyncio.Task[None]:
    """Collect what comes, payloads as text, until no more does."""

    async def collect() -> None:
        async for message in messages:
            into.append(message["payload"].decode())

    return asyncio.ensure_future(collect())


def in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run it in a thread of its own, which knows nothing of this one's event loop."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            future.get_loop().call_soon_threadsafe(future.set_result, function())
        except BaseException as error:
            future.get_loop().call_soon_threadsafe(future.set_exception, error)

    threading.Thread(target=run, daemon=True).start()
    return future


# ---- publishing ----


async def test_a_guest_publishes_as_a_consumer_does(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    await broker.publish("a", "text")
    await broker.publish("b", 21.5, qos=0, retain=True, properties={"content_type": "x"})
    assert bridge.published == [("a", b"text", 1, False), ("b", b"21.5", 0, True)]
    # In nobody's name.
    assert bridge.published_with == [(0, b""), (0, b"\x03\x00\x01x")]


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"topic": "a/#", "payload": b""}, ValueError, "'a/#' contains the wildcard '#'"),
        ({"topic": "a", "payload": {}}, TypeError, "not dict: {}"),
        ({"topic": "a", "payload": b"", "qos": 3}, ValueError, "qos must be 0, 1 or 2, not 3"),
        ({"topic": "a", "payload": b"", "properties": {"colour": 1}}, ValueError, "colour"),
    ],
)
async def test_what_mqtt_forbids_raises_at_the_call(
    bridge: FakeBridge, start: Start, wrong: Any, error: type[Exception], text: str
) -> None:
    await start(Echo.as_asgi())
    with pytest.raises(error, match=text.replace("(", r"\(")):
        await broker.publish(**wrong)
    with pytest.raises(error):
        await in_thread(lambda: async_to_sync(broker.publish)(**wrong))
    assert bridge.published == []


async def test_publishing_waits_while_the_queue_is_full(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.room = 0
    here = asyncio.ensure_future(broker.publish("a", b"here"))
    there = in_thread(lambda: async_to_sync(broker.publish)("a", b"there"))
    await until(lambda: len(_host.of_process._handed_over) == 1)  # type: ignore[union-attr]
    await settle()
    assert not here.done() and not there.done()
    bridge.room = 1000
    bridge.control("writable")
    await asyncio.gather(here, there)
    assert sorted(payload for _, payload, _, _ in bridge.published) == [b"here", b"there"]
    assert not _host.of_process._handed_over  # type: ignore[union-attr]


async def test_a_publisher_that_is_cancelled_publishes_nothing(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.room = 0

    async def briefly() -> None:
        task = asyncio.ensure_future(broker.publish("a", b"x"))
        while not _host.of_process._handed_over:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await in_thread(lambda: asyncio.run(briefly()))
    bridge.room = 1000
    bridge.control("writable")
    await settle()
    assert bridge.published == []


async def test_sync_code_publishes_from_every_kind_of_thread(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())

    def view(name: str) -> None:
        async_to_sync(broker.publish)("a", name, qos=0)

    await sync_to_async(view)("sensitive")
    await sync_to_async(view, thread_sensitive=False)("asgiref's")
    await asyncio.get_running_loop().run_in_executor(None, view, "executor's")
    await in_thread(lambda: view("own"))
    await in_thread(lambda: asyncio.run(broker.publish("a", "loop", qos=0)))
    assert [payload for _, payload, _, _ in bridge.published] == [
        b"sensitive",
        b"asgiref's",
        b"executor's",
        b"own",
        b"loop",
    ]


async def test_many_threads_at_once(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    bridge.room = 20

    def publish(number: int) -> None:
        for count in range(10):
            async_to_sync(broker.publish)("a", f"{number} {count}")

    threads = [in_thread(lambda number=number: publish(number)) for number in range(8)]  # type: ignore[misc]
    await until(lambda: len(bridge.published) == 20)
    bridge.room = 1000
    bridge.control("writable")
    await asyncio.gather(*threads)
    for number in range(8):
        own = [p for _, p, _, _ in bridge.published if p.startswith(f"{number} ".encode())]
        assert own == [f"{number} {count}".encode() for count in range(10)]


async def test_a_consumer_publishes_in_nobodys_name(bridge: FakeBridge, start: Start) -> None:
    class Both(MqttConsumer):
        async def connect(self) -> None:
            await self.publish("own", b"")
            await broker.publish("guest", b"")

    await start(Both.as_asgi())
    assert [handle for handle, _ in bridge.published_with] == [1, 0]


async def test_a_forked_child_is_told_where_the_broker_is(
    bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(Echo.as_asgi())
    monkeypatch.setattr(processes, "forked", True)
    with pytest.raises(broker.OutsideBroker, match="in a child process: the broker is its parent"):
        await broker.publish("a", b"")
    with pytest.raises(broker.OutsideBroker):
        async with broker.subscribe("a"):
            pass
    assert bridge.published == [] and len(bridge.subscriptions) == 1


# ---- subscribing ----


async def test_messages_come_while_the_block_runs(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    got: list[Any] = []
    async with broker.subscribe("home/#", qos=2, retain_as_published=True, retain_handling=1) as messages:
        assert bridge.subscriptions[FIRST, "home/#"] == 2 | 1 << 3 | 1 << 4
        bridge.deliver("home/a", b"1", qos=1, handle=FIRST, properties={"content_type": "x"})
        async for message in messages:
            got.append(message)
            break
    assert got == [
        {
            "topic": "home/a",
            "payload": b"1",
            "qos": 1,
            "retain": False,
            "properties": {"content_type": "x"},
            "client": None,
            "redelivered": False,
        }
    ]
    assert bridge.subscriptions == {(1, "in/#"): 1}
    assert list(service.roster.inboxes) == [1]
    assert [message async for message in messages] == []


async def test_several_filters_are_one_subscription(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    async with broker.subscribe(["a/#", "b", "a/#"], qos=0) as messages:
        assert set(bridge.subscriptions) == {(1, "in/#"), (FIRST, "a/#"), (FIRST, "b")}
        bridge.deliver("a/1", b"1", handle=FIRST)
        bridge.deliver("b", b"2", handle=FIRST)
        assert [(await messages.__anext__())["topic"] for _ in range(2)] == ["a/1", "b"]
    assert set(bridge.subscriptions) == {(1, "in/#")}


async def test_two_subscriptions_share_nothing(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    async with broker.subscribe("a") as one:
        async with broker.subscribe("a") as other:
            assert {handle for handle, name in bridge.subscriptions if name == "a"} == {FIRST, FIRST + 1}
            bridge.deliver("a", b"1", handle=FIRST)
            bridge.deliver("a", b"2", handle=FIRST + 1)
            assert (await one.__anext__())["payload"] == b"1"
            assert (await other.__anext__())["payload"] == b"2"
        assert (FIRST, "a") in bridge.subscriptions
    assert set(bridge.subscriptions) == {(1, "in/#")}


async def test_a_slow_reader_loses_the_oldest_and_is_told(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    async with broker.subscribe("a/#", queue_size=3) as messages:
        for number in range(10):
            bridge.deliver("a/x", str(number).encode(), handle=FIRST)
            bridge.deliver("in/x", str(number).encode())
        await until(lambda: len(bridge.published) == 10)  # nobody waits for it
        assert messages.lost == 7
        assert [(await messages.__anext__())["payload"] for _ in range(3)] == [b"7", b"8", b"9"]
        assert bridge.statistics["messages/dropped/consumer_queue"] == 7
        (line,) = (line for level, line in bridge.lines if level == bridge.LOG_WARNING)
        assert "broker.subscribe('a/#'), whose reader is slower than its messages: its queue_size (3)" in line
        # What it has lost since is said a second later, with the next.
        service.guests._complaint._said_at -= 1
        for number in range(5):
            bridge.deliver("a/x", str(number).encode(), handle=FIRST)
        await until(lambda: messages.lost == 9)
        assert bridge.text().count("broker.subscribe('a/#')") == 2


async def test_bytes_are_bounded_but_one_message_always_comes(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    async with broker.subscribe("a", queue_bytes=50) as messages:
        for size in (10, 20, 20):
            bridge.deliver("a", bytes(size), handle=FIRST)
        bridge.deliver("b", b"", handle=1)
        await until(lambda: messages.lost == 1)
        bridge.deliver("a", bytes(1000), handle=FIRST)
        await until(lambda: messages.lost == 3)
        assert len((await messages.__anext__())["payload"]) == 1000
        bridge.deliver("a", bytes(20), handle=FIRST)
        assert len((await messages.__anext__())["payload"]) == 20
        assert messages.lost == 3


async def test_what_waits_does_not_count_towards_the_inbound_queue(bridge: FakeBridge, start: Start) -> None:
    import gc
    import weakref

    await start(Echo.as_asgi())
    async with broker.subscribe("a") as messages:
        bridge.deliver("a", b"1", handle=FIRST)
        reference = weakref.ref(bridge.waiting[-1][1])
        await settle()
        gc.collect()
        assert reference() is None
        assert (await messages.__anext__())["payload"] == b"1"


async def test_retained_messages_come_first(bridge: FakeBridge, start: Start) -> None:
    """What comes live while they are on their way waits, for this reader alone."""
    await start(Echo.as_asgi())
    async with broker.subscribe("a/#") as messages:
        got: list[str] = []
        task = read(messages, got)
        bridge.control("hold", FIRST)
        bridge.deliver("a/1", b"live", handle=FIRST)
        bridge.deliver("in/x", b"other")
        bridge.deliver("a/1", b"kept", handle=FIRST, retain=True)
        await until(lambda: bool(bridge.published))
        await settle()
        assert got == []
        bridge.control("release", FIRST)
        await until(lambda: len(got) == 2)
        assert got == ["kept", "live"]
    await task


async def test_the_hold_of_all_is_its_too(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    got: list[str] = []
    async with broker.subscribe("a") as messages:
        task = read(messages, got)
        bridge.control("hold", 0, 7)
        bridge.deliver("a", b"later", handle=FIRST)
        bridge.deliver("a", b"will", handle=FIRST, session=True)
        await until(lambda: got == ["will"])
        bridge.control("release", 0, 7)
        await until(lambda: got == ["will", "later"])
        # What is held for one that leaves goes with it.
        bridge.control("hold", 0, 8)
        bridge.deliver("a", b"too late", handle=FIRST)
        await settle()
    await task
    bridge.control("release", 0, 8)
    await settle()
    assert got == ["will", "later"]
    assert bridge.statistics["messages/dropped/consumer_ended"] == 0


async def test_nothing_is_stored_for_it(bridge: FakeBridge, start: Start) -> None:
    """Not even where the message is, for consumers."""
    await start(Echo.as_asgi(), durable_tries=3)
    async with broker.subscribe("a") as messages:
        bridge.control("hold", FIRST)
        bridge.deliver("a", b"1", qos=1, handle=FIRST, stored=5)
        bridge.deliver("a", b"1", qos=1, handle=FIRST, retain=True)
        bridge.control("release", FIRST)
        assert (await messages.__anext__())["payload"] == b"1"
    await settle()
    assert bridge.told == [("consumer", 1, "master")]


async def test_it_is_no_consumer_for_the_numbers(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    async with broker.subscribe("a"):
        assert bridge.statistics["consumers/running"] == 1
        assert len(service.roster.by_handle) == 1


async def test_readers_take_turns(bridge: FakeBridge, start: Start) -> None:
    """One with much to read lets others run."""
    await start(Echo.as_asgi())
    async with broker.subscribe("a") as messages:
        for number in range(200):
            bridge.deliver("a", str(number).encode(), handle=FIRST)
        await settle()
        got: list[str] = []
        task = read(messages, got)
        await asyncio.sleep(0)
        assert 0 < len(got) < 100
        await until(lambda: len(got) == 200)
        task.cancel()


async def test_two_tasks_read_the_same_messages(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    got: list[str] = []
    async with broker.subscribe("a") as messages:
        tasks = [read(messages, got) for _ in range(2)]
        await settle()
        tasks[0].cancel()
        for payload in (b"1", b"2"):
            bridge.deliver("a", payload, handle=FIRST)
        await until(lambda: got == ["1", "2"])
    await tasks[1]


async def test_a_time_out_loses_no_message(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    async with broker.subscribe("a") as messages:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(messages.__anext__(), 0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(messages.__anext__(), 0.01)
        bridge.deliver("a", b"1", handle=FIRST)
        assert (await messages.__anext__())["payload"] == b"1"


# ---- its end ----


async def test_a_reader_that_is_cancelled_unsubscribes(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())

    async def watch() -> None:
        async with broker.subscribe("a") as messages:
            async for _ in messages:
                pass

    task = asyncio.ensure_future(watch())
    await until(lambda: (FIRST, "a") in bridge.subscriptions)
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(bridge.subscriptions) == {(1, "in/#")}
    assert list(service.roster.inboxes) == [1]


async def test_one_that_is_cancelled_while_it_subscribes(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    bridge.answer_at_once = False

    async def watch() -> None:
        async with broker.subscribe(["a", "b"]):
            raise AssertionError("not reached")

    task = asyncio.ensure_future(watch())
    await until(lambda: (FIRST, "a") in bridge.subscriptions)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(bridge.subscriptions) == {(1, "in/#")}
    # Until the broker knows, what comes has a place to go.
    bridge.deliver("a", b"1", handle=FIRST)
    await settle()
    for sequence in bridge.unanswered:
        bridge.control("answer", sequence)
    await until(lambda: list(service.roster.inboxes) == [1])
    assert bridge.statistics["messages/dropped/consumer_ended"] == 0


async def test_leaving_waits_for_the_broker_unless_that_is_cancelled(
    bridge: FakeBridge, start: Start
) -> None:
    service = await start(Echo.as_asgi())
    messages = broker.subscribe("a")
    await messages.__aenter__()
    bridge.answer_at_once = False
    leaving = asyncio.ensure_future(messages.__aexit__(None, None, None))
    await until(lambda: bool(bridge.unanswered))
    await settle()
    assert not leaving.done()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert FIRST in service.roster.inboxes
    bridge.control("answer", bridge.unanswered[0])
    await until(lambda: FIRST not in service.roster.inboxes)


async def test_a_generator_that_is_closed_unsubscribes(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())

    async def payloads() -> AsyncIterator[bytes]:
        async with broker.subscribe("a") as messages:
            async for message in messages:
                yield message["payload"]

    generator = payloads()
    first = asyncio.ensure_future(generator.__anext__())
    await until(lambda: (FIRST, "a") in bridge.subscriptions)
    bridge.deliver("a", b"1", handle=FIRST)
    assert await first == b"1"
    await generator.aclose()  # type: ignore[attr-defined]
    assert (FIRST, "a") not in bridge.subscriptions


async def test_a_coroutine_that_is_closed_unsubscribes(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    messages = broker.subscribe("a")
    await messages.__aenter__()
    closing = messages.__aexit__(GeneratorExit, GeneratorExit(), None)
    with pytest.raises(StopIteration):
        closing.send(None)  # it waits for nothing
    assert (FIRST, "a") not in bridge.subscriptions


async def test_at_the_stop_iterating_ends_after_what_waits(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    got: list[str] = []
    ended: list[int] = []

    async def watch() -> None:
        async with broker.subscribe("a") as messages:
            bridge.control("hold", 0, 7)
            bridge.control("hold", FIRST)
            bridge.deliver("a", b"held", handle=FIRST)
            bridge.control("stop")
            bridge.answer_at_once = False  # the broker need not answer any more
            await read(messages, got)
            ended.append(messages.lost)
        await broker.publish("b", b"the end")

    await watch()
    assert got == ["held"] and ended == [0]
    await until(lambda: service.stopped)
    assert bridge.published[-1][:2] in (("b", b"the end"), ("gone", b"bye"))
    with pytest.raises(broker.OutsideBroker, match="the broker stops, so nothing comes any more"):
        async with broker.subscribe("a"):
            pass


async def test_the_stop_waits_for_the_code_behind_a_loop(bridge: FakeBridge, start: Start) -> None:
    class Quick(MqttConsumer):
        async def receive(self, mqtt_message: Any) -> None: ...

    service = await start(Quick.as_asgi())
    behind = asyncio.Event()

    async def watch() -> None:
        async with broker.subscribe("a") as messages:
            async for _ in messages:
                pass
            await behind.wait()
        await broker.publish("b", b"the end")

    task = asyncio.ensure_future(watch())
    await until(lambda: (FIRST, "a") in bridge.subscriptions)
    await settle()
    bridge.control("stop")
    await until(lambda: not service.roster.by_handle)
    await settle()
    assert not service.stopped
    behind.set()
    await task
    assert bridge.published == [("b", b"the end", 1, False)]
    assert service.stopped


async def test_but_not_for_ever(bridge: FakeBridge, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell, "GUESTS", 0.01)
    service = await start(Echo.as_asgi())
    async with broker.subscribe("a"):
        bridge.control("stop")
        await until(lambda: service.stopped)
    assert "did not finish" not in bridge.text()


async def test_threads_that_wait_are_told_of_the_stop(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi())
    bridge.room = 1  # for the consumer's last message
    bridge.published.append(("full", b"", 0, False))
    waiting = in_thread(lambda: async_to_sync(broker.publish)("a", b"x"))
    await until(lambda: len(service.guests._handed_over) == 1)
    await settle()
    bridge.control("stop")
    bridge.published.clear()
    await until(lambda: service.stopped)
    with pytest.raises(broker.OutsideBroker, match="to 'a': the broker stops and takes no more"):
        await waiting
    with pytest.raises(broker.OutsideBroker, match="the broker stops"):
        await in_thread(lambda: async_to_sync(broker.publish)("a", b"x"))


async def test_a_consumer_that_fails_ends_nobody_elses(bridge: FakeBridge, start: Start) -> None:
    class Fragile(Echo):
        async def receive(self, mqtt_message: Any) -> None:
            raise LookupError("there is no lamp")

    await start(Fragile.as_asgi(), retries=1)
    async with broker.subscribe("a") as messages:
        bridge.deliver("in/x", b"")
        await until(lambda: bridge.statistics["consumers/restarted"] == 1)
        bridge.deliver("a", b"1", handle=FIRST)
        assert (await messages.__anext__())["payload"] == b"1"


async def test_one_in_a_consumer_ends_with_its_run(bridge: FakeBridge, start: Start) -> None:
    class Waits(MqttConsumer):
        async def connect(self) -> None:
            await self.subscribe("in", 1)

        async def receive(self, mqtt_message: Any) -> None:
            async with broker.subscribe("answer") as messages:
                await self.publish("question", b"")
                async for message in messages:
                    raise LookupError(message["payload"].decode())

    await start(Waits.as_asgi())
    bridge.deliver("in", b"")
    await until(lambda: bool(bridge.published))
    bridge.deliver("answer", b"as told", handle=FIRST)
    await until(lambda: bridge.statistics["consumers/restarted"] == 1)
    assert "LookupError: as told" in bridge.text()
    assert set(bridge.subscriptions) == {(1, "in")}


# ---- the wrong place ----


async def test_outside_of_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        broker.OutsideBroker, match=r"broker.publish\(\) outside of the broker: .* as a client"
    ):
        await broker.publish("a", b"")
    with pytest.raises(RuntimeError, match=r"broker.subscribe\('a', 'b'\) outside of the broker"):
        async with broker.subscribe(["a", "b"]):
            pass
    monkeypatch.setattr("sys.builtin_module_names", ("_mqttasgi",))
    with pytest.raises(broker.OutsideBroker, match="while the application is being imported"):
        async_to_sync_in_thread = in_thread(lambda: async_to_sync(broker.publish)("a", b""))
        await async_to_sync_in_thread


async def test_another_threads_loop_cannot_subscribe(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())

    async def subscribe() -> None:
        async with broker.subscribe("a"):
            pass

    with pytest.raises(broker.OutsideBroker, match="on another event loop than the consumers'"):
        await in_thread(lambda: asyncio.run(subscribe()))


async def test_wrong_filters_raise_at_once() -> None:
    for wrong, error, text in (
        ({"topic": "a/#/b"}, ValueError, "'#' must be the last level"),
        ({"topic": ["a", "b+"]}, ValueError, "'b\\+'"),
        ({"topic": 5}, TypeError, "filter must be a str, not 5"),
        ({"topic": b"a"}, TypeError, "filter must be a str, not b'a'"),
        ({"topic": []}, ValueError, "needs a topic filter"),
        ({"topic": "a", "qos": 3}, ValueError, "qos must be"),
        ({"topic": "a", "retain_handling": 3}, ValueError, "retain_handling"),
        ({"topic": "a", "queue_size": 0}, ValueError, "queue_size must be from 1"),
        ({"topic": "a", "queue_bytes": 1.5}, TypeError, "queue_bytes must be an int"),
    ):
        with pytest.raises(error, match=text):
            broker.subscribe(**wrong)  # type: ignore[arg-type]


async def test_shared_subscriptions_need_the_session(bridge: FakeBridge, start: Start) -> None:
    service = await start(Echo.as_asgi(), has_session=False)
    with pytest.raises(ValueError, match="need the session"):
        async with broker.subscribe("$share/g/a"):
            pass
    assert list(service.roster.inboxes) == [1]


async def test_messages_without_a_block_and_a_block_again(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    messages = broker.subscribe("a")
    with pytest.raises(RuntimeError, match="inside of a block"):
        async for _ in messages:
            pass
    async with messages:
        pass
    with pytest.raises(RuntimeError, match="has had its block"):
        async with messages:
            pass


async def test_who_reads_the_brokers_log_does_not_feed_it(bridge: FakeBridge, start: Start) -> None:
    await start(Echo.as_asgi())
    async with broker.subscribe(["$SYS/#", "a"]) as messages:
        bridge.deliver("$SYS/broker/log/N", b"1", handle=FIRST)
        bridge.deliver("a", b"2", handle=FIRST)
        bridge.deliver("$SYS/broker/log/N", b"3", handle=FIRST)
        seen = []
        for _ in range(3):
            await messages.__anext__()
            seen.append(of_log.get())
    assert seen == [True, False, True]
    assert not of_log.get()


# ---- statistics ----


async def test_statistics_without_a_durable_inbox_do_not_tell_of_one(
    bridge: FakeBridge, start: Start
) -> None:
    service = await start(Echo.as_asgi())
    bridge.set("durable/dead", 0)
    assert service.guests.statistics() == {"consumers/running": 1, "consumers/restarting": 0}
    service.durable.is_on = True
    assert service.guests.statistics()["durable/dead"] == 0


def test_the_handle_is_the_one_that_the_plugin_knows() -> None:
    header = os.path.join(os.path.dirname(__file__), "../../plugin/shared/message.h")
    with open(header) as file:
        assert "#define MESSAGE_GUEST ((uint64_t)1 << 63)" in file.read()
    assert GUEST == 1 << 63
