"""Child processes of the application: they can be ended, and none becomes a second set of consumers.

The loop thread and all that it starts have the broker's signals blocked, and a child inherits that, a forked
one the broker's handlers, too: without what is done here, no SIGTERM would end it. Nothing is unblocked
in a thread of the application's for that, not for a moment either: a signal that is pending for it, because
the application has sent it one, would end the broker.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Callable, NoReturn

#: Exit status of a child that is ended here: an internal software error, in sysexits.h.
STATUS = 70
#: Seconds that child processes have at least at the end of the broker.
GRACE = 0.5

#: This process is a child that application code has forked.
forked = False
#: Children that Python has started, in any thread; some may have ended.
_started: set[int] = set()
#: How many there may be before it is looked which have ended.
_started_bound = 64


def prepare() -> None:
    """Look after every child from now on."""
    originals = {name: getattr(signal, name) for name in _REFUSED}

    def after_fork() -> None:
        # Mask and handlers are what a child needs already: plugin/shared/thread.c sees to that.
        global forked
        forked = True
        _started.clear()
        for name, function in originals.items():
            setattr(signal, name, function)

    os.register_at_fork(after_in_child=after_fork)
    _fork_for_programs()
    _keep_account()


#: What the application is refused in the module `signal`, and a child of its is not.
_REFUSED = ("signal", "alarm", "setitimer", "pthread_sigmask")


def _fork_for_programs() -> None:
    """Let programs start with no signal blocked, which only the child can see to."""
    import _posixsubprocess

    # After vfork(), a child has the mask of its parent thread; after fork(), plugin/shared/thread.c clears
    # it. That would do, but takes the longer the more memory there is: 30 ms with 300 MB, and vfork() less
    # than one.
    if sys.version_info >= (3, 10):
        _posixsubprocess.fork_exec = _on_new_thread(_posixsubprocess.fork_exec)
    for name in ("posix_spawn", "posix_spawnp"):
        setattr(os, name, _unblocking(getattr(os, name)))
    os.system = _system


def _on_new_thread(fork_exec: Callable[..., int]) -> Callable[..., int]:
    """Start programs from a thread that has no signal blocked: vfork() gives them its mask.

    No signal waits for that thread, to which nobody could send one; those for the process are the broker
    thread's, which the kernel asks first. It ends with this.
    """
    sigmask = signal.pthread_sigmask
    preexec_fn = -2 if (3, 11) <= sys.version_info < (3, 14) else -1

    def on_new_thread(*arguments: Any) -> int:
        if forked or arguments[preexec_fn] is not None:  # there is something to call, so the child is forked
            return fork_exec(*arguments)
        results: list[int] = []
        errors: list[BaseException] = []
        done = _thread.allocate_lock()

        def start() -> None:
            try:
                sigmask(signal.SIG_SETMASK, ())
                results.append(fork_exec(*arguments))
            except BaseException as error:
                errors.append(error)
            finally:
                done.release()

        done.acquire()
        _thread.start_new_thread(start, ())
        done.acquire()
        if errors:
            raise errors[0]
        return results[0]

    return on_new_thread


def _unblocking(spawn: Callable[..., int]) -> Callable[..., int]:
    def unblocking(*arguments: Any, **keywords: Any) -> int:
        return spawn(*arguments, **{"setsigmask": (), **keywords})

    return unblocking


def _system(command: Any) -> int:
    """Do what os.system() does.

    The C library's makes the whole process, which is the broker, deaf to Ctrl-C meanwhile, and its child has
    the mask of this thread.
    """
    sys.audit("os.system", os.fsencode(command))
    try:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "--", command], os.environ)
    except OSError:
        return 127 << 8
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return -1  # another thread has waited for every child


def _keep_account() -> None:
    """Know the children from now on, for the end of the broker: it may have others, of other plugins."""
    import _posixsubprocess
    import subprocess

    fork_exec = _counted(_posixsubprocess.fork_exec)
    for module, name in ((_posixsubprocess, "fork_exec"), (subprocess, "_fork_exec")):
        if hasattr(module, name):
            setattr(module, name, fork_exec)
    for name in ("fork", "posix_spawn", "posix_spawnp"):
        setattr(os, name, _counted(getattr(os, name)))
    forkpty = os.forkpty

    def counted_forkpty() -> tuple[int, int]:
        pid, descriptor = forkpty()
        _count(pid)
        return pid, descriptor

    os.forkpty = counted_forkpty


def _counted(function: Callable[..., int]) -> Callable[..., int]:
    def counted(*arguments: Any, **keywords: Any) -> int:
        pid = function(*arguments, **keywords)
        _count(pid)
        return pid

    return counted


def _count(pid: int) -> None:
    global _started_bound
    if pid <= 0:
        return
    _started.add(pid)
    if len(_started) >= _started_bound:
        for other in list(_started):
            if not _is_child(other):
                _started.discard(other)
        _started_bound = max(64, 2 * len(_started))


def stay_out_of(loop: asyncio.AbstractEventLoop) -> None:
    """End a child that comes back to this loop.

    It shares the epoll descriptor and the pipe with its parent, and would handle messages that are for that
    one.
    """
    thread = threading.get_ident()

    def after_fork() -> None:
        if threading.get_ident() != thread:
            return
        # Before whatever else this turn of asyncio's loop has to run. uvloop's list is out of reach: what is
        # ready at the moment of the fork runs there, and then it polls.
        ready = getattr(loop, "_ready", None)
        if ready is not None and hasattr(ready, "appendleft"):
            ready.appendleft(asyncio.Handle(end, (), loop))
        else:
            with contextlib.suppress(AttributeError, OSError):
                _poll_nothing(loop._get_backend_id())  # type: ignore[attr-defined]
            loop.call_soon(end)
        # From Python 3.14 on, a task that comes back finds that this is not the running loop.
        loop.set_exception_handler(came_back)

    def came_back(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "handle" in context:
            end()

    os.register_at_fork(after_in_child=after_fork)


def _poll_nothing(descriptor: int) -> None:
    """Put an empty epoll in the place of one that is shared with the parent.

    The parent would never hear of a wakeup that was read here, and stand still.
    """
    nothing = select.epoll()
    os.dup2(nothing.fileno(), descriptor, inheritable=False)
    nothing.close()


def end() -> NoReturn:
    """End this process, which is such a child."""
    with contextlib.suppress(BaseException):
        os.write(
            2,
            f"mqttasgi: child process {os.getpid()}, which the application has forked, came back to its "
            "consumer and is ended. A forked child has to end itself, with os._exit().\n".encode(),
        )
    os._exit(STATUS)


def end_all(log: Callable[[str], None], until: float) -> None:
    """End what the application has started and not ended itself, for the end of the broker.

    Nobody would wait for it, and it would keep what it holds. What has a session of its own is meant to go
    on.

    Args:
        log: Writes a line.
        until: When what does not end at SIGTERM is killed, of `time.monotonic()`; not before `GRACE`.
    """
    until = max(until, time.monotonic() + GRACE)
    told, over = _end_multiprocessing(log)
    children = [
        pid
        for pid in sorted(_started.union(_children_of_this_thread()) - told - over)
        if _is_child(pid) and not _leads_session(pid)
    ]
    for pid in children:
        log(f"Child process {pid} ({_name_of(pid)}) of the application is ended with the broker.")
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
            told.add(pid)  # which one that has become another user is not
            os.kill(pid, signal.SIGCONT)
    # As the first process of a container, the broker takes them along when it ends.
    if _run_on(told, until):
        _kill(told, log)


def _run_on(children: set[int], until: float) -> bool:
    """Wait until none of them runs. Return whether one does still."""
    while any(map(_is_child, children)):
        if time.monotonic() >= until:
            return True
        time.sleep(0.01)
    return False


def _kill(children: set[int], log: Callable[[str], None]) -> None:
    for pid in filter(_is_child, sorted(children)):
        log(f"Child process {pid} ({_name_of(pid)}) of the application did not end at SIGTERM and is killed.")
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    # What comes after this waits for some of them, without a bound.
    _run_on(children, time.monotonic() + GRACE)


def _end_multiprocessing(log: Callable[[str], None]) -> tuple[set[int], set[Any]]:
    """Return the processes that have been told to end, and those that need no more to be done."""
    pools = sys.modules.get("concurrent.futures.process")
    if pools is not None:
        # It tells the processes of each pool to end, and waits for their jobs.
        thread = threading.Thread(target=pools._python_exit, daemon=True)
        thread.start()
        thread.join(GRACE)
    told = set()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        for child in processes.active_children():
            if not child.daemon:
                log(f"Child process {child.pid} ({child.name}) of the application is ended with the broker.")
            child.terminate()
            told.add(child.pid)
    # These two end when the pipes that this process holds are closed.
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    over = {tracker and tracker._resource_tracker._pid, server and server._forkserver._forkserver_pid}
    return told, over


def _children_of_this_thread() -> set[int]:
    """Return what has started without Python's knowing: by uvloop, or by a library in C."""
    try:
        with open("/proc/thread-self/children", encoding="ascii") as file:
            return {int(pid) for pid in file.read().split()}
    except (OSError, ValueError):
        return set()  # a kernel without that


def _stat(pid: int) -> list[str]:
    """Return what /proc says of a process from its state on; nothing of one that is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_child(pid: int) -> bool:
    """Whether it runs, and is this process's."""
    state, parent, *_ = _stat(pid) or ("X", "0")
    return state not in "ZX" and int(parent) == os.getpid()


def _leads_session(pid: int) -> bool:
    return _stat(pid)[3:4] == [str(pid)]


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
