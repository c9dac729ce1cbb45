"""What the interpreter is prepared with: environment, import path, signals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, logging, os, signal, sys
sys.path.insert(0, {python!r}); sys.path.insert(0, {tests!r})
from fake_bridge import FakeBridge
from mqttasgi.runtime import interpreter, loop
bridge = FakeBridge()
options = bridge.options()
options["variables"] = [("FROM_FILE", "file"), ("FROM_BOTH", "file")]
options["python_path"] = "/first:/second"
lines = interpreter.prepare(bridge, options)
interpreter.leave_signals_to_broker(bridge, lines)
before = signal.getsignal(signal.SIGTERM)
print(sys.path[:2], os.environ["FROM_FILE"], os.environ["FROM_BOTH"])
print(signal.signal(signal.SIGTERM, lambda *_: None) is before, signal.getsignal(signal.SIGTERM) is before)
print(signal.alarm(1), signal.setitimer(signal.ITIMER_REAL, 1))
loop.new_event_loop("asyncio").add_signal_handler(signal.SIGTERM, lambda: None)
print(signal.getsignal(signal.SIGTERM) is before)
print(sum("signals are the broker's" in line for _, line in bridge.lines) >= 3)
"""


def test_signals_stay_the_brokers(tmp_path: Path) -> None:
    """In a process of its own, because what is prepared stays."""
    here = Path(__file__).parent
    program = PROGRAM.format(python=str(here.parent.parent / "python"), tests=str(here))
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FROM_BOTH": "environment"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stdout.splitlines() == [
        "['/first', '/second'] file environment",
        "True True",
        "0 (0.0, 0.0)",
        "True",
        "True",
    ], result.stderr
