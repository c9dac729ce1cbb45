"""The event loop: which kind, running on whatever an application does to it, and what is left at its end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from . import processes
from .bridge import Bridge
from .lines import Lines
from .logs import BrokerLog, loop_exception_handler
from .threads import LoopExecutor

if TYPE_CHECKING:
    from .service import Service

#: How often in a row the loop may fail before it has run anything.
LOOP_FAILURES = 3
#: Seconds, and failures, for what the application has left on the loop at the end.
CLOSE_TIMEOUT, CLOSE_FAILURES = 0.5, 10


def prepare(kind: str, bridge: Bridge, lines: Lines) -> asyncio.AbstractEventLoop:
    """Return this thread's event loop, which says in the broker's log what nobody catches on it."""
    loop = lines.loop = new_event_loop(kind)
    asyncio.set_event_loop(loop)
    loop.set_default_executor(LoopExecutor())
    loop.set_exception_handler(loop_exception_handler(bridge, lines))
    _keep_open(loop)
    processes.stay_out_of(loop)
    return loop


def new_event_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Return an event loop of the kind the option `loop` names: `auto` is uvloop where it is installed."""
    if kind != "asyncio":
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                raise
        else:
            made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return made
    return asyncio.new_event_loop()


def _keep_open(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse to close it: between two runs, after stop(), another thread could."""

    def close() -> None:
        raise RuntimeError("the event loop is the broker's and cannot be closed")

    setattr(loop, "close", close)  # noqa: B010


def run_until_stopped(service: Service) -> None:
    """Run the service's loop until the service says so, whatever an application does to the loop."""
    failures = 0
    while not service.stopped:
        ran: list[bool] = []
        try:
            service.loop.call_soon(ran.append, True)
            service.loop.run_forever()
        except BaseException as error:
            # sys.exit() in a task comes out here (asyncio re-raises it); it is not the broker's end.
            service.log.exception("The application raised through the event loop:", error)
        else:
            if not service.stopped:
                service.log.error("The application stopped the event loop; it goes on.")
        failures = 0 if ran else failures + 1
        if failures == LOOP_FAILURES:
            service.log.error(
                "The event loop cannot run any more: the application may have closed a descriptor of it. The "
                "broker goes on without the application; restart it."
            )
            service.bridge.suspend()
            service.durable.flush()
            service.guests.close()
            service.stopped = True


def close(loop: asyncio.AbstractEventLoop, log: BrokerLog, until: float) -> None:
    """End what the application has left: tasks, generators, processes (by then), and what it has output."""
    with contextlib.suppress(BaseException):
        _finish_tasks(loop, log)
    with contextlib.suppress(BaseException):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), CLOSE_TIMEOUT))
    with contextlib.suppress(BaseException):
        processes.end_all(log.error, until)
    # What the application registered for the end of the process, which the broker's end does not run. The
    # loop's own threads are not waited for: one that hangs would hold up the broker.
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _finish_tasks(loop: asyncio.AbstractEventLoop, log: BrokerLog) -> None:
    """Cancel the tasks that are left, and let them end. One may raise SystemExit or cancel this wait."""
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
            log.exception("The application raised through the event loop at its end:", error)
        except BaseException:
            continue  # this wait was cancelled or, by a stop() from before, interrupted
