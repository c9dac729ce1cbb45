"""The file of dead letters, made and opened as the plugin does that (plugin/durable/dead_file.c).

Several processes use it at once, and the command `mqttasgi dead` and Django's admin with them, by SQLite's
locks and in transactions of a third of a millisecond. Nothing but SQLite may open it in this process: closing
it would end those locks.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Generator, Sequence
from typing import Any, Optional
from urllib.parse import quote

from .. import dead

#: As in plugin/durable/dead_file.c.
TABLES = (
    "CREATE TABLE dead_letter (id INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, "
    "message INTEGER NOT NULL, time INTEGER NOT NULL, died INTEGER NOT NULL, reason TEXT NOT NULL, "
    "tries INTEGER NOT NULL, traceback TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, "
    "qos INTEGER NOT NULL, retain INTEGER NOT NULL, properties BLOB NOT NULL, publisher BLOB NOT NULL, "
    "options INTEGER NOT NULL, identifier INTEGER NOT NULL, replay INTEGER NOT NULL DEFAULT 0, "
    "UNIQUE (consumer, message, time))",
    "CREATE INDEX dead_letter_replay ON dead_letter (replay) WHERE replay = 1",
)
#: Others write the file: what is there is not trusted. Mapped into memory, one that is cut would end the
#: process.
_BEFORE_READING = (
    "PRAGMA mmap_size = 0",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
)
#: Of an empty file. FULL: whoever removes rows, gives their room back to the file system.
_BEFORE_WRITING = ("PRAGMA page_size = 4096", "PRAGMA auto_vacuum = FULL")
#: Seconds for which another program may keep the file locked as it is opened.
_WAIT_AT_START = 2.0
#: Seconds between two tries to lock it. SQLite's own grow to a tenth of a second, in which others come first.
_PAUSE = 0.001


class DeadLettersError(Exception):
    """The dead letters cannot be read or written just now; the text says what to do, as a whole sentence.

    Nothing was changed, and the next call tries again.
    """

    def __init__(self, text: str, is_busy: bool = False) -> None:
        """Take the sentence, and whether another program only had it locked."""
        super().__init__(text)
        self.is_busy = is_busy


class DeadLettersFile:
    """A connection to it, which is made anew where the file is moved away. One thread at a time.

    Raises:
        DeadLettersError: The file cannot be made or used; also every method.
    """

    def __init__(self, path: str, *, for_power_loss: bool, wait: float) -> None:
        """Open it, or make it, for this user alone.

        Args:
            path: The file; its folder has to be there.
            for_power_loss: A transaction waits for the disk.
            wait: Seconds for which another program may keep it locked.
        """
        self.path = path
        self._synchronous = "FULL" if for_power_loss else "OFF"
        self._wait = wait
        self._sqlite: Optional[sqlite3.Connection] = None
        #: Of the file that is open.
        self._identity: Optional[tuple[int, int]] = None
        self._open(max(wait, _WAIT_AT_START))

    def close(self) -> None:
        """Close it; twice is once."""
        sqlite, self._sqlite = self._sqlite, None
        if sqlite is not None:
            sqlite.close()

    # ---- using it ----

    def begin(self) -> None:
        """Begin a transaction: whoever reads is waited for now, and not at its end."""
        self.execute("BEGIN EXCLUSIVE")

    def commit(self) -> None:
        """End it."""
        self.execute("COMMIT")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a statement. One that fails ends the transaction it is in."""
        return list(self.rows(sql, values))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Yield them one by one; until the generator is closed, nobody can write to the file."""
        sqlite = self._connection()
        try:
            cursor = self._start(sqlite, sql, values)
            try:
                yield from cursor
            finally:
                cursor.close()
        except sqlite3.Error as error:
            # What a failure has left of a transaction, closing takes back; or the next to open the file.
            self.close()
            raise self._complaint(error) from None

    def _start(self, sqlite: sqlite3.Connection, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        deadline = time.monotonic() + self._wait
        while True:
            try:
                return sqlite.execute(sql, values)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _connection(self) -> sqlite3.Connection:
        sqlite = self._sqlite
        if sqlite is not None and (sqlite.in_transaction or not self._is_gone()):
            return sqlite
        self.close()
        return self._open(self._wait)

    def changed(self) -> int:
        """Return how many rows the last statement has changed."""
        return int(self.execute("SELECT changes()")[0][0])

    def _is_gone(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    # ---- opening ----

    def _open(self, wait: float) -> sqlite3.Connection:
        self._prepare()
        try:
            self._sqlite = sqlite3.connect(
                f"file:{quote(self.path)}?mode=rw",
                uri=True,
                timeout=wait,
                isolation_level=None,
                check_same_thread=False,
            )
            self._sqlite.text_factory = lambda data: data.decode(errors="replace")
            self._set_up(self._sqlite)
            self._sqlite.execute("PRAGMA busy_timeout = 0")
            return self._sqlite
        except sqlite3.Error as error:
            self.close()
            raise self._complaint(error) from None
        except DeadLettersError:
            self.close()
            raise

    def _prepare(self) -> None:
        """Make the file, because SQLite would make it for everybody to read."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise refusal(self.path, cure_of(error, self.path)) from None
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise refusal(self.path, cure_of(error, self.path)) from None
        if not stat.S_ISREG(status.st_mode):
            raise refusal(self.path, "it is a folder or a device; move that away")
        self._identity = status.st_dev, status.st_ino

    def _set_up(self, sqlite: sqlite3.Connection) -> None:
        for sql in _BEFORE_READING:
            sqlite.execute(sql)
        if self._looks_empty(sqlite):
            for sql in _BEFORE_WRITING:
                sqlite.execute(sql)
        # Somebody may have made it a WAL.
        sqlite.execute("PRAGMA journal_mode = DELETE").fetchall()
        sqlite.execute(f"PRAGMA synchronous = {self._synchronous}")
        if not self._looks_empty(sqlite):
            return
        sqlite.execute("BEGIN EXCLUSIVE")
        # Another process may have made them meanwhile.
        if self._is_empty(sqlite):
            for sql in TABLES:
                sqlite.execute(sql)
            sqlite.execute(f"PRAGMA application_id = {dead.APPLICATION_ID}")
            sqlite.execute(f"PRAGMA user_version = {dead.VERSION}")
        sqlite.execute("COMMIT")

    def _looks_empty(self, sqlite: sqlite3.Connection) -> bool:
        # What `_is_empty` reads is of one moment.
        sqlite.execute("BEGIN")
        is_empty = self._is_empty(sqlite)
        sqlite.execute("COMMIT")
        return is_empty

    def _is_empty(self, sqlite: sqlite3.Connection) -> bool:
        """Return whether it has nothing in it yet; raise where that is somebody else's."""
        ((identifier,),) = sqlite.execute("PRAGMA application_id")
        ((version,),) = sqlite.execute("PRAGMA user_version")
        ((entries,),) = sqlite.execute("SELECT count(*) FROM sqlite_master")
        why = dead.refusal(identifier, version, entries == 0)
        if why:
            raise refusal(self.path, f"it {why}; move it away, or name another inbox")
        return bool(entries == 0)

    def _complaint(self, error: sqlite3.Error) -> DeadLettersError:
        if _is_busy(error):
            return refusal(
                self.path,
                f"another program keeps it locked; find that (fuser {self.path}) and end it",
                is_busy=True,
            )
        return refusal(self.path, _cure_of_sqlite(str(error), self.path))


