"""The file of dead letters as the command finds, reads and changes it, while a broker runs or not.

The plugin writes it with a rollback journal and never waits for a lock, so whatever is done here is done in
short transactions.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional
from urllib.parse import quote

from .. import dead
from .options import look_up
from .user import is_roots
from .values import UsageError

#: Of the broker as a system service.
CONFIGURATION = Path("/etc/mosquitto/mosquitto.conf")
_VARIABLE = "MQTTASGI_DURABLE"
#: SQLite locks these bytes of a file: where they begin, and how many.
_LOCKS = (0x40000000, 512)


class DeadLetterError(Exception):
    """It cannot be done; the text is a sentence without its full stop."""


class Place(NamedTuple):
    """Where dead letters are."""

    file: str
    #: The inbox that they died in.
    inbox: str


# ---- where it is ----


def find(given: Optional[str], environment: Mapping[str, str], folder: Path) -> Place:
    """Return where dead letters are, by what the first of these says.

    The argument, the environment, the `.env` file, and the configuration of Debian's service.

    Raises:
        UsageError: None says it.
    """
    if given:
        file = dead.file_of(_absolute(given, folder))
        return Place(file, file[: -len(dead.SUFFIX)])
    inbox = _absolute(look_up(_VARIABLE, environment, folder) or _from_mosquitto(), folder)
    return Place(inbox + dead.SUFFIX, inbox)


def _absolute(path: str, folder: Path) -> str:
    return os.path.abspath(folder / os.path.expanduser(path))


def _from_mosquitto() -> str:
    unreadable: list[Path] = []
    found = _lines(CONFIGURATION, unreadable)
    if len(found) > 1:
        raise UsageError(f"which one of {' and '.join(found)}? Name it with --file")
    if found:
        return found[0]
    where = f"option durable is neither in {_VARIABLE} nor in a .env file here nor in {CONFIGURATION}"
    if unreadable:
        where += f", and this user may not read {' and '.join(map(str, unreadable))}"
    raise UsageError(f"where are the dead letters? Name the file with --file, as durable does: {where}")


def _lines(path: Path, unreadable: list[Path]) -> list[str]:
    """Return what this file of Mosquitto's, and those that it includes, say of `durable`, each value once."""
    found: list[str] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            name, _, value = line.strip().partition(" ")
            value = value.strip()
            if name == "plugin_opt_durable" and value:
                found.append(value)
            elif name == "include_dir":
                for file in sorted(Path(value).glob("*.conf")):
                    found += _lines(file, unreadable)
    except FileNotFoundError:
        pass
    except OSError:
        unreadable.append(path)
    return list(dict.fromkeys(found))


def become_owner(place: Place) -> None:
    """Root becomes, for good, whose the file is.

    Code that runs as the broker's user can put anything into its place, a link as well, and into that of the
    journal which SQLite makes beside it. And what is made here then is the broker's to write.

    Raises:
        DeadLetterError: Others can write there, and it is nobody's in particular.
    """
    if os.geteuid() != 0:
        return
    file = Path(place.file)
    real = file.resolve()
    if not real.exists():
        return
    trusted = {0, int(os.environ.get("SUDO_UID", "0"))}
    for path in (file, *file.parents, real, *real.parents):
        status = path.lstat()
        if status.st_uid not in trusted:
            _become(status)
            return
    if not is_roots(real):
        raise DeadLetterError(
            f"root does not touch {real}, whose folder others can write; run this as the broker's user "
            "(sudo -u mosquitto)"
        )


def _become(status: os.stat_result) -> None:
    try:
        user = pwd.getpwuid(status.st_uid)
        os.initgroups(user.pw_name, user.pw_gid)
        group = user.pw_gid
    except KeyError:
        group = status.st_gid
        os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(status.st_uid, status.st_uid, status.st_uid)


# ---- what is in it ----


