"""The consumers of `apps.listener` and `apps.recorder`, by remote control."""

from __future__ import annotations

import ast
import itertools
import json
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from .broker import Broker
from .client import Client
from .elsewhere import CONNECTS
from .processes import wait_until


class Heard(NamedTuple):
    """A message as a consumer received it."""

    topic: str
    payload: str
    qos: int
    retain: bool


#: Of commands, in all of a test.
_numbers = itertools.count(1)


class CallFailed(Exception):
    """What the consumer's call raised, as `Type: text`."""


class Consumers:
    """The master and its workers, by their app_id."""

    consumer_path = "apps.listener.Listener"

    def __init__(self, broker: Broker, **arguments: Any) -> None:
        """Arguments are those of `Client`."""
        self.client = broker.client(**arguments)
        for topic in ("did", "ready"):
            self.client.subscribe(topic, qos=1)

    def call(self, method: str, to: int = 0, /, *, over: int = 1, **arguments: Any) -> Any:
        """Call a method of a consumer and return its result.

        Args:
            over: QoS of the command. With 2 it goes through the session where there is one.

        Raises:
            CallFailed: It raised something.
        """
        return self.finish(self.begin(method, to, over=over, **arguments))

    def begin(self, method: str, to: int = 0, /, *, over: int = 1, **arguments: Any) -> int:
        """Call a method of a consumer and do not wait for it; the number is for `finish()`."""
        number = next(_numbers)
        self.client.publish(
            f"do/{to}/{method}", self.encode({"number": number, "arguments": arguments}), qos=over
        )
        return number

    def finish(self, number: int, timeout: float = 20) -> Any:
        """Return the result of what was begun.

        Raises:
            CallFailed: It raised something.
        """
        while True:
            answer = self.decode(self.client.wait_for("did", timeout).payload.decode())
            if answer["number"] == number:
                break
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer["result"]

    def spawn(self, *app_ids: int) -> None:
        """Start workers, and return when they can be called."""
        for app_id in app_ids:
            before = self._words_of(app_id)
            self.call("spawn_worker", app_id=app_id, consumer_path=self.consumer_path, consumer_params={})
            wait_until(lambda: self._words_of(app_id) > before, 5, f"worker {app_id}'s word")  # noqa: B023

    def subscribe(self, topic: str, qos: int = 2, to: int = 0, **options: Any) -> None:
        """Let a consumer subscribe, and return when its `subscribe()` has."""
        self.call("subscribe", to, topic=topic, qos=qos, **options)

    def unsubscribe(self, topic: str, to: int = 0) -> None:
        """Let a consumer unsubscribe."""
        self.call("unsubscribe", to, topic=topic)

    def heard(self, to: int = 0) -> list[Heard]:
        """Return what a consumer has received since the last call: all that the broker had taken before this one.

        Needs no time for what does not come: one command goes behind everything that comes through the session, a
        second one behind everything that comes the direct lane.
        """
        self.call("nothing", to, over=2)
        return [Heard(*message) for message in self.call("report", to)]

    @staticmethod
    def encode(command: Any) -> str:
        return json.dumps(command)

    @staticmethod
    def decode(answer: str) -> Any:
        return json.loads(answer)

    def _words_of(self, app_id: int) -> int:
        word = str(app_id).encode()
        return sum(m.topic == "ready" and m.payload == word for m in self.client.messages)


class Recorders(Consumers):
    """The consumers of `apps.recorder`: what they got comes as they got it, whole messages and client events.

    An entry is a tuple: `("message", mqtt_message)`, `("connected", client)` or `("disconnected", client, reason)`.
    """

    consumer_path = "apps.recorder.Recorder"

    def __init__(self, broker: Broker, **arguments: Any) -> None:
        super().__init__(broker, **arguments)
        self._history: dict[int, list[tuple[Any, ...]]] = {}

    def entries(self, to: int = 0) -> list[tuple[Any, ...]]:
        """Return what a consumer has got since the last call; as complete as what `heard()` returns."""
        self.call("nothing", to, over=2)
        new = self.call("report", to)
        self._history.setdefault(to, []).extend(new)
        return list(new)

    def messages(self, to: int = 0) -> list[dict[str, Any]]:
        """Return the messages among the new entries."""
        return [entry[1] for entry in self.entries(to) if entry[0] == "message"]

    def history(self, to: int = 0) -> list[tuple[Any, ...]]:
        """Return what a consumer has got since the beginning."""
        self.entries(to)
        return self._history[to]

    def story(self, client_id: str, to: int = 0) -> list[tuple[Any, ...]]:
        """Return the part of the history that is about one client: its messages, its coming and going."""
        return [entry for entry in self.history(to) if _client_id(entry) == client_id]

    def wait_for_end_of(self, client_id: str, to: int = 0, times: int = 1) -> list[tuple[Any, ...]]:
        """Return a client's story, as soon as it has gone so many times."""
        story: list[tuple[Any, ...]] = []

        def gone() -> bool:
            story[:] = self.story(client_id, to)
            return sum(entry[0] == "disconnected" for entry in story) >= times

        wait_until(gone, 15, f"the end of {client_id!r}", lambda: f"its story: {story}")
        return story

    @staticmethod
    def encode(command: Any) -> str:
        return repr(command)

    @staticmethod
    def decode(answer: str) -> Any:
        return ast.literal_eval(answer)


def _client_id(entry: tuple[Any, ...]) -> str | None:
    client = entry[1]["client"] if entry[0] == "message" else entry[1]
    return None if client is None else client["id"]


def identity(client_id: str, protocol_version: int = 5, **other: Any) -> dict[str, Any] | None:
    """Return what a consumer is told about a client: of the plain listener and without a name, where not said else.

    Outside the broker it is told nothing.
    """
    if CONNECTS:
        return None
    return {
        "id": client_id,
        "username": None,
        "address": "127.0.0.1",
        "protocol": "mqtt",
        "protocol_version": protocol_version,
        "certificate": None,
        **other,
    }


class Writer:
    """Publishes 1, 2, 3 ... to each of its topics in turn, from its own thread, until the `with` block ends.

    Never faster than the broker takes them.

    Attributes:
        taken: The last number that the broker has on every topic.
        topics: Where it writes.
    """

    def __init__(self, client: Client, topics: Iterable[str], qos: int, *, retain: bool = False) -> None:
        self.taken = 0
        self.topics: Sequence[str] = list(topics)
        self._client = client
        self._qos = qos
        self._retain = retain
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._error: Exception | None = None

    def __enter__(self) -> Writer:
        self._thread.start()
        self.advance(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def advance(self, by: int) -> None:
        """Return when that many more numbers have been written."""
        goal = self.taken + by
        wait_until(
            lambda: self.taken >= goal or not self._thread.is_alive(), 20, f"number {goal} of the writer"
        )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                number = self.taken + 1
                for topic in self.topics:
                    self._client.publish(topic, str(number), self._qos, self._retain)
                if self._qos == 0:
                    self._client.publish("elsewhere", qos=1)
                self.taken = number
        except Exception as error:
            self._error = error
