"""The log of a process: lines on standard error, and the last of them for pages."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque

#: Lines that are kept for pages, and characters of each.
KEPT, KEPT_LENGTH = 1000, 1024
#: Mosquitto's levels.
ERR, WARNING, NOTICE, INFO, DEBUG = 8, 4, 2, 1, 16


class Log:
    """Writes lines. Any thread."""

    def __init__(self, process: int, processes: int, verbosity: int) -> None:
        """Take which process of how many this is, and the option `verbosity`."""
        self._prefix = f"mqttasgi[{process}]: " if processes > 1 else "mqttasgi: "
        self._shows_debug = verbosity >= 2
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, float, int, str]] = deque(maxlen=KEPT)
        self._last = 0

    def write(self, level: int, line: str) -> None:
        """Write a line with the time and the process; lines within it are lines of their own."""
        if level == DEBUG and not self._shows_debug:
            return
        now = time.time()
        # UTC: Django sets the time zone of the process, and a fleet may be in several.
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        text = "".join(f"{stamp}: {self._prefix}{part}\n" for part in line.splitlines() or [""])
        with self._lock:
            self._last += 1
            self._kept.append((self._last, now, level, line[:KEPT_LENGTH]))
            try:
                # In one call: other processes write to the same place.
                sys.stderr.write(text)
                sys.stderr.flush()
            except (OSError, ValueError):
                pass  # nobody reads it any more; the consumers go on

    def error(self, line: str) -> None:
        """Write an error."""
        self.write(ERR, line)

    def warning(self, line: str) -> None:
        """Write a warning."""
        self.write(WARNING, line)

    def notice(self, line: str) -> None:
        """Write what an administrator wants to know in any case."""
        self.write(NOTICE, line)

    def lines(self, after: int) -> list[tuple[int, float, int, str]]:
        """Return what is kept behind the line with this number, as `Bridge.log_lines` does."""
        with self._lock:
            return [line for line in self._kept if line[0] > after]

    @property
    def last(self) -> int:
        """The number of the last line; 0: there is none."""
        return self._last