# ---- what is wrong, and what helps ----


def _is_busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error)


def refusal(path: str, why: str, is_busy: bool = False) -> DeadLettersError:
    """Return the error for a file, whose sentence ends with what is wrong and what to do."""
    return DeadLettersError(f"The dead letters {path} cannot be used: {why}.", is_busy)


def cure_of(error: OSError, path: str) -> str:
    """Return what the system says of a file, and what to do."""
    folder = os.path.dirname(path) or "."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"there is no folder {folder}; make it, or name an inbox elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"user {os.geteuid()} may not write it or its folder {folder} ({error.strerror}); let that user, "
            "or name an inbox elsewhere"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk or a quota is full; make room, or name an inbox elsewhere"
    if error.errno == errno.EISDIR:
        return f"{error.filename or path} is a folder; name a file as the inbox"
    return f"{error.strerror or error}; look after its disk, or name an inbox elsewhere"


def _cure_of_sqlite(text: str, path: str) -> str:
    """Return the same of what SQLite says; before Python 3.11, there is only its text."""
    if "full" in text:
        return "the disk is full; make room, or name an inbox elsewhere"
    if "disk I/O" in text:
        # A quota, or a limit of the process, is a fault to SQLite.
        return (
            "a quota or a limit (ulimit -f) is reached, or the disk fails; make room, or look after the disk"
        )
    if "readonly" in text or "unable to open" in text:
        return cure_of(PermissionError(errno.EACCES, text), path)
    if "not a database" in text:
        return "it is no SQLite file, or its first page is damaged; move it away, or name another inbox"
    if "malformed" in text or "no such" in text:
        return (
            f"it is damaged ({text}); move it away to start with an empty one: 'sqlite3 FILE .recover' gets "
            "back what is whole"
        )
    return f"{text}; look after its disk, or name an inbox elsewhere"
