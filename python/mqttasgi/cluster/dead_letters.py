"""Dead letters of consumers of a broker elsewhere, in the plugin's file and by its bounds.

So `mqttasgi dead` and Django's admin list, show, replay and drop them (docs/durable.md). The processes of one
machine share a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import closing
from typing import Any, NamedTuple, Optional

from .. import dead
from .._mqtt import MAX_BYTES
from .._properties import decode_properties
from .claims import LETTER_MAX, Claims, InUseError
from .dead_letters_file import DeadLettersError, DeadLettersFile, cure_of, refusal

__all__ = ["DeadLetters", "DeadLettersError", "Replay"]

#: Bytes of the file, as `durable_size` has them.
LIMIT = 256 * 1024 * 1024
#: So many of the oldest make room for one, at most.
DROPPED_MAX = 512
#: So many are taken at once to be handled again, and no more after so many bytes.
REPLAYS_MAX, REPLAYS_BYTES = 64, 16 * 1024 * 1024
#: Why they died (`mqttasgi.dead.REASONS`).
FAILED, ENDED = "failed", "process ended"
#: Pages of a row besides its content: those that it makes split.
_ROW_PAGES = 4
#: Nanoseconds: a file that has changed so recently may change again without its times telling.
_RECENT = 1_000_000_000
_RETAIN_AS_PUBLISHED = 0x08

_COLUMNS = (
    "consumer, message, time, died, reason, tries, traceback, topic, payload, qos, retain, properties, "
    "publisher, options, identifier"
)
_ADD = f"INSERT INTO dead_letter ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"
_REMOVE = "DELETE FROM dead_letter WHERE id = ?"
_WANTED = (
    "SELECT id, CAST(consumer AS TEXT) FROM dead_letter WHERE replay = 1 AND id BETWEEN 1 AND ? ORDER BY id"
)
#: Whatever others have written there, as bytes.
_MESSAGE = (
    "SELECT CAST(consumer AS BLOB), CAST(topic AS BLOB), CAST(payload AS BLOB), CAST(qos AS INTEGER), "
    "CAST(retain AS INTEGER), CAST(properties AS BLOB), CAST(time AS INTEGER) "
    "FROM dead_letter WHERE id = ? AND replay = 1"
)


class Replay(NamedTuple):
    """A dead letter that somebody wants to be handled again: by this process, until that says how it went."""

    id: int
    consumer: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    #: As on the wire.
    properties: bytes
    received_ms: int


class DeadLetters:
    """The dead letters beside an inbox. One object in a process, and one thread at a time.

    What it keeps itself is which replays are in hand here: as many as the caller takes.

    Raises:
        DeadLettersError: They cannot be used, and why; also every method but `has_news` and `close`.
    """

    def __init__(
        self, inbox: str, *, limit: int = LIMIT, for_power_loss: bool = False, wait: float = 0.5
    ) -> None:
        """Open the file, or make it.

        Args:
            inbox: As option `durable` names it, absolute. It stays empty.
            limit: Bytes of the file, by which the oldest make room for others.
            for_power_loss: Whether what is written has to survive that, which takes as long as the disk does.
            wait: Seconds for which another program may keep the file locked.
        """
        self._inbox = inbox
        self._limit = limit
        #: Rows that others have changed so that they are no message: they stay, and nobody wants them.
        self.refused = 0
        #: Handled, and not yet removed.
        self._owed: set[int] = set()
        #: How the file looked when there was nothing more to take from it.
        self._seen: Optional[tuple[int, ...]] = None
        self._claims = self._lock()
        try:
            self._file = DeadLettersFile(inbox + dead.SUFFIX, for_power_loss=for_power_loss, wait=wait)
        except DeadLettersError:
            self._claims.close()
            raise

    def close(self) -> None:
        """Close it; what was taken and not handled another process takes."""
        self._file.close()
        self._claims.close()

    def _lock(self) -> Claims:
        try:
            return Claims(self._inbox)
        except (InUseError, OSError) as error:
            raise self._complaint(error) from None

    def _complaint(self, error: Exception) -> DeadLettersError:
        if isinstance(error, OSError):
            return refusal(self._inbox + dead.SUFFIX, f"of the inbox, {cure_of(error, self._inbox)}")
        return refusal(
            self._inbox + dead.SUFFIX,
            f"a broker has the inbox {self._inbox} open; name another one with durable",
        )

    # ---- adding ----

    def add(
        self,
        consumer: str,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: bytes,
        reason: str,
        tries: int,
        traceback: str,
        received_ms: int,
    ) -> int:
        """Add a message, and return how many of the oldest were dropped for it. It is in the file then.

        `consumer` is the lasting name of that, `properties` are as on the wire, `reason` is FAILED or another
        of `mqttasgi.dead.REASONS`, `traceback` that of the last try (empty: there is none), and `received_ms`
        milliseconds since 1970.
        """
        number = int.from_bytes(os.urandom(8), "big") >> 1  # the broker elsewhere gives none that lasts
        options = qos | (_RETAIN_AS_PUBLISHED if retain else 0)
        row = (
            *(_clean(consumer), number, received_ms, _now(), reason, tries, _clean(traceback), _clean(topic)),
            *(bytes(payload), qos, int(retain), bytes(properties), b"", options, 0),
        )
        self._file.begin()
        dropped = self._put(row)
        self._file.commit()
        return dropped

    def _put(self, row: tuple[Any, ...]) -> int:
        """Make room before, for the row takes the pages that others leave."""
        size = sum(len(value) for value in row if isinstance(value, bytes))
        size += sum(len(value.encode()) for value in row if isinstance(value, str))
        page = self._number("PRAGMA page_size")
        most, needed, dropped = self._limit // page, size // page + _ROW_PAGES, 0
        while dropped < DROPPED_MAX:
            used = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
            if used + needed <= most:
                break
            self._file.execute("DELETE FROM dead_letter WHERE id = (SELECT min(id) FROM dead_letter)")
            if self._file.changed() == 0:
                break
            dropped += 1
        self._file.execute(_ADD, row)
        return dropped

    def _number(self, sql: str) -> int:
        return int(self._file.execute(sql)[0][0])

    # ---- replay ----

    def has_news(self) -> bool:
        """Return whether `take_replays` may find something; cheap enough for once a second.

        A consumer that begins asks `take_replays` itself: what waits for it is no news.
        """
        look = self._look()
        return bool(self._owed) or look is None or look != self._seen

    def take_replays(self, consumers: Collection[str], at_most: int = REPLAYS_MAX) -> list[Replay]:
        """Return those for consumers that are here, in the order in which they died.

        They are in the file until `replayed` or `failed_again` is told, and this process's alone until then,
        or until `release`, or until the process ends, however that does: then another takes them. So each is
        handled at least once.
        """
        self._settle()
        seen = self._look()
        try:
            self._claims.look()
            letters, is_all = self._claim(consumers, min(at_most, REPLAYS_MAX))
        except (InUseError, OSError) as error:
            raise self._complaint(error) from None
        found = self._read_all(letters)
        # The process that has the others in hand may end without a trace in the file.
        self._seen = seen if is_all and len(found) == len(letters) else None
        return found

    def _claim(self, consumers: Collection[str], at_most: int) -> tuple[list[int], bool]:
        """Return some, and whether there are no more, neither left nor in others' hands."""
        letters: list[int] = []
        is_all = True
        with closing(self._file.rows(_WANTED, (LETTER_MAX,))) as wanted:
            for letter, consumer in wanted:
                if consumer not in consumers or letter in self._claims:
                    continue
                if len(letters) >= at_most:
                    return letters, False
                if self._claims.take(letter):
                    letters.append(letter)
                else:
                    is_all = False
        return letters, is_all

    def _read_all(self, letters: list[int]) -> list[Replay]:
        """Return those that are messages, and let go of the others, and of all if one cannot be read."""
        found: list[Replay] = []
        left = set(letters)
        size = 0
        try:
            for letter in letters:
                replay = self._read(letter) if size < REPLAYS_BYTES else None
                if replay is not None:
                    found.append(replay)
                    size += len(replay.payload)
            left.difference_update(replay.id for replay in found)
        finally:
            self.release(*left)
        return found

    def _read(self, letter: int) -> Optional[Replay]:
        """Return one that is this process's; None: there is nothing to handle."""
        # Whoever had it before may have handled it since it was seen.
        rows = self._file.execute(_MESSAGE, (letter,))
        replay = _replay(letter, rows[0]) if rows else None
        if rows and replay is None:
            self._file.execute("UPDATE dead_letter SET replay = 0 WHERE id = ?", (letter,))
            self.refused += 1
        return replay

    def replayed(self, *letters: int) -> None:
        """Remove those that were handled. Where that fails, the next call of this or `take_replays` does."""
        self._owed.update(letters)
        self._settle()

    def _settle(self) -> None:
        if not self._owed:
            return
        self._file.begin()
        for letter in self._owed:
            self._file.execute(_REMOVE, (letter,))
        self._file.commit()
        while self._owed:
            self._claims.release(self._owed.pop())

    def failed_again(self, letter: int, reason: str, tries: int, traceback: str) -> int:
        """Put a new one in its place, with a new number, which nobody wants yet; return as `add` does.

        Where somebody has dropped it meanwhile, there is none. Where this fails, the caller tries again.
        """
        self._file.begin()
        rows = self._file.execute(f"SELECT {_COLUMNS} FROM dead_letter WHERE id = ?", (letter,))
        dropped = 0
        if rows:
            row = list(rows[0])
            row[3:7] = [_now(), reason, tries, _clean(traceback)]
            self._file.execute(_REMOVE, (letter,))
            dropped = self._put(tuple(row))
        self._file.commit()
        self._claims.release(letter)
        return dropped

    def release(self, *letters: int) -> None:
        """Let others take what was not handled here, because its consumer has ended, say."""
        for letter in letters:
            self._claims.release(letter)
        self._seen = None

    def _look(self) -> Optional[tuple[int, ...]]:
        """Return how the file looks (empty: it is gone); None: it may change without looking different."""
        try:
            status = os.stat(self._file.path)
        except OSError:
            return ()
        if abs(time.time_ns() - status.st_mtime_ns) < _RECENT:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _replay(letter: int, row: tuple[Any, ...]) -> Optional[Replay]:
    """Return what a row has; None: it is no message."""
    consumer, topic, payload, qos, retain, properties, received_ms = row
    try:
        replay = Replay(
            letter, consumer.decode(), topic.decode(), payload, qos, bool(retain), properties, received_ms
        )
        decode_properties(properties)
    except ValueError:
        return None
    is_topic = 0 < len(topic) <= MAX_BYTES and not set("+#\0").intersection(replay.topic)
    return replay if is_topic and 0 <= qos <= 2 else None


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _now() -> int:
    return time.time_ns() // 1_000_000
