"""Messages that consumers could not handle, on their way into the file of dead letters and out of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Callable

from .dead_letters import ENDED, DeadLetters, DeadLettersError, Replay
from .deaths import AtWork
from .log import Log
from .message import ReceivedMessage
from .settings import Settings
from .statistics import Statistics

#: Bytes of a payload that the log shows where there is no file.
SHOWN = 400
#: Seconds between two looks whether something is to be handled again, or can be kept at last.
LOOK = 1.0


class Letters:
    """The dead letters of a process's consumers. Loop thread only.

    What cannot be written now waits here; it is not acknowledged as long, so Receive Maximum bounds it.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        statistics: Statistics,
        numbers: Iterator[int],
        deliver: Callable[[int, Replay, int], None],
    ) -> None:
        """Open the file. Raises `DeadLettersError`.

        Args:
            settings: Of the process. Where they name no file, the log is all.
            log: Where it is said what was lost, and what cannot be written.
            statistics: Of the process.
            numbers: Where those of messages come from.
            deliver: Gives a letter to the consumer with this handle once more, as the message with a number.
        """
        inbox = settings.dead_letters
        self._log = log
        self._statistics = statistics
        self._numbers = numbers
        self._deliver = deliver
        #: What the consumers are handling.
        self.at_work = AtWork(settings.memory, settings.process)
        self._file = DeadLetters(inbox) if inbox else None
        #: Lasting name of a consumer -> its handle.
        self._handles: dict[str, int] = {}
        self._names: dict[int, str] = {}
        #: Number of a message that is handled again -> the letter.
        self._replays: dict[int, int] = {}
        #: Writes that have failed.
        self._owed: deque[Callable[[], None]] = deque()
        self._has_new_consumers = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on for what is to be handled again."""
        if self._file is not None:
            loop.call_later(LOOK, self._look, loop)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    # ---- who is there ----

    def begin(self, handle: int, name: str) -> None:
        """Note a consumer, by its lasting name."""
        self._handles[name], self._names[handle] = handle, name
        self.at_work.consumer(handle, name)
        self._has_new_consumers = True

    def end(self, handle: int) -> None:
        """Forget a consumer."""
        self.at_work.consumer_gone(handle)
        name = self._names.pop(handle, None)
        if name is not None and self._handles.get(name) == handle:
            del self._handles[name]

    # ---- in ----

    def add(
        self,
        handle: int,
        message: ReceivedMessage,
        reason: str,
        tries: int,
        traceback: str,
        kept: Callable[[], None],
    ) -> None:
        """Keep a message for a reason of `mqttasgi.dead.REASONS`, and call `kept` when it is."""
        self.at_work.over(handle, message)
        name = self._names.get(handle, "")
        letter = self._replays.pop(message.stored, None)
        file = self._file
        if reason == ENDED:
            self._log.error(
                f"Processes have died {tries} times in a row while consumer {name!r:.400} was handling a "
                f"message on topic {message.topic!r:.400}: it is a dead letter now. Somebody killed them, or "
                "a C extension crashes them."
            )
        if file is None:
            self._log.error(
                f"No file of dead letters is named (-o durable=FILE), so this line is all that is left of "
                f"the message on topic {message.topic!r:.400} for {name!r:.400}: {message.payload[:SHOWN]!r}"
            )
            kept()
            return
        received_ms = message.received_ms

        def write() -> None:
            if letter is not None:
                dropped = file.failed_again(letter, reason, tries, traceback)
            else:
                dropped = file.add(
                    name,
                    message.topic,
                    message.payload,
                    message.qos,
                    message.retain,
                    message.encoded_properties(),
                    reason,
                    tries,
                    traceback,
                    received_ms,
                )
            self._statistics.add("durable/dead/dropped", dropped)
            kept()

        self._owed.append(write)
        if len(self._owed) == 1:
            # Behind others it waits for the next look, for each try may take a while.
            self._pay(is_first=True)

    def _pay(self, is_first: bool) -> None:
        """Write what is owed, in its order. Where that fails, say so the first time."""
        while self._owed:
            try:
                self._owed[0]()
            except DeadLettersError as error:
                if is_first:
                    self._log.error(f"{error} The message stays unacknowledged until it can be written.")
                return
            self._owed.popleft()

    # ---- out ----

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(LOOK, self._look, loop)
        file = self._file
        if file is None:
            return
        if self._owed:
            self._pay(is_first=False)
            if not self._owed:
                self._log.notice("Dead letters can be written again.")
        if not (self._has_new_consumers or file.has_news()):
            return
        self._has_new_consumers = False
        self._try(self._take_replays)

    def _take_replays(self, file: DeadLetters) -> None:
        for replay in file.take_replays(self._handles.keys()):
            number = next(self._numbers)
            self._replays[number] = replay.id
            self._deliver(self._handles[replay.consumer], replay, number)

    def handled(self, number: int) -> None:
        """Remove the letter that a message was, which has been handled now."""
        letter = self._replays.pop(number, None)
        if letter is not None:
            self._try(lambda file: file.replayed(letter))

    def release(self, message: ReceivedMessage) -> bool:
        """Leave a letter to another, whose consumer has ended. False: the message is none."""
        letter = self._replays.pop(message.stored, None)
        if letter is None:
            return False
        self._try(lambda file: file.release(letter))
        return True

    def _try(self, action: Callable[[DeadLetters], None]) -> None:
        assert self._file is not None
        try:
            action(self._file)
        except DeadLettersError as error:
            if not error.is_busy:
                self._log.error(f"{error}")
