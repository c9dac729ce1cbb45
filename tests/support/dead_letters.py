"""A file of dead letters as the plugin makes it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

SCHEMA = """
PRAGMA application_id = 0x6d717464;
PRAGMA user_version = 1;
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  consumer TEXT NOT NULL, message INTEGER NOT NULL, time INTEGER NOT NULL, died INTEGER NOT NULL,
  reason TEXT NOT NULL, tries INTEGER NOT NULL, traceback TEXT NOT NULL,
  topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
  properties BLOB NOT NULL, publisher BLOB NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,
  replay INTEGER NOT NULL DEFAULT 0,
  UNIQUE (consumer, message, time));
CREATE INDEX dead_letter_replay ON dead_letter (replay) WHERE replay = 1;
"""
TRACEBACK = """Traceback (most recent call last):
  File "/srv/home/consumers.py", line 12, in receive
    self.warm(float(payload))
ValueError: could not convert string to float: 'warm'
"""
#: Who died in each of them: when the first of them was published, in milliseconds since 1970.
PUBLISHED = 1_764_331_200_250


def make(path: Path, rows: int = 0) -> Path:
    """Make the file, with this many rows of consumer `master`."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()
    for _ in range(rows):
        add(path)
    return path


def add(path: Path, **columns: Any) -> int:
    """Add a dead letter, and return its id; columns that are not given are of a consumer that raised."""
    row = {
        "consumer": "master",
        "message": time.monotonic_ns(),
        "time": PUBLISHED,
        "died": PUBLISHED + 61_000,
        "reason": "failed",
        "tries": 5,
        "traceback": TRACEBACK,
        "topic": "home/boiler/temperature",
        "payload": b"warm",
        "qos": 1,
        "retain": 0,
        "properties": b"",
        "publisher": b"",
        "options": 1,
        "identifier": 0,
        **columns,
    }
    connection = sqlite3.connect(path)
    with connection:
        cursor = connection.execute(
            f"INSERT INTO dead_letter ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )
    connection.close()
    assert cursor.lastrowid
    return cursor.lastrowid


def replayed(path: Path) -> dict[int, int]:
    """Return the ids that there are, and whether each is to be handled again."""
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT id, replay FROM dead_letter").fetchall())
    connection.close()
    return found
