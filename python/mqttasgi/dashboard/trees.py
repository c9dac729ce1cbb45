"""The trees of all who look at some topics, each made once for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Optional

from .._mqtt import check_filter
from .tree import Tree, arrange, is_filter

if TYPE_CHECKING:
    from .topics import Topics

#: With more topics, or more bytes of them and their values, trees are made in a thread.
FEW, SMALL = 500, 1024 * 1024
#: Seconds for which a tree is good though there are other topics meanwhile; if it is made in a thread.
PAUSE, PAUSE_MANY = 0.3, 1.0
#: Trees that are kept: of the filters that were made last.
KEPT = 16


class _Made(NamedTuple):
    """A tree, and what it was made of."""

    tree: Tree
    generation: int
    #: Until when it is good, by the loop's clock.
    until: float


class Trees:
    """Those of one `Topics`. Loop thread only; one at a time is in work, however many look."""

    def __init__(self) -> None:
        #: By filter. Filled by those who look, bounded by KEPT: the oldest is dropped, and made again when
        #: somebody asks for it.
        self._made: dict[str, _Made] = {}
        #: What a thread works on.
        self._work: Optional[asyncio.Future[Tree]] = None

    async def get(self, topics: Topics, wanted: str) -> Tree:
        """Return the tree for a filter; ValueError: it is none."""
        if is_filter(wanted):
            check_filter(wanted)
        loop = asyncio.get_running_loop()
        while True:
            made = self._made.get(wanted)
            if made is not None and (made.generation == topics.generation or loop.time() < made.until):
                return made.tree
            if self._work is None:
                return await self._make(topics, wanted)
            # Not by `await`: whoever goes away does not cancel what others wait for.
            await asyncio.wait([self._work])

    async def _make(self, topics: Topics, wanted: str) -> Tree:
        names, generation = list(topics.by_name), topics.generation
        if len(names) <= FEW and topics.bytes <= SMALL:
            return self._keep(wanted, arrange(names, wanted), generation, PAUSE)
        loop = asyncio.get_running_loop()
        work = self._work = loop.run_in_executor(None, arrange, names, wanted)

        def done(_: asyncio.Future[Tree]) -> None:
            self._work = None
            if not work.cancelled() and work.exception() is None:
                self._keep(wanted, work.result(), generation, PAUSE_MANY)

        # Also if nobody waits any more.
        work.add_done_callback(done)
        await asyncio.wait([work])
        return work.result()

    def _keep(self, wanted: str, tree: Tree, generation: int, pause: float) -> Tree:
        self._made.pop(wanted, None)
        if len(self._made) >= KEPT:
            del self._made[next(iter(self._made))]
        self._made[wanted] = _Made(tree, generation, asyncio.get_running_loop().time() + pause)
        return tree
