"""The event loop: which kind, running on whatever an application does to it, and what is left at its end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from . import processes

if TYPE_CHECKING:
    from .service import Runtime

#: How often in a row the loop may fail before it has run anything.
LOOP_FAILURES = 3
#: Seconds, and failures, for what the application has left on the loop at the end.
CLOSE_TIMEOUT, CLOSE_FAILURES = 0.5, 10


def new_event_loop(loop: str) -> asyncio.AbstractEventLoop:
    """An event loop of the kind the option `loop` names: `auto` is uvloop where it is installed."""
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                raise
        else:
            made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return made
    return asyncio.new_event_loop()


def run_for_ever(runtime: Runtime) -> None:
    """Runs the loop until the runtime says so, whatever an application does to the loop."""
    failures = 0
    while not runtime.stopped:
        ran: list[bool] = []
        try:
            runtime.loop.call_soon(ran.append, True)
            runtime.loop.run_forever()
        except BaseException as error:
            # sys.exit() in a task comes out here (asyncio re-raises it); it is not the broker's end.
            runtime.log_exception("The application raised through the event loop:", error)
        else:
            if not runtime.stopped:
                runtime.log("The application stopped the event loop; it goes on.")
        failures = 0 if ran else failures + 1
        if failures == LOOP_FAILURES:
            runtime.log(
                "The event loop cannot run any more: the application may have closed a descriptor of it. The "
                "broker goes on without the application; restart it."
            )
            runtime.bridge.suspend()
            runtime.stopped = True


def keep_open(loop: asyncio.AbstractEventLoop) -> None:
    """Between two runs, after stop(), another thread could close it."""

    def close() -> None:
        raise RuntimeError("the event loop is the broker's and cannot be closed")

    setattr(loop, "close", close)  # noqa: B010


def _finish_tasks(runtime: Runtime) -> None:
    """Cancels the tasks that are left, and lets them end. One may raise SystemExit or cancel this wait."""
    loop = runtime.loop
    loop.set_task_factory(None)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    end = time.monotonic() + CLOSE_TIMEOUT
    for _ in range(CLOSE_FAILURES):
        left = [task for task in tasks if not task.done()]
        remaining = end - time.monotonic()
        if not left or remaining <= 0:
            return
        try:
            loop.run_until_complete(asyncio.wait(left, timeout=remaining))
        except (SystemExit, KeyboardInterrupt) as error:
            runtime.log_exception("The application raised through the event loop at its end:", error)
        except BaseException:
            continue  # this wait was cancelled or, by a stop() from before, interrupted


def close(runtime: Runtime) -> None:
    loop = runtime.loop
    with contextlib.suppress(BaseException):
        _finish_tasks(runtime)
    with contextlib.suppress(BaseException):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), CLOSE_TIMEOUT))
    with contextlib.suppress(BaseException):
        processes.end_all(runtime.log)
    # What the application registered for the end of the process, which the broker's end does not run. The
    # loop's own threads are not waited for: one that hangs would hold up the broker.
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