class DeadLetters:
    """The dead letters of one file, open. To be closed.

    Raises:
        DeadLetterError: The file cannot be used; also every method.
    """

    def __init__(self, place: Place, *, writes: bool = False) -> None:
        self.place = place
        #: None where there is no file yet, because nothing has died.
        self._sqlite: Optional[sqlite3.Connection] = None
        if not self._exists():
            return
        try:
            self._open("rw" if writes else "ro")
        except sqlite3.OperationalError as error:
            if writes or "readonly" not in str(error):
                raise self._complaint(error) from None
            # Whoever wrote it last was killed meanwhile: the next to write to it takes that back.
            self._again()
        except sqlite3.Error as error:
            raise self._complaint(error) from None

    def _again(self) -> None:
        self.close()
        try:
            self._open("rw")
        except sqlite3.Error as error:
            raise self._complaint(error) from None

    def close(self) -> None:
        """Close it; twice is once."""
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # reading

    def count(self, consumer: Optional[str]) -> int:
        """Return how many there are, of this consumer or of all."""
        rows = self._execute(f"SELECT count(*) FROM dead_letter{_where(consumer)}", _values(consumer))
        return int(rows[0][0]) if rows else 0

    def newest(self, consumer: Optional[str], limit: Optional[int]) -> list[sqlite3.Row]:
        """Return those that died last, the last one first, without what is large."""
        return self._execute(
            "SELECT id, consumer, time, died, reason, tries, substr(traceback, -4000) AS traceback, topic, "
            f"length(payload) AS bytes, qos, retain, replay FROM dead_letter{_where(consumer)} "
            "ORDER BY id DESC LIMIT ?",
            (*_values(consumer), -1 if limit is None else limit),
        )

    def one(self, number: int) -> sqlite3.Row:
        """Return everything of one."""
        rows = self._execute("SELECT * FROM dead_letter WHERE id = ?", (number,))
        if not rows:
            raise self._missing([number])
        return rows[0]

    def consumers(self) -> list[str]:
        """Return the names of those that have any."""
        return [row[0] for row in self._execute("SELECT DISTINCT consumer FROM dead_letter ORDER BY 1")]

    def waiting(self) -> set[int]:
        """Return those that are to be handled again and have not been taken yet."""
        return {row[0] for row in self._execute("SELECT id FROM dead_letter WHERE replay = 1")}

    def ids(self) -> set[int]:
        """Return those that there are."""
        return {row[0] for row in self._execute("SELECT id FROM dead_letter")}

    # changing, of all (of a consumer) where numbers is None

    def replay(self, numbers: Optional[Sequence[int]], consumer: Optional[str]) -> list[int]:
        """Have the broker handle them again, and return which these are."""
        return self._change("UPDATE dead_letter SET replay = 1", numbers, consumer)

    def drop(self, numbers: Optional[Sequence[int]], consumer: Optional[str]) -> list[int]:
        """Delete them, and return which these were."""
        return self._change("DELETE FROM dead_letter", numbers, consumer)

    def _change(self, sql: str, numbers: Optional[Sequence[int]], consumer: Optional[str]) -> list[int]:
        self._execute("BEGIN IMMEDIATE")
        try:
            ids = self._execute(f"SELECT id FROM dead_letter{_where(consumer)}", _values(consumer))
            there = {row[0] for row in ids}
            wanted = sorted(there) if numbers is None else list(dict.fromkeys(numbers))
            missing = [number for number in wanted if number not in there]
            if missing:
                raise self._missing(missing)
            if numbers is None:
                self._execute(sql + _where(consumer), _values(consumer))
            else:
                for number in wanted:
                    self._execute(f"{sql} WHERE id = ?", (number,))
            self._execute("COMMIT")
        finally:
            if self._sqlite is not None and self._sqlite.in_transaction:
                self._sqlite.rollback()
        return wanted

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        if self._sqlite is None:
            return []
        try:
            return self._sqlite.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._complaint(error) from None

    # opening

    def _exists(self) -> bool:
        try:
            os.stat(self.place.file)
            return True
        except FileNotFoundError:
            if os.path.exists(self.place.inbox):
                return False
            raise DeadLetterError(
                f"there is neither {self.place.file} nor the inbox {self.place.inbox}; does option durable "
                "name that?"
            ) from None
        except OSError as error:
            raise DeadLetterError(
                f"{self.place.file} cannot be reached by {_user()}: {error.strerror}{self._hint()}"
            ) from None

    def _open(self, mode: str) -> None:
        self._sqlite = sqlite3.connect(
            f"file:{quote(self.place.file)}?mode={mode}",
            uri=True,
            timeout=dead.TIMEOUT,
            isolation_level=None,
        )
        self._sqlite.row_factory = sqlite3.Row
        self._sqlite.text_factory = lambda data: data.decode(errors="replace")
        self._sqlite.execute("PRAGMA trusted_schema = OFF")
        ((identifier,),) = self._sqlite.execute("PRAGMA application_id")
        ((version,),) = self._sqlite.execute("PRAGMA user_version")
        ((entries,),) = self._sqlite.execute("SELECT count(*) FROM sqlite_master")
        refusal = dead.refusal(identifier, version, entries == 0)
        if refusal:
            self.close()
            raise DeadLetterError(f"{self.place.file} {refusal}")
        if entries == 0:
            self.close()

    def _missing(self, numbers: Sequence[int]) -> DeadLetterError:
        which = " and no ".join(map(str, numbers))
        return DeadLetterError(f"there is no dead letter {which}; `mqttasgi dead list` shows which there are")

    def _complaint(self, error: sqlite3.Error) -> DeadLetterError:
        self.close()
        text, file = str(error), self.place.file
        if "locked" in text:
            return DeadLetterError(
                f"another program has been writing to {file} for {dead.TIMEOUT:g} seconds; try again"
            )
        if "readonly" in text or "unable to open" in text:
            folder = os.path.dirname(file)
            wrong = file if not os.access(file, os.R_OK | os.W_OK) else folder
            return DeadLetterError(f"{wrong} cannot be written or read by {_user()}{self._hint()}")
        if "not a database" in text:
            return DeadLetterError(f"{file} {dead.refusal(0, 0, False)}")
        if "malformed" in text:
            return DeadLetterError(
                f"{file} is damaged; stop the broker and move it away, then `sqlite3 FILE .recover` gets "
                "back what can be had"
            )
        return DeadLetterError(f"{file} cannot be used: {text}")

    def _hint(self) -> str:
        try:
            owner = pwd.getpwuid(os.stat(self.place.file).st_uid).pw_name
        except (OSError, KeyError):
            return "; run this with sudo"
        return f"; run this as the broker's user (sudo -u {owner})" if _user() != f"user {owner}" else ""


def _where(consumer: Optional[str]) -> str:
    return "" if consumer is None else " WHERE consumer = ?"


def _values(consumer: Optional[str]) -> tuple[str, ...]:
    return () if consumer is None else (consumer,)


def _user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"


# ---- the broker ----


def is_broker_running(inbox: str) -> Optional[bool]:
    """Return whether a broker has the inbox open; None where this user may not know.

    A broker locks it while it runs. To ask is all that is done here: whoever opened it with SQLite would
    write to it.
    """
    try:
        with open(inbox, "rb") as file:
            asked = struct.pack("@hhqqi", fcntl.F_WRLCK, os.SEEK_SET, *_LOCKS, 0)
            answer = fcntl.fcntl(file, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return bool(struct.unpack("@hhqqi", answer)[0] != fcntl.F_UNLCK)
