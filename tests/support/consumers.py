"""The consumers of `apps.listener`, by remote control."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from .broker import Broker
from .client import Client
from .processes import wait_until


class Heard(NamedTuple):
    """A message as a consumer received it."""

    topic: str
    payload: str
    qos: int
    retain: bool


class CallFailed(Exception):
    """What the consumer's call raised, as `Type: text`."""


class Consumers:
    """The master and its workers, by their app_id."""

    def __init__(self, broker: Broker, **arguments: Any) -> None:
        """Arguments are those of `Client`."""
        self.client = broker.client(**arguments)
        self._number = 0
        for topic in ("did", "ready"):
            self.client.subscribe(topic, qos=1)

    def call(self, method: str, to: int = 0, /, *, over: int = 1, **arguments: Any) -> Any:
        """Call a method of a consumer and return its result.

        Args:
            over: QoS of the command. With 2 it goes through the session where there is one.

        Raises:
            CallFailed: It raised something.
        """
        self._number += 1
        command = {"number": self._number, "arguments": arguments}
        self.client.publish(f"do/{to}/{method}", json.dumps(command), qos=over)
        while True:
            answer = json.loads(self.client.wait_for("did", timeout=20).payload)
            if answer["number"] == self._number:
                break
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer["result"]

    def spawn(self, *app_ids: int) -> None:
        """Start workers, and return when they can be called."""
        for app_id in app_ids:
            before = self._words_of(app_id)
            self.call(
                "spawn_worker", app_id=app_id, consumer_path="apps.listener.Listener", consumer_params={}
            )
            wait_until(lambda: self._words_of(app_id) > before, 5, f"worker {app_id}'s word")  # noqa: B023

    def subscribe(self, topic: str, qos: int = 2, to: int = 0) -> None:
        """Let a consumer subscribe, and return when its `subscribe()` has."""
        self.call("subscribe", to, topic=topic, qos=qos)

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

    def _words_of(self, app_id: int) -> int:
        word = str(app_id).encode()
        return sum(m.topic == "ready" and m.payload == word for m in self.client.messages)


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
