"""What the pages look at: statistics over time, and the topics. One for the process, on its event loop.

Each source begins with the first who looks, and ends some seconds after the last: somebody who goes from page
to page does not begin anew. While nobody looks, nothing is subscribed to and nothing measured; only the
statistics are still sampled for as long as a plot is, so that whoever comes back finds no gap.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Callable, NamedTuple, Optional

from .. import _host, _inside, broker
from .topics import Topics

logger = logging.getLogger("mqttasgi.dashboard")

#: Seconds between two samples, and how many are kept: fifteen minutes.
INTERVAL, SAMPLES = 5.0, 180
#: Seconds for which a source goes on after the last who looked.
LINGER = 5.0
#: Seconds between two looks at how late the event loop is.
_TICK = 0.25
#: Those who may look at once.
VIEWERS = 250

#: The names of the sources.
STATISTICS, TOPICS, SYSTEM, STATE, CLIENTS = "statistics", "topics", "system", "state", "clients"


class Sample(NamedTuple):
    """The statistics at one time. What is a rate is that since the sample before."""

    #: time.time()
    time: float
    values: dict[str, int]
    #: Messages a second, to consumers and from them; None: this is the first one.
    received: Optional[float]
    sent: Optional[float]
    #: By how many seconds the event loop was late, at most; None: nobody looked, so nobody measured.
    delay: Optional[float]
    #: How many clients are connected; None: nobody looked.
    clients: Optional[int]


class Source:
    """Something that is looked at only while somebody wants it."""

    def __init__(self, start: Callable[[], asyncio.Task[None]], linger: float) -> None:
        """Take what starts the task that does the looking, and for how long it goes on alone."""
        self._start = start
        self._linger = linger
        self._users = 0
        self._task: Optional[asyncio.Task[None]] = None
        self._later: Optional[asyncio.TimerHandle] = None

    @property
    def is_on(self) -> bool:
        """Whether it looks."""
        return self._task is not None and not self._task.done()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody looks now."""
        return self._users > 0

    def want(self) -> None:
        """Count one more who looks."""
        self._users += 1
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not self.is_on:
            self._task = self._start()

    def leave(self) -> None:
        """Count one less."""
        self._users -= 1
        if not self._users:
            self._later = asyncio.get_running_loop().call_later(self._linger, self._end)

    def _end(self) -> None:
        self._later = None
        if self._task is not None:
            self._task.cancel()
            self._task = None


class Viewer:
    """Somebody who looks, and is woken when there is something new. Many wakes are one."""

    def __init__(self, sources: frozenset[str]) -> None:
        """Take the names of the sources that are looked at."""
        self.sources = sources
        self.woken = asyncio.Event()


class TooManyViewers(Exception):
    """As many look already as may."""


