"""The event loop's threads, in which `asyncio.to_thread` and `run_in_executor` run what blocks."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional, TypeVar

_Result = TypeVar("_Result")


class LoopExecutor(ThreadPoolExecutor):
    """As the event loop's own, but its threads close Django's connections that are too old or broken.

    They do that before they begin the next job, as Django does before each request: otherwise one that the
    database's restart has broken would fail for ever.
    """

    def __init__(self, max_workers: Optional[int] = None) -> None:
        super().__init__(max_workers, thread_name_prefix="asyncio")

    def submit(self, fn: Callable[..., _Result], /, *arguments: Any, **named: Any) -> Future[_Result]:
        """Run it in one of the threads."""
        return super().submit(_run, fn, *arguments, **named)


def _run(function: Callable[..., _Result], /, *arguments: Any, **named: Any) -> _Result:
    # Not every application uses Django; one that does may import it late.
    if "django.db" in sys.modules:
        from .. import database

        database.look_after_this_thread()
    return function(*arguments, **named)
