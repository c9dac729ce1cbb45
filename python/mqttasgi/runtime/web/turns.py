"""When what came by the connections is parsed: by slices in turn, and never for long at a time.

Bytes say little of the work that they make: a chunk, or a WebSocket's frame, of one byte costs as much as one
of a thousand.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any, Optional

#: Bytes of one connection that are parsed before it is another's turn.
SLICE = 512
#: Seconds of the processor that all connections together have for that, in each so many seconds.
SHARE, WINDOW = 0.005, 0.02


class Turns:
    """The connections that have something to be parsed. Loop thread only."""

    def __init__(self) -> None:
        #: In the order of their turns; no more than there are connections.
        self._waiting: dict[Any, None] = {}
        self._window_ends = 0.0
        #: Seconds that are left in this window; what was too much is missing in the next.
        self._left = SHARE
        self._is_running = False
        self._later: Optional[asyncio.Handle] = None
        # A turn is nobody's in particular: not that of the request which has asked for it.
        self._context = contextvars.copy_context()

    def add(self, connection: Any) -> None:
        """Let a connection have its turn; at once if it may be so, by `run`, or soon."""
        self._waiting[connection] = None
        if self._later is None and not self._is_running:
            self._later = asyncio.get_running_loop().call_soon(self._run_later, context=self._context)

    def add_and_run(self, connection: Any) -> None:
        """Let a connection have its turn at once, as long as time is left. For what the loop itself calls."""
        self._waiting[connection] = None
        if self._later is None:
            self._run()

    def remove(self, connection: Any) -> None:
        """Let it have no turn more."""
        self._waiting.pop(connection, None)

    def _run_later(self) -> None:
        self._later = None
        self._run()

    def _run(self) -> None:
        now = time.monotonic()
        if now >= self._window_ends:
            self._window_ends = now + WINDOW
            self._left = min(self._left, 0.0) + SHARE
        self._is_running = True
        while self._waiting and self._left > 0:
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            self._left -= connection.take_turn()
        self._is_running = False
        if self._waiting:
            self._later = asyncio.get_running_loop().call_later(
                self._window_ends - now, self._run_later, context=self._context
            )
