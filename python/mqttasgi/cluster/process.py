"""One process of `mqttasgi --connect`: the application, with the runtime and a connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Callable, NoReturn, Optional

from ..runtime import interpreter, service
from .bridge import ClusterBridge
from .dead_letters import DeadLettersError
from .lease import IsLeader, Leader, make
from .log import Log
from .settings import FAILED, Settings


def run(settings: Settings, parent: int) -> int:
    """Run the application until the parent says so, or there is no parent any more.

    Args:
        settings: What this process is.
        parent: A descriptor that is readable when the parent has ended.

    Returns:
        The exit status: 0 where it was told to end.
    """
    options: Any = settings.options
    log = Log(settings.process, settings.processes, options["verbosity"])
    try:
        bridge = ClusterBridge(settings, log)
    except (DeadLettersError, ValueError) as error:
        log.error(f"{error}")
        return FAILED
    # Ctrl-C is for the parent, which tells its processes in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Until it is heeded, it must not end the process.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    lines = interpreter.prepare(bridge, options)
    leader: Optional[Leader] = None

    def begin(made: service.Service, start: Callable[[], None]) -> None:
        nonlocal leader
        try:
            # The application has been imported, and Django's settings with it.
            leader = make(settings.leader, settings.group)
        except ValueError as error:
            log.error(f"{error}")
            made.finish()
            return
        made.master_may_fail = made.leaves_what_waits = True
        made.scope = _scope(settings, leader, log)
        made.durable.witness = bridge.at_work
        loop = made.loop
        loop.add_signal_handler(signal.SIGTERM, bridge.stop)
        loop.add_signal_handler(signal.SIGUSR2, bridge.retire)
        loop.add_signal_handler(signal.SIGUSR1, bridge.say_statistics)
        loop.add_reader(parent, _parent_has_ended, loop, parent, bridge)
        if leader is not None:
            leader.start()
        bridge.open(loop, start, lambda: _tell(settings.ready), made.finish)

    service.host(bridge, options, lines, begin)
    if options["check"]:
        return 0 if _check(settings, bridge, log) else FAILED
    if leader is not None:
        leader.stop()
    with contextlib.suppress(RuntimeError):
        asyncio.get_event_loop().run_until_complete(bridge.close())
    return 0 if bridge.was_stopped else FAILED


def _check(settings: Settings, bridge: ClusterBridge, log: Log) -> bool:
    """Connect, after the application has been imported; print what is well, as the log says what is not."""
    if not bridge.has_started:
        return False
    print(f"{'ok':<8}application {settings.application}, imported")
    try:
        make(settings.leader, settings.group)
    except ValueError as error:
        log.error(f"{error}")
        return False
    loop = asyncio.get_event_loop()
    bridge.open(loop, loop.stop, loop.stop, loop.stop)
    loop.run_forever()
    if not bridge.has_failed:
        loop.run_until_complete(bridge.close())
        print(f"{'ok':<8}connection to {bridge.address}")
    return not bridge.has_failed


def _scope(settings: Settings, leader: Optional[Leader], log: Log) -> dict[str, Any]:
    """Return what the scope of every consumer says of this process."""
    is_leader: Any = not settings.group
    if leader is not None:
        is_leader = IsLeader(leader)
    elif settings.group and settings.process == 0:
        log.notice(
            f"No process of the group {settings.group!r} leads: scope['is_leader'] is false in all of them, "
            "until --leader says where they agree on one (database, or redis://host:6379/0)."
        )
    return {"process": settings.process, "processes": settings.processes, "is_leader": is_leader}


def _tell(ready: int) -> None:
    """Tell the parent that consumers run."""
    with contextlib.suppress(OSError):
        os.write(ready, b"1")


def _parent_has_ended(loop: asyncio.AbstractEventLoop, parent: int, bridge: ClusterBridge) -> None:
    if not os.read(parent, 1):
        loop.remove_reader(parent)
        bridge.stop()


def _outlives(parent: int, seconds: float) -> None:
    """End the process so long after its parent, if a consumer blocks the loop. A thread's."""
    poll = select.poll()
    poll.register(parent, 0)  # which tells its end, and nothing else
    poll.poll()
    time.sleep(seconds)
    os._exit(FAILED)


def main() -> NoReturn:
    """Read the settings from standard input, which stays open as long as the parent lives, run, and end."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the parent waits for signals, and blocks them
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # so that nothing is read beyond the line
        line = stdin.readline()
    parent = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    settings = Settings.from_json(line.decode())
    threading.Thread(target=_outlives, args=(parent, settings.patience), daemon=True).start()
    status = run(settings, parent)
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread of the application that hangs, in a query for example, would keep the process from ending.
    os._exit(status)
