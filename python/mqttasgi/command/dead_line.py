"""The command line of `mqttasgi dead` as it is parsed, and its `--help`."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Optional

from .command_line import Parser, formatter
from .values import UsageError, quote

#: What can be done with dead letters, and with which exit status that ends.
VERBS = {
    "list": (
        "print a table of dead letters, the newest first",
        "Exit status 0, even if there are none; 1 if the file cannot be read.",
    ),
    "show": (
        "print everything about one dead letter",
        "Exit status 0; 1 if there is no such dead letter or the file cannot be read.",
    ),
    "replay": (
        "give dead letters to their consumers once more",
        "Exit status 0 if the broker has taken them, or will when it starts; 1 if it runs and has not taken "
        "all of them in time, if one of them does not exist (then none is replayed) or if the file cannot be "
        "written.",
    ),
    "drop": (
        "delete dead letters",
        "Exit status 0; 1 if one of them does not exist (then none is dropped), if you say no or if the file "
        "cannot be written.",
    ),
}
#: An id is a rowid of SQLite's.
_MOST = 2**63 - 1


def verb_of(words: Sequence[str], is_typed: bool = False) -> Optional[str]:
    """Return what is to be done; None where that is not said, but asked.

    Args:
        words: Those behind `dead`.
        is_typed: Whether somebody is about to say it.

    Raises:
        UsageError: It is nothing that can be done.
    """
    verb = words[0] if words and not words[0].startswith("-") else None
    if is_typed:
        return verb if verb in VERBS else None
    if verb is None and not {"-h", "--help"} & set(words):
        raise UsageError(f"dead: what is to be done comes first, {', '.join(VERBS)}; --help says more")
    if verb is not None and verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"did you mean {close[0]}?" if close else f"it is one of {', '.join(VERBS)}"
        raise UsageError(f"dead: {quote(verb)} is unknown, {hint}")
    return verb


def dead_parser(prog: str, verb: Optional[str]) -> Parser:
    """Return the parser of `dead`, one of `VERBS`, and what follows.

    Args:
        prog: How the command is called.
        verb: None where it has not been said yet.
    """
    usages = {name: f"{prog} dead {name} {_USAGE[name]}" for name in VERBS}
    made = Parser(
        prog=prog,
        usage=usages[verb] if verb else "\n       ".join(usages.values()),
        description=(f"{VERBS[verb][0].capitalize()}. " if verb else "")
        + "Dead letters are messages of the durable inbox that their consumers could not handle.",
        epilog="Without --file, the environment variable MQTTASGI_DURABLE, the .env file or "
        "/etc/mosquitto/mosquitto.conf says where the inbox is. Root becomes the file's owner first. "
        f"{VERBS[verb][1] if verb else ''}",
        formatter_class=formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("command", choices=["dead"], metavar="dead", help=argparse.SUPPRESS)
    if verb is None:
        group = made.add_argument_group("what is to be done")
        group.add_argument(
            "verb",
            nargs="?",
            choices=list(VERBS),
            metavar="list, show, replay or drop",
            help="; ".join(f"{name}: {text}" for name, (text, _) in VERBS.items()),
        )
    else:
        made.add_argument("verb", choices=[verb], metavar=verb, help=argparse.SUPPRESS)
    group = made.add_argument_group("which of them")
    if verb == "show":
        group.add_argument("id", metavar="ID", nargs="?", help="its number in the list")
    elif verb in ("replay", "drop"):
        group.add_argument("ids", metavar="ID", nargs="*", help="their numbers in the list")
        group.add_argument("--all", action="store_true", help="all there are, in place of numbers")
    if verb in ("list", "replay", "drop"):
        text = "only those of this consumer" if verb == "list" else "with --all: only those of this consumer"
        group.add_argument("--consumer", metavar="NAME", help=f"{text}, as the list has its name")
    group.add_argument("--file", metavar="FILE", help="their file, or the inbox that option durable names")
    _add_manner(made.add_argument_group("how"), verb)
    return made


_USAGE = {
    "list": "[--consumer NAME] [--limit N] [--json] [--file FILE]",
    "show": "ID [--json | --payload] [--file FILE]",
    "replay": "ID ... | --all [--consumer NAME] [--wait SECONDS] [--file FILE]",
    "drop": "ID ... | --all [--consumer NAME] [--yes] [--file FILE]",
}


def _add_manner(group: argparse._ArgumentGroup, verb: Optional[str]) -> None:
    if verb == "list":
        group.add_argument("--limit", metavar="N", help="the newest N; else 100, and with --json all")
        group.add_argument("--json", action="store_true", help="an array of objects, without payloads")
    elif verb == "show":
        group.add_argument("--json", action="store_true", help="an object, with the whole payload")
        group.add_argument("--payload", action="store_true", help="the payload's bytes and nothing else")
    elif verb == "replay":
        group.add_argument(
            "--wait",
            metavar="SECONDS",
            default="5",
            help="how long a broker that runs may take to take them; default 5",
        )
    elif verb == "drop":
        group.add_argument("--yes", action="store_true", help="do not ask before all are deleted")
    group.add_argument("-h", "--help", dest="help", action="store_true", help="print this")


# ---- what follows from it ----


def take_number(text: Optional[str]) -> int:
    """Return the number of a dead letter.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        raise UsageError("which one? Give its number, as in: mqttasgi dead show 3")
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 1 <= int(text) <= _MOST:
        raise UsageError(f"{quote(text)} is not the number of a dead letter; `mqttasgi dead list` shows them")
    return int(text)


def take_numbers(found: argparse.Namespace) -> Optional[list[int]]:
    """Return which dead letters are meant; None for all.

    Raises:
        UsageError: None are, or both.
    """
    if found.all and found.ids:
        raise UsageError("either numbers of dead letters or --all, not both")
    if found.consumer is not None and not found.all:
        raise UsageError("--consumer goes with --all, and picks from all those of one consumer")
    if not found.all and not found.ids:
        raise UsageError(f"which ones? Give their numbers, as in: mqttasgi dead {found.verb} 3 4, or --all")
    return None if found.all else [take_number(text) for text in found.ids]


def take_limit(text: Optional[str], default: Optional[int]) -> Optional[int]:
    """Return how many are to be listed.

    Raises:
        UsageError: It is no such number.
    """
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise UsageError(f"argument --limit: {quote(text)} is not a number from 1 to 999999999")
    return int(text)


def take_seconds(text: str) -> float:
    """Return how long to wait.

    Raises:
        UsageError: It is no such number.
    """
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or float(text) > 3600:
        raise UsageError(f"argument --wait: {quote(text)} is not a number of seconds from 0 to 3600")
    return float(text)
