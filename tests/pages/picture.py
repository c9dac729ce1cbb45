#!/usr/bin/env python3
"""Draws docs/running.svg from a real run of the project that docs/first-steps.md makes.

In that project's folder, with port 1883 free:  .../tests/pages/picture.py >.../docs/running.svg
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

CODE = "cat mysite/consumers.py"
START = "mqttasgi mysite.asgi:application"
WATCH = "mosquitto_sub -t 'home/lights/#' -v"
MOTION = "mosquitto_pub -t home/sensor/motion -m"
STATUS = "mqttasgi status"
ROOMS = ("kitchen", "hall", "bath", "living")
MESSAGES = 20_000
"""That pass through the consumer before the numbers are printed."""

COLUMN, LINE, MARGIN, BAR, GAP = 7.25, 17, 14, 28, 14  # pixels


@contextlib.contextmanager
def going_on(command: str) -> Iterator[list[str]]:
    """Run a command beside others. Yields the lines that it has printed, which are complete when it has ended."""
    process = subprocess.Popen(
        ["stdbuf", "-oL", "sh", "-c", f"PATH=venv/bin:$PATH exec {command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    try:
        time.sleep(5)
        yield lines
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=30)
        lines += printed.splitlines()


def run(command: str, text: str = "") -> list[str]:
    """Return the lines that a command prints."""
    return subprocess.run(
        ["sh", "-c", command], input=text, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()


@dataclass
class Terminals:
    """What each terminal shows.

    Attributes:
        code: The consumer.
        broker: Its log until the numbers are printed.
        devices: Motion, and what the consumer answers.
        numbers: `mqttasgi status`.
    """

    code: list[str]
    broker: list[str]
    devices: list[str]
    numbers: list[str]


def record() -> Terminals:
    """Start the broker, send it messages, ask it for its numbers."""
    devices = []
    with going_on(START) as broker:
        with going_on(WATCH) as lights:
            for room in ROOMS:
                run(f"{MOTION} {room}")
        for room, light in zip(ROOMS, lights):
            devices += [f"$ {MOTION} {room}", light]
        run("mosquitto_pub -q 1 -t home/sensor/motion -l", "kitchen\n" * MESSAGES)
        time.sleep(11)  # the numbers are published every ten seconds
        numbers = [f"$ {STATUS}", *run(f"venv/bin/{STATUS}")]
    log = [line for line in broker if "terminating" not in line]
    return Terminals([f"$ {CODE}", *run(CODE)], [f"$ {START}", *log], devices, numbers)


def window(x: float, y: float, columns: float, title: str, lines: Sequence[str]) -> tuple[str, float]:
    """Draw a terminal, with longer lines folded. Return it and its lower edge."""
    folded = [
        part
        for line in lines
        for part in (wrap(line, int(columns), subsequent_indent="    ") if len(line) > columns else [line])
    ]
    width, height = columns * COLUMN + 2 * MARGIN, len(folded) * LINE + BAR + MARGIN
    drawn = [
        f'<g transform="translate({x:g} {y:g})">',
        f'<rect class="w" width="{width:g}" height="{height:g}" rx="8"/>',
        *(f'<circle cx="{MARGIN + 4 + 16 * i}" cy="14" r="5" class="b{i}"/>' for i in range(3)),
        f'<text class="t" x="{width / 2:g}" y="18" text-anchor="middle">{title}</text>',
    ]
    for number, line in enumerate(folded):
        kind = ' class="c"' if line.startswith("$ ") else ""
        shown = escape(line, quote=False)
        drawn.append(f'<text x="{MARGIN}" y="{BAR + LINE * number + 13}"{kind}>{shown}</text>')
    return "\n".join([*drawn, "</g>"]), y + height


def picture(terminals: Terminals) -> str:
    """Return the SVG: on the left the consumer and what it does, on the right the numbers, the broker above."""
    right = max(len(line) for line in terminals.numbers)
    left = max(len(line) for line in terminals.devices + terminals.code)
    offset = left * COLUMN + 2 * MARGIN + GAP
    width = offset + right * COLUMN + 2 * MARGIN
    whole = (width - 2 * MARGIN) / COLUMN
    broker, edge = window(0, 0, whole, "the broker", terminals.broker)
    code, below = window(0, edge + GAP, left, "the consumer", terminals.code)
    devices, _ = window(0, below + GAP, left, "motion and lights", terminals.devices)
    numbers, below = window(offset, edge + GAP, right, "the numbers", terminals.numbers)
    windows = "\n".join([broker, code, devices, numbers])
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="-1 -1 {width + 2:g} {below + 2:g}">
<!-- Drawn from a real run by tests/pages/picture.py. -->
<style>
text {{ font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre }}
.w {{ fill: #20242c; stroke: #4c566a }} .c {{ fill: #a3be8c; font-weight: bold }}
.t {{ fill: #81899a }} .b0 {{ fill: #bf616a }} .b1 {{ fill: #ebcb8b }} .b2 {{ fill: #a3be8c }}
</style>
{windows}
</svg>
"""


if __name__ == "__main__":
    sys.stdout.write(picture(record()))
