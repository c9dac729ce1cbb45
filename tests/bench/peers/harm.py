"""Does the harm of the chaos test: `harm.py PORT BROKER_PID SEED`.

Each line on stdin is a word, answered with `done` on stdout: `settle` (wait until every consumer answers), `go`,
`pause`, `end`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.chaos import Chaos, settle
from support.client import Client


class Target:
    """The broker, from outside."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid

    def client(self, **arguments: Any) -> Client:
        """Return a new client that is connected."""
        return Client(self._port, **arguments)

    def reload(self) -> None:
        """Make the broker read its configuration file again."""
        os.kill(self._pid, signal.SIGHUP)


def main() -> None:
    """Obey until the end of stdin."""
    port, pid, seed = map(int, sys.argv[1:])
    target = Target(port, pid)
    client = target.client()
    client.subscribe("chaos/done", qos=1)
    chaos = Chaos(target, seed)
    try:
        for line in sys.stdin:
            word = line.strip()
            if word == "settle":
                settle(client)
            elif word == "end":
                break
            else:
                chaos.let(word == "go")
            print("done", flush=True)
    finally:
        chaos.end()
    print("done", flush=True)
    client.close()


main()
