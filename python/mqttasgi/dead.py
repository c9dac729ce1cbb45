"""Dead letters: the file that the broker keeps them in, how Django gets at it, and how they are shown.

A dead letter is a message of the durable inbox that its consumer could not handle (docs/durable.md). The
plugin writes the file; the command `mqttasgi dead` and Django's admin read it, set `replay` and delete rows,
all of them while the broker runs. This module imports without Django's settings, and without Django.
"""

from __future__ import annotations

import datetime
import os
from typing import Any, Optional, Union
from urllib.parse import quote

#: The alias of the file in a project's `DATABASES`; without it, there is neither model nor admin.
ALIAS = "mqttasgi_dead"
#: What the file's name has more than that of the inbox.
SUFFIX = ".dead"
#: In the file's header: "mqtd", and which tables there are.
APPLICATION_ID = 0x6D717464
VERSION = 1
#: The inbox has this one: "mqti".
INBOX_ID = 0x6D717469
#: Seconds for which another program may keep the file to itself before that is an error.
TIMEOUT = 5.0

#: What the reasons mean.
REASONS = {
    "failed": "the consumer raised an error each time",
    "expired": "no consumer of this name has asked for it within durable_keep",
    "broker ended": "the broker's process died each time before it was handled",
    "process ended": "the process of mqttasgi --connect died each time before it was handled",
}


def file_of(path: Union[str, os.PathLike[str]]) -> str:
    """Return the file of dead letters.

    Args:
        path: It, or the inbox that it belongs to, as option `durable` names that.
    """
    text = os.fspath(path)
    return text if text.endswith(SUFFIX) else text + SUFFIX


# ---- for a Django project's settings ----


def database(path: Union[str, os.PathLike[str]]) -> dict[str, Any]:
    """Return what `DATABASES["mqttasgi_dead"]` has to be, for the admin to show dead letters.

    Args:
        path: The inbox, as option `durable` names it; absolute.
    """
    return {
        "ENGINE": "django.db.backends.sqlite3",
        # The file is the broker's to make: an empty one of Django's would be in its way.
        "NAME": f"file:{quote(os.path.abspath(file_of(path)))}?mode=rw",
        "OPTIONS": {"timeout": TIMEOUT},
    }


class Router:
    """Sends the model `DeadLetter` to its file, and nothing else; for `DATABASE_ROUTERS`."""

    def db_for_read(self, model: Any, **_hints: Any) -> Optional[str]:
        """Return the alias for the model, None for others."""
        return ALIAS if model._meta.label_lower == "mqttasgi.deadletter" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> Optional[bool]:
        """Return False for the file, whose table is the plugin's, and for the model anywhere."""
        return False if db == ALIAS or app_label == "mqttasgi" else None


# ---- what the file's header says ----


def refusal(application_id: int, version: int, is_empty: bool) -> Optional[str]:
    """Return why a file is not read, as the end of a sentence that its name begins; None for one of ours.

    Args:
        application_id: SQLite's `PRAGMA application_id` of the file.
        version: Its `PRAGMA user_version`.
        is_empty: Whether it has no table at all: the plugin has only just made it.
    """
    if application_id == 0 and is_empty:
        return None
    if application_id == INBOX_ID:
        return "is an inbox, not a file of dead letters"
    if application_id != APPLICATION_ID:
        return "is not a file of mqttasgi's dead letters"
    if version > VERSION:
        return (
            f"is of a newer mqttasgi (version {version} of the file, and this one knows {VERSION}); use that "
            "one's command"
        )
    return None


# ---- as people read it ----


def moment(milliseconds: int) -> datetime.datetime:
    """Return a time of the file, in UTC."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)


def error_line(traceback: str) -> str:
    """Return the last line of a traceback, which usually names the error; empty where there is none."""
    return next((line.strip() for line in reversed(traceback.splitlines()) if line.strip()), "")


def printable(text: str, keep: str = "") -> str:
    """Return the text without what could tell a terminal something: escapes in its place.

    Args:
        text: Whatever somebody has published.
        keep: Characters that stay as they are.
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def as_text(payload: bytes, is_cut: bool = False) -> Optional[str]:
    """Return the payload as text; None where it is something else.

    Args:
        payload: Its bytes, or the first of them.
        is_cut: Whether there are more, so that the last character may not be whole.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        if not is_cut or error.reason != "unexpected end of data":
            return None
        text = payload[: error.start].decode()
    is_binary = any(ord(c) < 32 and c not in "\t\n\r" for c in text)
    return None if is_binary else printable(text, keep="\t\n")


def hexadecimal(data: bytes) -> str:
    """Return lines with 16 bytes each: where they are, the bytes, and those of them that are ASCII."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<47}  |{shown}|")
    return "\n".join(lines)
