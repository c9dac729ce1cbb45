"""Keeps Django's database connections fit without a thread hop for every message.

Channels runs `close_old_connections` in the database thread before each event, which costs more than the
rest of the event. Connections age by seconds and break by errors, so here it runs at most once a second,
only while a connection is open, and after an event that a database error ended.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from asgiref.sync import sync_to_async
from django.db import Error, close_old_connections, connections
from django.db.backends.signals import connection_created

#: Seconds between two looks at the connections.
INTERVAL = 1.0

#: True in consumers that a test drives: the connection is the test's, in a transaction of its own.
left_to_test: ContextVar[bool] = ContextVar("left_to_test", default=False)

# Set in whichever thread opens a connection, cleared in the database thread when none is left open.
_connection_open = False
_looked_at = time.monotonic()


def _on_connection_created(**_kwargs: object) -> None:
    global _connection_open
    _connection_open = True


connection_created.connect(_on_connection_created, dispatch_uid="mqttasgi.database")


def is_due() -> bool:
    """Whether refresh() should run before the next event. Loop thread."""
    return _connection_open and time.monotonic() - _looked_at >= INTERVAL and not left_to_test.get()


def is_due_after(error: BaseException) -> bool:
    """Whether refresh() should run after an event that raised this."""
    return isinstance(error, Error) and not left_to_test.get()


async def refresh() -> None:
    """Closes connections that are too old or broken, in the thread where consumers' ORM calls run."""
    global _looked_at
    _looked_at = time.monotonic()
    await sync_to_async(_close_old_connections)()


def _close_old_connections() -> None:
    global _connection_open
    _connection_open = False
    close_old_connections()
    if any(connection.connection is not None for connection in connections.all()):
        _connection_open = True
