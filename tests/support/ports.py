"""TCP ports for what the tests start, each given to one process of the machine's tests. Linux only."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_LOWEST = 10000
_BLOCK = 100
"""How many ports a process takes for itself. A test needs a handful, so none comes round again while it runs."""


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on, and that no other test is given.

    It is none of those that the kernel gives to connections: one of them could take it before a broker does, or while
    a broker restarts.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _of_this_process() -> Iterator[int]:
    """Take a block of ports for as long as this process lives, and yield them round and round.

    What marks it as taken is an abstract Unix socket: only one process can bind it, wherever its files are, and the
    kernel gives it back. It is seen where the ports are, in the network namespace.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    beginnings = list(range(_LOWEST, below - _BLOCK + 1, _BLOCK)) or list(range(_LOWEST, 60000, _BLOCK))
    random.shuffle(beginnings)
    with socket.socket(socket.AF_UNIX) as taken:
        for beginning in beginnings:
            with contextlib.suppress(OSError):
                taken.bind(f"\0mqttasgi-tests-ports-{beginning}")
                break
        else:
            raise RuntimeError(
                f"all {len(beginnings)} blocks of ports from {_LOWEST} on are taken: end other runs of the tests"
            )
        while True:
            yield from range(beginning, beginning + _BLOCK)


_ports = _of_this_process()
