"""Child processes of the application: they can be ended, and none becomes a second set of consumers.

The loop thread and all that it starts have the broker's signals blocked, and a child inherits that, a forked
one the broker's handlers, too: without what is done here, no SIGTERM would end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import Any, Callable, NoReturn

#: What the broker and this plugin have handlers for, and libuv.
_HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGRTMIN", "SIGURG", "SIGCHLD")
#: Exit status of a child that is ended here: an internal software error, in sysexits.h.
STATUS = 70
#: Seconds that pools of processes have at the end of the broker.
GRACE = 0.5

#: This process is a child that application code has forked.
forked = False


def prepare(in_child: Callable[[], None]) -> None:
    """Looks after every child from now on. `in_child` is called first in those that are forked."""
    set_handler = signal.signal
    originals = (signal.signal, signal.alarm, signal.setitimer)

    def after_fork() -> None:
        global forked
        forked = True
        signal.signal, signal.alarm, signal.setitimer = originals
        for name in _HANDLED:
            number = getattr(signal, name, None)
            if number is not None:
                with contextlib.suppress(OSError, ValueError):
                    set_handler(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        in_child()

    os.register_at_fork(after_in_child=after_fork)
    _unblock_around_spawning()


def _unblock_around_spawning() -> None:
    """Lets programs start with no signal blocked, which the subprocess module has no way to say."""

    def unblocked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
            try:
                return function(*arguments, **keywords)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        return call

    import _posixsubprocess
    import subprocess

    fork_exec = unblocked(_posixsubprocess.fork_exec)
    for module, name in ((_posixsubprocess, "fork_exec"), (subprocess, "_fork_exec")):
        if hasattr(module, name):
            setattr(module, name, fork_exec)
    for name in ("posix_spawn", "posix_spawnp", "system"):
        setattr(os, name, unblocked(getattr(os, name)))


def stay_out_of(loop: asyncio.AbstractEventLoop) -> None:
    """Ends a child that comes back to this loop: it shares the epoll descriptor and the pipe with its
    parent, and would handle messages that are for that one.
    """
    thread = threading.get_ident()

    def after_fork() -> None:
        if threading.get_ident() != thread:
            return
        # Before whatever else this turn of asyncio's loop has to run. uvloop's list is out of reach: what is
        # ready at the moment of the fork runs there.
        ready = getattr(loop, "_ready", None)
        if ready is not None and hasattr(ready, "appendleft"):
            ready.appendleft(asyncio.Handle(end, (), loop))
        else:
            loop.call_soon(end)

    os.register_at_fork(after_in_child=after_fork)


def end() -> NoReturn:
    """Ends this process, which is such a child."""
    with contextlib.suppress(BaseException):
        os.write(
            2,
            f"mqttasgi: child process {os.getpid()}, which the application has forked, came back to its "
            "consumer and is ended. A forked child has to end itself, with os._exit().\n".encode(),
        )
    os._exit(STATUS)


def end_all(log: Callable[[str], None]) -> None:
    """Ends what multiprocessing has started, for the end of the broker: nobody would wait for it."""
    pools = sys.modules.get("concurrent.futures.process")
    if pools is not None:
        # It tells the processes of each pool to end, and waits for their jobs.
        thread = threading.Thread(target=pools._python_exit, daemon=True)
        thread.start()
        thread.join(GRACE)
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        for child in processes.active_children():
            if not child.daemon:
                log(f"Child process {child.pid} ({child.name}) of the application is ended with the broker.")
            child.terminate()
