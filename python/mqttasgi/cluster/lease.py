"""Which process of a group leads: `scope["is_leader"]`, by a lease in Django's database or in Redis.

A lease lasts some seconds, and the leader has it prolonged in good time. Each side counts by a clock of its
own: the leader's count begins before its question leaves, and ends earlier by a margin, so it has stopped
leading before the server gives the lease to another. A leader that cannot reach the server, stands still,
or is suspended with its machine, stops leading by that alone.

It says who leads at the moment of asking. What the leader then does may take effect after its lease has
ended: what must never happen twice still needs a constraint in the database.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from typing import Callable, Optional
from urllib.parse import urlsplit

from .lease_database import DatabaseStore
from .lease_redis import SCHEMES, RedisStore
from .lease_store import Store, StoreError

logger = logging.getLogger(__name__)


def _clock() -> float:
    """Return seconds that nobody sets. They pass while the machine is suspended too, unlike `monotonic()`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leader:
    """Takes and keeps the lease of a group, in a thread of its own: the application may block all others."""

    def __init__(
        self,
        store: Store,
        group: str,
        on_change: Optional[Callable[[bool], None]] = None,
        clock: Callable[[], float] = _clock,
    ) -> None:
        """Take the store, which is then this leader's own.

        Args:
            store: Where the lease is.
            group: Its name, the same in all processes of the group.
            on_change: Called from the thread after each change. It is late while the thread waits for the
                server; `leads` never is.
            clock: Of this machine.
        """
        self._store = store
        self._timing = store.timing
        self._group = group
        self._on_change = on_change
        self._clock = clock
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqttasgi-leader", daemon=True)
        #: From when to when the lease counts here; None: it is another's. The thread sets it as a whole.
        self._span: Optional[tuple[float, float]] = None
        # What follows is the thread's alone.
        self._holder = ""
        self._told = False
        self._trouble: Optional[str] = None

    @property
    def leads(self) -> bool:
        """Whether this process leads at this moment. Any thread; never waits."""
        span = self._span
        return span is not None and span[0] <= self._clock() < span[1] and not self._ends.is_set()

    def start(self) -> None:
        """Begin to try."""
        self._thread.start()

    def stop(self) -> None:
        """Lead no more, and release the lease. Waits, but not for long where the server does not answer."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(self._timing.patience)

    # ---- the thread ----

    def _run(self) -> None:
        while not self._ends.is_set():
            due = self._clock() + self._timing.renewal
            self._turn()
            while not self._ends.wait(self._pause(due)) and self._clock() < due:
                self._tell()
        self._end()

    def _pause(self, due: float) -> float:
        """Return the seconds until something changes: the next question, or the lease by itself."""
        now = self._clock()
        moments = [moment for moment in self._span or () if moment > now]
        return max(0.0, min([due, *moments]) - now)

    def _turn(self) -> None:
        """Ask the store once. Raises nothing."""
        self._tell()
        try:
            if not (self._span and self._renews()):
                self._span = None
                self._tell()
                self._acquire()
        except StoreError as error:
            self._fails(str(error), error.lasting)
        except Exception as error:  # a driver's: the thread has to go on
            self._fails(f"{type(error).__name__}: {error}", False)
        else:
            self._works()
        self._tell()

    def _renews(self) -> bool:
        assert self._span is not None
        asked = self._clock()
        if not self._store.renew(self._group, self._holder, self._timing.seconds):
            return False
        self._span = (self._span[0], self._end_of(asked))
        return True

    def _acquire(self) -> None:
        # New each time: a lease by an earlier question, whose answer was lost, would be taken for this one,
        # and its settling would have begun too early.
        self._holder = f"{socket.gethostname()[:100]}:{os.getpid()}:{uuid.uuid4().hex}"
        asked = self._clock()
        if self._store.acquire(self._group, self._holder, self._timing.seconds):
            self._span = (self._clock() + self._timing.settling, self._end_of(asked))

    def _end_of(self, asked: float) -> float:
        return asked + self._timing.seconds - self._timing.margin

    def _end(self) -> None:
        self._tell()
        with contextlib.suppress(Exception):  # it runs out by itself
            if self._span is not None:
                self._store.release(self._group, self._holder)
        with contextlib.suppress(Exception):
            self._store.close()

    # ---- what is said ----

    def _tell(self) -> None:
        leads = self.leads
        if leads == self._told:
            return
        self._told = leads
        if leads:
            logger.info("This process leads now (lease %r in %s).", self._group, self._store.where)
        else:
            logger.info("This process does not lead any more: %s.", self._reason())
        if self._on_change is not None:
            try:
                self._on_change(leads)
            except Exception:
                logger.exception("What is called when the leader changes has failed.")

    def _reason(self) -> str:
        if self._ends.is_set():
            return "it ends"
        if self._span is None:
            return f"{self._store.where} has not kept the lease {self._group!r} for it"
        return f"the lease {self._group!r} was not renewed in time"

    def _fails(self, why: str, lasting: bool) -> None:
        # A server says in several ways that it is away, as it goes and comes: one is enough.
        if self._trouble is None or (lasting and why != self._trouble):
            logger.warning(
                "The lease %r, which says who leads, cannot be had from %s: %s. It is tried every %g s.",
                self._group,
                self._store.where,
                why.rstrip("."),
                self._timing.renewal,
            )
            self._trouble = why
        with contextlib.suppress(Exception):
            self._store.close()

    def _works(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            logger.warning("The lease %r can be had from %s again.", self._group, self._store.where)


class IsLeader:
    """What a scope has: as good as a bool, but asked anew each time, also in a copy of the scope."""

    __slots__ = ("_leader",)

    def __init__(self, leader: Leader) -> None:
        self._leader = leader

    def __bool__(self) -> bool:
        return self._leader.leads

    def __eq__(self, other: object) -> bool:
        return bool(self) == bool(other) if isinstance(other, (bool, IsLeader)) else NotImplemented

    def __hash__(self) -> int:
        return hash(bool(self))

    def __repr__(self) -> str:
        return repr(bool(self))


def make(where: str, group: str, on_change: Optional[Callable[[bool], None]] = None) -> Optional[Leader]:
    """Return what is yet to be started, or None where `where` is empty.

    Django's settings must have been set up for a lease in a database. Nothing is connected here.

    Args:
        where: `database`, `database:<alias>`, or the address of a Redis: `redis://`, `rediss://`, `unix://`.
        group: The lease's name.
        on_change: See Leader.

    Raises:
        ValueError: It cannot be there; with a whole sentence.
    """
    if not where:
        return None
    store: Store
    kind, _, alias = where.partition(":")
    if kind == "database":
        store = DatabaseStore(alias or "default")
    elif urlsplit(where).scheme in SCHEMES:
        store = RedisStore(where)
    else:
        raise ValueError(
            f"A leader's lease cannot be in {where.split('://')[0]!r}: write database, database:<alias of "
            "DATABASES>, or the address of a Redis (redis://host:6379/0)."
        )
    return Leader(store, group, on_change)
