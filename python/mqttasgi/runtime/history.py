"""What has become of a consumer so far, for those who look at it from inside of the process."""

from __future__ import annotations

import time
from typing import Callable

from .durable import traceback_of


class History:
    """One for each consumer, kept over its runs. Loop thread only."""

    __slots__ = ("_tell", "error", "error_time", "handled", "since", "state")

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Take what is called with "consumers" at each change."""
        self._tell = tell
        #: As in `ConsumerView`.
        self.state = "starting"
        self.since = time.time()
        #: Events that runs which have ended had handled.
        self.handled = 0
        self.error = ""
        self.error_time = 0.0

    def enter(self, state: str) -> None:
        """Note what it does from now on."""
        self.state = state
        self.since = time.time()
        self._tell("consumers")

    def fail(self, error: BaseException) -> None:
        """Note what has ended a run."""
        self.error = traceback_of(error)
        self.error_time = time.time()
