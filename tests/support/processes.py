"""What the tests need to know about processes of this machine. Linux only: it reads `/proc`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable

SANITIZER = os.environ.get("MQTTASGI_SANITIZER", "")
"""Which sanitizer the plugin was built with: `address` (with undefined), `thread`, or empty for none."""

PATIENCE = {"": 3.0, "address": 6.0, "thread": 10.0}.get(SANITIZER, 6.0)
"""Every time limit is multiplied by this: machines are busy, and sanitized code is slow."""


def wait_until(
    condition: Callable[[], bool],
    timeout: float,
    what: str = "the condition",
    detail: Callable[[], str] | None = None,
) -> None:
    """Return as soon as `condition()` holds.

    Args:
        condition: Called every few milliseconds. What it raises is passed on.
        timeout: Seconds to wait, before `PATIENCE`.
        what: Named in the failure.
        detail: Gives more text for the failure.

    Raises:
        AssertionError: The time passed and it still does not hold.
    """
    limit = timeout * PATIENCE
    deadline = time.monotonic() + limit
    pause = 0.002
    while not condition():
        if time.monotonic() > deadline:
            more = f"\n{detail()}" if detail is not None else ""
            raise AssertionError(f"{what} did not come within {limit:.1f} s{more}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def running(pid: int) -> bool:
    """Tell whether process `pid` exists and is not a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def tagged(variable: str, value: str) -> list[int]:
    """Return the processes that were started with `variable=value` in their environment.

    A child keeps its parent's environment even when the parent has ended and the child belongs to init by then, so
    this finds what a process left behind. Zombies are not counted: they wait for somebody else's attention.
    """
    wanted = f"{variable}={value}".encode()
    found = []
    unread = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    # In the middle of exec() the kernel shows an empty environment, although whoever started the program has gone on
    # already. A program without any environment looks the same, so this looks again a few times only.
    for _ in range(5):
        empty = []
        for pid in unread:
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0") and pid != os.getpid() and running(pid):
                found.append(pid)
            elif not environment and os.path.exists(f"/proc/{pid}/exe"):
                empty.append(pid)
        if not empty:
            break
        unread = empty
        time.sleep(0.005)
    return found
