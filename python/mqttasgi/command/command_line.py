"""The command line as it is parsed, and its `--help`."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from .option_table import APPLICATION, CONNECT, EXTRAS, PARAMETERS, STATUS, WEB, Option
from .values import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence, and which takes mqttasgi's parameters abbreviated."""

    def parse_known_args(  # type: ignore[override]
        self, args: Optional[Sequence[str]] = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._written_out(word) for word in words], namespace)

    def _written_out(self, word: str) -> str:
        """As mqttasgi takes it: by its parameters alone, so that a new one of ours makes none ambiguous."""
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"--[a-z][a-z-]*", name) or name in self._option_string_actions:
            return word
        meant = [
            flag
            for option in PARAMETERS
            for flag in option.flags
            if flag.startswith(name) and flag in self._option_string_actions
        ]
        return f"{meant[0]}{equals}{value}" if len(meant) == 1 else word

    def error(self, message: str) -> NoReturn:
        raise UsageError(self._sentence(message))

    def _sentence(self, message: str) -> str:
        missing = re.fullmatch(r"argument (\S+): expected one argument", message)
        if missing:
            flag = missing[1].split("/")[-1]
            return f"argument {missing[1]}: has no value; one that begins with - is written {flag}=VALUE"
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message)
        if unknown:
            word = unknown[1].split()[0].partition("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            longer = [flag for flag in known if word.startswith("--") and flag.startswith(word)]
            if len(longer) > 1:
                return f"{word} may be {' or '.join(longer)}; write it out"
            names = {flag.lstrip("-"): flag for flag in known}
            close = difflib.get_close_matches(word.lstrip("-"), names, 1) if word.startswith("-") else []
            if longer or close:
                return f"unknown argument {word}, did you mean {longer[0] if longer else names[close[0]]}?"
            if word.startswith("-"):
                return f"unknown argument {word}; --help lists all"
            is_start = any(action.dest == "application" for action in self._actions)
            return f"{word} is one word too many" + (" after the application" if is_start else "")
        return message


class _Joined(argparse.Action):
    """Several values of an argument that is repeated, with commas between them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, f"{before},{values}" if before else values)


def parser(prog: str) -> Parser:
    """Return the parser of the command line; texts are checked later, with those from elsewhere."""
    made = Parser(
        prog=prog,
        usage=f"{prog} [option ...] [package.module:name]\n       {prog} status [option ...]\n"
        f"       {prog} dead list|show|replay|drop [option ...]\n       {prog} startproject NAME",
        description="Starts Mosquitto with an ASGI application inside: Django Channels consumers that hear "
        "and publish MQTT messages without a connection in between.",
        epilog="Every option can also come from an environment variable (in brackets) or from a line in a "
        ".env file in this folder; the first of argument, environment and .env wins. "
        f"{prog} status prints the numbers of a broker that runs: {prog} status --help. "
        f"{prog} dead is about messages that their consumers could not handle: {prog} dead --help. "
        f"{prog} startproject NAME makes a Django project that runs as it is.",
        formatter_class=formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("application", nargs="?", metavar="package.module:name", help=_help(APPLICATION))
    group = made.add_argument_group("broker and application, as with mqttasgi")
    for option in PARAMETERS:
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=_help(option))
    group = made.add_argument_group("HTTP and WebSockets of the same application")
    for option in WEB:
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=_help(option))
    group = made.add_argument_group("a broker elsewhere, in whose place none is started here")
    for option in CONNECT:
        action = _Joined if option.name == "connect" else "store"
        group.add_argument(
            *option.flags, dest=option.name, metavar=option.metavar, help=_help(option), action=action
        )
    group = made.add_argument_group("more about the broker")
    for option in EXTRAS:
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=_help(option))
    group.add_argument(
        "-o",
        "--option",
        dest="plugin_options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a plugin_opt_ line for the plugin, such as spin=0; may be repeated",
    )
    group = made.add_argument_group("instead of starting the broker")
    actions = group.add_mutually_exclusive_group()
    for name, text in (
        ("print-config", "print the mosquitto.conf that does the same in a system service"),
        ("check", "import the application, check every option and the broker's configuration; exit 0 or 1"),
        ("reload", "for development: start the broker, and again whenever a Python file changes"),
        ("version", "print the versions of plugin, Mosquitto, Python, Django and Channels"),
        ("help", "print this"),
    ):
        flags = ("-h", "--help") if name == "help" else (f"--{name}",)
        actions.add_argument(*flags, dest="action", action="store_const", const=name, help=text)
    return made


def status_parser(prog: str) -> Parser:
    """Return the parser of `status` and what follows it."""
    made = Parser(
        prog=prog,
        usage=f"{prog} status [option ...]",
        description="Connects to a broker with the plugin and prints what the plugin counts: messages, "
        "queues, consumers, times.",
        epilog="Where an option is not given, the environment variable and the .env file say where the "
        "broker is, as they do when it is started. Exit status 1 where there is nothing to print.",
        formatter_class=formatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("command", choices=["status"], metavar="status", help=argparse.SUPPRESS)
    group = made.add_argument_group("the broker")
    for option in STATUS:
        text = _help(option, option.status)
        group.add_argument(*option.flags, dest=option.name, metavar=option.metavar, help=text)
    group = made.add_argument_group("what is printed")
    group.add_argument("--json", action="store_true", help="one JSON object, by the names of the topics")
    group.add_argument("--watch", action="store_true", help="again whenever there is news, until Ctrl-C")
    group.add_argument("-h", "--help", dest="help", action="store_true", help="print this")
    return made


def formatter(prog: str) -> argparse.HelpFormatter:
    """Return how `--help` is laid out."""
    return argparse.HelpFormatter(prog, max_help_position=30, width=100)


def _help(option: Option, text: str = "") -> str:
    default = "" if option.default in (None, False, "") else f", default {str(option.default).lower()}"
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text or option.help).replace("`", "")
    return f"{plain} [{option.variable}{default}]".replace("%", "%%")
