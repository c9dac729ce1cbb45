"""Reads the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path

import needs
import product
from contenders import ALL, COMPARED
from overview import SELECTIONS
from product import PARTS
from scenarios import SCENARIOS
from settings import NEWEST, PRODUCT, Settings

DESCRIPTION = """\
Measures the plugin as it is installed by default, clients in C and Python and the original mqttasgi against each
other on this machine. First it says what is not built or installed, and makes it: below build/bench, but for Debian's
packages.

What to measure:
{scenarios}

Contenders of compare (* by default):
{contenders}

Everything is built, installed and written under build/bench. Figures of a shared machine mean little by themselves:
read the ratios, which compare measurements of the same round, and their spread.
"""


def parse(words: list[str]) -> argparse.Namespace:
    """Return the arguments. Ends the program where they are wrong."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.for_page:
        if arguments.scenario not in ("overview", "page"):
            parser.error(f"--for-page measures all that the page holds, not {arguments.scenario}")
        arguments.scenario = "page"
        if arguments.plugin or arguments.plugin_opt or arguments.broker_line or arguments.contenders:
            parser.error("--for-page measures the plugin of this checkout with its default options")
    if arguments.suite:
        if not re.fullmatch("[a-z]+", arguments.suite):
            parser.error(f"{arguments.suite} is not the name of a release")
        if arguments.plugin or arguments.against or arguments.json or arguments.scenario == "builds":
            parser.error("--plugin, --against and --json name files of this machine: not with --suite")
    return arguments


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return what was said; what was left open, and a scenario or selection has its own default for, is 0 or empty."""
    selection = SELECTIONS.get(arguments.scenario)
    rounds, seconds = (selection.rounds, selection.seconds) if selection else (3, 5.0)
    return Settings(
        plugin=arguments.plugin.resolve() if arguments.plugin else PRODUCT / "mqttasgi_plugin.so",
        builds_plugin=arguments.plugin is None,
        against=_against(arguments),
        without=arguments.without or (),
        mosquitto=needs.find_mosquitto(arguments.mosquitto),
        python=arguments.python,
        cc=arguments.cc,
        rounds=arguments.rounds or rounds,
        seconds=arguments.seconds or seconds,
        count=arguments.count or 0,
        qos=arguments.qos or 0,
        qos_levels=(0, 1) if arguments.qos is None else (arguments.qos,),
        contenders=arguments.contenders or (),
        channels=tuple(dict.fromkeys(arguments.channels or [NEWEST])),
        mqttasgi=tuple(dict.fromkeys(arguments.mqttasgi or ["1.2.6", NEWEST])),
        broker_lines=tuple(arguments.broker_line),
        plugin_options=tuple(arguments.plugin_opt),
        workers=arguments.workers,
        subscribers=arguments.subscribers,
        rate=arguments.rate,
        backlog=arguments.backlog,
        limit_us=arguments.limit_us,
        commit=arguments.commit,
    )


def _against(arguments: argparse.Namespace) -> Path | None:
    if arguments.without:
        return product.without(arguments.without) / "mqttasgi_plugin.so"
    return arguments.against and arguments.against.resolve()


def _listed(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {about}" for name, about in rows.items())


def _parser() -> argparse.ArgumentParser:
    several = {name: f"{each.about}:\n{' ' * 16}{', '.join(each.names)}" for name, each in SELECTIONS.items()}
    about = {
        **several,
        **{
            name: each.about + (f" (--count {each.count})" if each.count else "")
            for name, each in SCENARIOS.items()
        },
    }
    contenders = {("* " if name in COMPARED else "  ") + name: each.about for name, each in ALL.items()}
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description=DESCRIPTION.format(scenarios=_listed(about), contenders=_listed(contenders)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_what(parser)
    _add_how_much(parser)
    _add_with_what(parser)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    names = [*SELECTIONS, *SCENARIOS]
    add = parser.add_argument
    add("scenario", nargs="?", choices=names, default="overview", metavar="WHAT", help="one of those above")
    add(
        "--for-page",
        action="store_true",
        help="measure `page`, then write what docs/performance.md says of this Mosquitto; not with uncommitted changes",
    )
    add(
        "--page-from",
        type=Path,
        metavar="JSON",
        help="only write the page, with what --for-page measured before",
    )
    add(
        "--suite",
        metavar="SUITE",
        help="measure in another Debian release (forky); needs root; see tests/run --help",
    )
    add("--no-picture", action="store_true", help="draw none, and do not install matplotlib for it")
    add(
        "--json",
        type=Path,
        metavar="PATH",
        help="where everything measured goes; default build/bench/WHAT.json",
    )
    add("--commit", default="", help="of the sources, where they are in no repository")


def _add_how_much(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", type=_positive, help="how often everything is repeated, in turn; default 3, page 5")
    add("--seconds", type=float, help="of one throughput measurement; default 5, overview 2, page 3")
    add("--count", type=_positive, help="messages of one round; default as above, overview less")
    add("--qos", type=int, choices=(0, 1), help="default 0; of compare, session and retained, both")
    add("--workers", type=_sizes, default=(10, 10_000), metavar="N,M", help="many: default 10,10000")
    add("--subscribers", type=_positive, default=4, help="idle-traffic: default 4")
    add(
        "--rate",
        type=_positive,
        default=2000,
        help="retained: live messages a second; durable: those that others suffer from; default 2000",
    )
    add("--backlog", type=_positive, default=100_000, help="durable: messages that wait; default 100000")
    add("--limit-us", type=_positive, default=10_000, help="wakeup: what counts as late; default 10000")


def _add_with_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--contenders", type=_names, help="a,b,…: who competes; default plugin, in compare as above")
    add("--plugin", type=Path, help="default: this checkout's, built in build/bench/product")
    add("--against", type=Path, metavar="PLUGIN", help="builds: the plugin of the other build")
    add(
        "--without",
        type=_parts,
        metavar="PARTS",
        help=f"builds: it is this checkout's, to be built without these: a,b of {', '.join(PARTS)}",
    )
    add("--channels", type=_version, action="append", metavar="VERSION", help="once for each; default newest")
    add(
        "--mqttasgi",
        type=_version,
        action="append",
        metavar="VERSION",
        help="of the original, from PyPI, once for each; default 1.2.6 and newest",
    )
    add(
        "--broker-line",
        action="append",
        default=[],
        metavar="LINE",
        help="of mosquitto.conf, after the benchmark's",
    )
    add(
        "--plugin-opt",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="plugin_opt_KEY VALUE",
    )
    add("--mosquitto", default=needs.DEFAULT_MOSQUITTO, metavar="PATH")
    add(
        "--python",
        default=needs.DEFAULT_PYTHON,
        metavar="PATH",
        help="the one that the plugin is linked with",
    )
    add("--cc", default=needs.DEFAULT_CC)


def _positive(text: str) -> int:
    """Read an argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _chosen(text: str, there: Collection[str]) -> tuple[str, ...]:
    """Read some of those that there are, with commas between."""
    chosen = tuple(text.split(","))
    unknown = [name for name in chosen if name not in there]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(there)}")
    return chosen


def _names(text: str) -> tuple[str, ...]:
    """Read contenders."""
    return _chosen(text, ALL)


def _parts(text: str) -> tuple[str, ...]:
    """Read what a build is to lack."""
    return _chosen(text, PARTS)


def _sizes(text: str) -> tuple[int, ...]:
    """Read numbers of workers, with commas between."""
    return tuple(_positive(part) for part in text.split(","))


def _version(text: str) -> str:
    """Read a version of a package; it becomes part of a folder's name."""
    if not re.fullmatch(rf"{NEWEST}|\d+(\.\w+)*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a version nor '{NEWEST}'")
    return text


def _option(text: str) -> tuple[str, str]:
    """Read KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value
