"""Pages as a reader uses them: their code blocks in order, each with what he does with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from support.machine import Machine, Terminal

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 600
"""For what installs, builds and starts something."""


@dataclass
class Reader:
    """Somebody with a page in front of him and a machine.

    Attributes:
        terminals: Those that something goes on in, by the name that a step gave them.
    """

    machine: Machine
    terminals: dict[str, Terminal] = field(default_factory=dict)


Action = Callable[[Reader, str], None]


@dataclass
class Step:
    """What is done with one block.

    Attributes:
        begins: How the block begins, so that a changed page is noticed.
    """

    begins: str
    action: Action


def blocks(page: str) -> list[str]:
    """Return the fenced code blocks of a page of the repository, in order."""
    text = (ROOT / page).read_text()
    return [
        match.group(2) + "\n"
        for match in re.finditer(r"^```(\w*)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    ]


def follow(page: str, steps: Sequence[Step], reader: Reader) -> None:
    """Do with each block of a page what its step says.

    Raises:
        AssertionError: A block has no step, a step no block, or something does not work as the page says.
    """
    found = blocks(page)
    for number, block in enumerate(found):
        assert number < len(steps), f"{page}: nothing is said about the block that begins with\n{block[:200]}"
        step = steps[number]
        assert block.startswith(step.begins), (
            f"{page}: expected a block that begins with {step.begins!r}, found\n{block[:200]}"
        )
        try:
            step.action(reader, block)
        except AssertionError as error:
            raise AssertionError(f"{page}, at the block that begins with {step.begins!r}: {error}") from error
    assert len(found) == len(steps), f"{page}: no block begins with {steps[len(found)].begins!r}"


def shown(reader: Reader, block: str) -> None:
    """Nothing: a picture, or what something prints."""


def paste(*expected: str) -> Action:
    """Paste the block; each regular expression must be in what it prints."""

    def action(reader: Reader, block: str) -> None:
        printed = reader.machine.run(block, START_SECONDS)
        for pattern in expected:
            assert re.search(pattern, printed), f"{pattern!r} is not in\n{printed[-3000:]}"

    return action


def replacing(old: str, new: str, action: Action) -> Action:
    """Do it with what the reader puts in the place of something."""

    def replaced(reader: Reader, block: str) -> None:
        assert old in block, f"{old!r} is not in the block"
        action(reader, block.replace(old, new))

    return replaced


def keep_open(name: str, ready: str = "") -> Action:
    """Paste the block into a terminal where it goes on; wait until that shows the regular expression."""

    def action(reader: Reader, block: str) -> None:
        reader.terminals[name] = reader.machine.open_terminal(block)
        if ready:
            reader.terminals[name].wait_for(ready, START_SECONDS)

    return action


def paste_and_see(name: str, pattern: str) -> Action:
    """Paste the block until the terminal of that name shows the regular expression.

    What listens in a terminal may not be connected yet when the first message is sent.
    """

    def action(reader: Reader, block: str) -> None:
        terminal = reader.terminals[name]
        for _ in range(30):
            reader.machine.run(block)
            try:
                terminal.wait_for(pattern, 1)
                return
            except AssertionError:
                continue
        raise AssertionError(f"{pattern!r} did not come:\n{terminal.printed[-2000:]}")

    return action


def follow_comments(name: str, *silent: str) -> Action:
    """Paste line by line. A comment is what the terminal of that name shows after it, but for those given."""

    def action(reader: Reader, block: str) -> None:
        terminal = reader.terminals[name]
        since = len(terminal.printed)
        for line in block.splitlines():
            entered, _, comment = line.partition("#") if " -t " not in line else line.partition(" #")
            if entered.strip():
                since = len(terminal.printed)
                reader.machine.run(entered)
            if comment.strip() and comment.strip() not in silent:
                terminal.wait_for(re.escape(comment.strip()), 60, since)

    return action


def then(*actions: Action) -> Action:
    """Do one after the other with the block."""

    def action(reader: Reader, block: str) -> None:
        for each in actions:
            each(reader, block)

    return action


def close(*names: str) -> Action:
    """Press Ctrl-C in these terminals."""

    def action(reader: Reader, block: str) -> None:
        for name in names:
            reader.terminals.pop(name).interrupt()

    return action


def command(text: str, *expected: str) -> Action:
    """Enter something that the text around the block says."""

    def action(reader: Reader, block: str) -> None:
        paste(*expected)(reader, text)

    return action


def save(path: str) -> Action:
    """Make a file of the block."""

    def action(reader: Reader, block: str) -> None:
        reader.machine.write(path, block)

    return action