class Observer:
    """All sources, and all who look. Loop thread only."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        #: time.time() of the first sample; 0.0: there is none.
        self.since = 0.0
        #: By the sources that fill them; those of SYSTEM are what the broker says of itself.
        self.topics = {TOPICS: Topics(), SYSTEM: Topics()}
        #: By source: why it shows nothing, and how many messages came faster than they were read.
        self.problems: dict[str, str] = {}
        self.lost: dict[str, int] = {}
        #: Who is connected; None: nobody looks.
        self.clients: Optional[_host.WatchedClients] = None
        self._viewers: set[Viewer] = set()
        self._latest = 0.0
        self._sources = {
            STATISTICS: Source(lambda: self._run(STATISTICS, self._sample()), INTERVAL * SAMPLES),
            TOPICS: Source(lambda: self._run(TOPICS, self._read(TOPICS, "#")), LINGER),
            SYSTEM: Source(lambda: self._run(SYSTEM, self._read(SYSTEM, "$SYS/#")), LINGER),
            STATE: Source(lambda: self._run(STATE, self._watch()), 0.0),
            CLIENTS: Source(lambda: self._run(CLIENTS, self._watch_clients()), LINGER),
        }

    def _run(self, name: str, source: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.create_task(self._guard(name, source))

    async def _guard(self, name: str, source: Coroutine[Any, Any, None]) -> None:
        """Let a source end, with the reason on the pages."""
        self.problems.pop(name, None)
        try:
            await source
        except broker.OutsideBroker as error:
            self.problems[name] = str(error)
        except Exception:
            logger.exception("The dashboard cannot look at the %s", name)
            self.problems[name] = "Nothing can be seen; the log says why."

    # ---- who looks ----

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def is_on(self, source: str) -> bool:
        """Whether a source is being looked at."""
        return self._sources[source].is_on

    @contextmanager
    def looking(self, *sources: str) -> Iterator[Viewer]:
        """Look at some sources for the length of a block. Raises `TooManyViewers`."""
        if len(self._viewers) >= VIEWERS:
            raise TooManyViewers
        viewer = Viewer(frozenset(sources))
        self._viewers.add(viewer)
        for source in sources:
            self._sources[source].want()
        try:
            yield viewer
        finally:
            for source in sources:
                self._sources[source].leave()
            self._viewers.discard(viewer)

    def _wake(self, source: str) -> None:
        for viewer in self._viewers:
            if source in viewer.sources:
                viewer.woken.set()

    # ---- statistics ----

    async def _sample(self) -> None:
        """Take a sample at each interval, and meanwhile measure how late the loop is, if somebody looks."""
        self.samples.clear()
        self.since = 0.0
        due = self.loop.time()
        while True:
            self.take_sample()
            due = max(due + INTERVAL, self.loop.time())
            while (left := due - self.loop.time()) > 0:
                wanted = self._sources[STATISTICS].is_wanted
                pause = min(_TICK, left) if wanted else left
                before = self.loop.time()
                await asyncio.sleep(pause)
                if wanted:
                    self._latest = max(self._latest, self.loop.time() - before - pause)

    def take_sample(self) -> None:
        """Add a sample of this moment."""
        values, now = _inside.statistics(), time.time()
        received = sent = None
        if self.samples:
            before = self.samples[-1]
            passed = max(now - before.time, 0.001)
            received = _more(values, before.values, "messages/received") / passed
            sent = _more(values, before.values, "messages/sent") / passed
        else:
            self.since = now
        delay = self._latest if self._sources[STATISTICS].is_wanted else None
        clients = None if self.clients is None else self.clients.total
        self.samples.append(Sample(now, values, received, sent, delay, clients))
        self._latest = 0.0
        self._wake(STATISTICS)

    # ---- topics ----

    async def _read(self, source: str, topic_filter: str) -> None:
        """Keep what comes, until nobody looks any more."""
        self.lost[source] = 0
        topics = self.topics[source] = Topics()
        try:
            async with broker.subscribe(
                topic_filter, qos=0, retain_as_published=True, queue_size=10_000, queue_bytes=8_388_608
            ) as messages:
                async for message in messages:
                    topics.put(message["topic"], message["payload"], message["retain"], self.loop.time())
                    self.lost[source] = messages.lost
                    self._wake(source)
        finally:
            # Unless somebody looks already again, what was kept is not kept any longer.
            if self.topics[source] is topics:
                self.topics[source] = Topics()

    # ---- consumers and the log ----

    async def _watch(self) -> None:
        """Wake those who look at what has changed."""
        end = _inside.watch(lambda _kind: self._wake(STATE))
        try:
            await self.loop.create_future()
        finally:
            end()

    async def _watch_clients(self) -> None:
        """Have the broker tell who connects."""
        async with _inside.clients() as watched:
            self.clients = watched
            self._wake(CLIENTS)
            try:
                await self.loop.create_future()
            finally:
                if self.clients is watched:
                    self.clients = None


def _more(now: dict[str, int], before: dict[str, int], name: str) -> int:
    return max(0, now.get(name, 0) - before.get(name, 0))


_the_one: Optional[Observer] = None


def observer() -> Observer:
    """Return the one of this process and its event loop."""
    global _the_one
    if _the_one is None or _the_one.loop is not asyncio.get_running_loop():
        _the_one = Observer()
    return _the_one
