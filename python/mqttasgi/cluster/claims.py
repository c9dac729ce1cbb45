"""Which process has a dead letter in hand, and whether any has: locks on an inbox that stays empty.

A broker with the plugin locks its inbox as long as it runs, and the command `mqttasgi dead` asks for that
lock. The processes here share it, so that the command waits for them as it does for a broker, and so that a
broker that is given the same inbox says that another process has it open.

A letter is one byte far beyond, which one process can lock. The kernel unlocks what a process has, however
that ends: of what one that was killed had in hand, the next one to look takes all. Child processes inherit
none of it. A second object of these in one process would not be kept out (POSIX).
"""

from __future__ import annotations

import errno
import fcntl
import os

#: SQLite locks these bytes of a file: where they begin, and how many (command/dead_file.py asks for them).
_IN_USE, _IN_USE_LENGTH = 0x40000000, 512
#: Where the letters' bytes begin; far behind them.
_LETTERS = 1 << 48
#: The largest number of one that can be locked.
LETTER_MAX = _LETTERS


class InUseError(Exception):
    """A broker with the plugin has the inbox open."""


class Claims:
    """The letters that this process has in hand: as many as the caller takes.

    Raises:
        InUseError: Also every method.
        OSError: The inbox cannot be made, opened or locked; also every method.
    """

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._descriptor = -1
        self._letters: set[int] = set()
        self._open()

    def close(self) -> None:
        """Let go of all of them; twice is once."""
        self._letters.clear()
        self._close()

    def __contains__(self, letter: int) -> bool:
        """Return whether this process has it."""
        return letter in self._letters

    def __len__(self) -> int:
        """Return how many this process has."""
        return len(self._letters)

    def take(self, letter: int) -> bool:
        """Return whether it is this process's now; otherwise another has it."""
        if not self._lock(letter):
            return False
        self._letters.add(letter)
        return True

    def release(self, letter: int) -> None:
        """Let others have it."""
        if letter in self._letters:
            self._letters.discard(letter)
            if self._descriptor >= 0:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _LETTERS + letter)

    def look(self) -> None:
        """Make the inbox anew where somebody has moved it away, for the others lock what is in its place.

        What another has taken meanwhile this process has no more, although it may be handling it: then it is
        handled twice.
        """
        if self._descriptor >= 0 and self._is_in_place():
            return
        self._close()
        self._open()
        self._letters = set(filter(self._lock, self._letters))

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._inbox))
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        self._descriptor = os.open(self._inbox, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _could_lock(self._descriptor, fcntl.LOCK_SH, _IN_USE_LENGTH, _IN_USE):
            self._close()
            raise InUseError(self._inbox)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _lock(self, letter: int) -> bool:
        return _could_lock(self._descriptor, fcntl.LOCK_EX, 1, _LETTERS + letter)


def _could_lock(descriptor: int, how: int, length: int, start: int) -> bool:
    try:
        fcntl.lockf(descriptor, how | fcntl.LOCK_NB, length, start)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
