"""`mqttasgi dead`: lists and shows dead letters, gives them to their consumers again, and drops them."""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from .. import dead
from .._properties import decode_properties
from .dead_file import DeadLetterError, DeadLetters, become_owner, find, is_broker_running
from .dead_line import take_limit, take_number, take_numbers, take_seconds
from .values import UsageError

#: How many are listed where nobody says.
_LIMIT = 100
#: So many bytes of a payload are shown, and so many of one that is not text.
_TEXT, _BINARY = 4096, 1024
#: The widest a column of the table gets.
_WIDEST = 40
#: Seconds between two looks at whether the broker has taken them.
_PAUSE = 0.2


def run(found: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> int:
    """Do what the command line says.

    Returns:
        The exit status.

    Raises:
        UsageError, DeadLetterError: It cannot be done.
    """
    do = {"list": _list, "show": _show, "replay": _replay, "drop": _drop}[found.verb]
    if found.verb == "show":
        found.number = take_number(found.id)
        if found.json and found.payload:
            raise UsageError("either --json or --payload, not both")
    elif found.verb == "list":
        found.limit = take_limit(found.limit, None if found.json else _LIMIT)
    else:
        found.numbers = take_numbers(found)
    if found.verb == "replay":
        found.wait = take_seconds(found.wait)
    place = find(found.file, environment, folder)
    become_owner(place)
    with DeadLetters(place, writes=found.verb in ("replay", "drop")) as letters:
        return do(letters, found)


# ---- list ----


def _list(letters: DeadLetters, found: argparse.Namespace) -> int:
    rows = letters.newest(found.consumer, found.limit)
    if found.json:
        print(json.dumps([_facts(row) for row in rows]))
        return 0
    if not rows:
        print(_none(letters, found.consumer))
        return 0
    print(_table(rows))
    count = letters.count(found.consumer)
    shown = f", the newest {len(rows):,} shown; --limit N shows more" if count > len(rows) else ""
    print(f"\n{_number_of(count)}{shown}.")
    return 0


def _none(letters: DeadLetters, consumer: Optional[str]) -> str:
    if consumer is None:
        return "There are no dead letters."
    others = [dead.printable(name) for name in letters.consumers()]
    hint = f" Others have some: {', '.join(others)}." if others else ""
    return f"There are no dead letters of consumer {dead.printable(consumer)}.{hint}"


def _number_of(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"


def _table(rows: Sequence[sqlite3.Row]) -> str:
    """Return a line for each, as wide as the terminal."""
    heads = ("ID", "DIED", "CONSUMER", "TOPIC", "TRIES", "REASON", "ERROR")
    lines = [heads, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    room = shutil.get_terminal_size((160, 24)).columns - sum(widths) - 2 * len(widths)
    shown = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths)]
        shown.append("  ".join([*cells, _cut(line[-1], max(room, 20))]).rstrip())
    return "\n".join(shown)


def _cells(row: sqlite3.Row) -> tuple[str, ...]:
    return (
        str(row["id"]),
        _local(row["died"]),
        _cut(dead.printable(row["consumer"]), _WIDEST),
        _cut(dead.printable(row["topic"]), _WIDEST),
        str(row["tries"]),
        dead.printable(row["reason"]) + (", replay asked for" if row["replay"] else ""),
        dead.printable(dead.error_line(row["traceback"])),
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _local(milliseconds: int) -> str:
    return dead.moment(milliseconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


# ---- show ----


def _show(letters: DeadLetters, found: argparse.Namespace) -> int:
    row = letters.one(found.number)
    if found.payload:
        sys.stdout.buffer.write(row["payload"])
        sys.stdout.buffer.flush()
    elif found.json:
        print(json.dumps({**_facts(row), **_contents(row)}))
    else:
        print("\n".join(_lines(row)))
    return 0


def _facts(row: sqlite3.Row) -> dict[str, Any]:
    """Return what the list has of one, for programs."""
    return {
        "id": row["id"],
        "died": dead.moment(row["died"]).isoformat(timespec="milliseconds"),
        "consumer": row["consumer"],
        "topic": row["topic"],
        "tries": row["tries"],
        "reason": row["reason"],
        "error": dead.error_line(row["traceback"]),
        "published": dead.moment(row["time"]).isoformat(timespec="milliseconds"),
        "qos": row["qos"],
        "retain": bool(row["retain"]),
        "replay": bool(row["replay"]),
    }


def _contents(row: sqlite3.Row) -> dict[str, Any]:
    payload: bytes = row["payload"]
    try:
        text: Optional[str] = payload.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "payload": text,
        "payload_base64": base64.b64encode(payload).decode(),
        "properties": {
            name: value.hex() if isinstance(value, bytes) else value for name, value in _properties(row)
        },
        "traceback": row["traceback"],
    }


def _properties(row: sqlite3.Row) -> Iterator[tuple[str, Any]]:
    try:
        yield from decode_properties(row["properties"]).items()
    except ValueError:
        yield "unknown", row["properties"]


def _lines(row: sqlite3.Row) -> Iterator[str]:
    """Return everything about one, for people."""
    reason = dead.REASONS.get(row["reason"])
    yield f"dead letter {row['id']}"
    for name, value in (
        ("died", _local(row["died"])),
        ("reason", dead.printable(row["reason"]) + (f": {reason}" if reason else "")),
        ("tries", row["tries"]),
        ("replay", "asked for; the broker has not taken it yet" if row["replay"] else "not asked for"),
        ("consumer", dead.printable(row["consumer"])),
        ("topic", dead.printable(row["topic"])),
        ("published", _local(row["time"])),
        ("QoS", row["qos"]),
        ("retain", "yes" if row["retain"] else "no"),
    ):
        yield f"  {name:<10} {value}"
    head = "properties"
    for name, value in _properties(row):
        pairs = value if name == "user_property" else [value]
        for each in pairs:
            yield f"  {head:<10} {name}: {_shown(each)}"
            head = ""
    yield ""
    yield from _payload_lines(row)
    if row["traceback"]:
        yield "\ntraceback\n"
        yield from _indented(dead.printable(row["traceback"].rstrip("\n"), keep="\n"))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " = ".join(map(dead.printable, value))
    return value.hex(" ") if isinstance(value, bytes) else dead.printable(str(value))


def _payload_lines(row: sqlite3.Row) -> Iterator[str]:
    payload: bytes = row["payload"]
    size = f"{len(payload):,} {'byte' if len(payload) == 1 else 'bytes'}"
    if not payload:
        yield "payload: none"
        return
    text = dead.as_text(payload[:_TEXT], len(payload) > _TEXT)
    limit = _BINARY if text is None else _TEXT
    shown = dead.hexadecimal(payload[:limit]) if text is None else text
    yield f"payload: {size}{', not text' if text is None else ''}\n"
    yield from _indented(shown)
    if len(payload) > limit:
        yield f"\n  These are the first {limit:,}; all: mqttasgi dead show {row['id']} --payload > FILE"


def _indented(text: str) -> list[str]:
    return [f"  {line}".rstrip() for line in text.split("\n")]


# ---- replay ----


def _replay(letters: DeadLetters, found: argparse.Namespace) -> int:
    asked = letters.replay(found.numbers, found.consumer)
    if not asked:
        print(_none(letters, found.consumer))
        return 0
    is_running = is_broker_running(letters.place.inbox)
    left = set(asked)
    if is_running is not False:
        left = _wait(letters, left, found.wait)
    gone = [number for number in asked if number not in left]
    # The broker gives up the wish for a row that is no message, of an empty topic say, and leaves the row.
    refused = sorted(letters.ids().intersection(gone)) if gone else []
    taken = sorted(set(gone).difference(refused))
    if taken:
        print(f"The broker has taken {_named(taken)}. Consumers handle them after what waits already.")
    if refused:
        print(f"The broker has refused {_named(refused)}, as its log says: a row is no message any more.")
    if not left:
        return 1 if refused else 0
    waiting = _named(sorted(left))
    if is_running is None:
        print(
            f"A broker that has {letters.place.inbox} open takes {waiting} within a few seconds, else the "
            "next one when it starts. `mqttasgi dead list` shows what has not been taken."
        )
        return 0
    if not is_running:
        print(f"No broker has {letters.place.inbox} open. The next one takes {waiting} when it starts.")
        return 0
    print(
        f"The broker has not taken {waiting} within {found.wait:g} seconds. It will as soon as it can; where "
        "it cannot, its log says why. `mqttasgi dead list` shows what is left."
    )
    return 1


def _wait(letters: DeadLetters, left: set[int], seconds: float) -> set[int]:
    """Return those of them that the broker has not taken by then."""
    deadline = time.monotonic() + seconds
    while True:
        left = left & letters.waiting()
        pause = min(_PAUSE, deadline - time.monotonic())
        if not left or pause <= 0:
            return left
        time.sleep(pause)


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) > 10:
        return _number_of(len(numbers))
    return f"{'dead letter' if len(numbers) == 1 else 'dead letters'} {', '.join(map(str, numbers))}"


# ---- drop ----


def _drop(letters: DeadLetters, found: argparse.Namespace) -> int:
    if found.numbers is None and not found.yes and not _is_confirmed(letters, found.consumer):
        raise DeadLetterError("nothing was dropped")
    dropped = letters.drop(found.numbers, found.consumer)
    print(f"Dropped {_named(dropped)}." if dropped else _none(letters, found.consumer))
    return 0


def _is_confirmed(letters: DeadLetters, consumer: Optional[str]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; --all --yes drops without a question")
    count = letters.count(consumer)
    whose = "" if consumer is None else f" of consumer {dead.printable(consumer)}"
    if count == 0:
        return True
    print(f"Drop {_number_of(count)}{whose}? Nothing brings them back. [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
