"""Keeps Django's database connections fit without a thread hop for every message.

Channels runs `close_old_connections` in the database thread before each event, which costs more than the
rest of the event. Connections age by seconds and break by errors, so here it runs at most once a second,
only while a connection is open, and after an event that a database error ended.

A connection belongs to the thread that opened it, and can be closed there alone. There are two kinds:

- the thread of asgiref's thread-sensitive calls, where the ORM's async methods and `sync_to_async` run: the
  loop thread gives it the job, before whatever the event gives it, and does not wait, because another
  consumer's query may be running there;
- the threads of the event loop's executor, where `asyncio.to_thread` and `thread_sensitive=False` run: each
  looks after itself before its next job (`threads.py`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Executor
from contextvars import ContextVar

from asgiref.sync import SyncToAsync
from django.db import Error, close_old_connections, connections
from django.db.backends.signals import connection_created

logger = logging.getLogger(__name__)

#: Seconds between two looks at the connections.
INTERVAL = 1.0

#: True in consumers that a test drives: the connection is the test's, in a transaction of its own.
left_to_test: ContextVar[bool] = ContextVar("left_to_test", default=False)

# Set in whichever thread opens a connection, cleared in the database thread when none is left open.
_connection_open = False
_looked_at = time.monotonic()
# A job waits for the database thread and has not begun: one is enough, however long that is busy.
_waiting = False


class _Here(threading.local):
    """What is known of this thread's own connections."""

    is_open = False
    looked_at = 0.0


_here = _Here()


def _on_connection_created(**_kwargs: object) -> None:
    global _connection_open
    _connection_open = True
    if not _here.is_open:
        _here.is_open = True
        _here.looked_at = time.monotonic()


connection_created.connect(_on_connection_created, dispatch_uid="mqttasgi.database")


def is_due() -> bool:
    """Whether refresh() should run before the next event. Loop thread."""
    return _connection_open and time.monotonic() - _looked_at >= INTERVAL and not left_to_test.get()


def is_due_after(error: BaseException) -> bool:
    """Whether refresh() should run after an event that raised this."""
    return isinstance(error, Error) and not left_to_test.get()


def refresh() -> None:
    """Have connections that are too old or broken closed, before the ORM calls that come after this.

    That is done in the thread where consumers' ORM calls run, and this returns at once. What goes wrong is
    logged. Loop thread.
    """
    global _looked_at, _waiting
    _looked_at = time.monotonic()
    if _waiting:
        return
    _waiting = True
    # At the interpreter's end there are no more jobs, and so no connections to look after.
    with contextlib.suppress(RuntimeError):
        _executor().submit(_look_after_database_thread)


def _executor() -> Executor:
    """Return where `sync_to_async` would run a thread-sensitive call that is made here."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None:
        executor = SyncToAsync.context_to_thread_executor.get(context)
        if executor is not None:
            return executor
    return SyncToAsync.single_thread_executor


def _look_after_database_thread() -> None:
    global _connection_open, _waiting
    _waiting = False
    _connection_open = False
    _close_old_connections()
    if _here.is_open:
        _connection_open = True


def look_after_this_thread() -> None:
    """Close this thread's connections that are too old or broken, if it has any and it is time.

    Called before each job of the event loop's executor.
    """
    if not _here.is_open or left_to_test.get():
        return
    if time.monotonic() - _here.looked_at >= INTERVAL or any(
        connection.errors_occurred for connection in connections.all()
    ):
        _close_old_connections()


def _close_old_connections() -> None:
    try:
        close_old_connections()
    except Exception:
        # The next query says it again, to whoever makes it.
        logger.warning("Database connections that are old or broken could not be closed.", exc_info=True)
    _here.looked_at = time.monotonic()
    _here.is_open = any(connection.connection is not None for connection in connections.all())
