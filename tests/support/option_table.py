"""plugin/options/table.h, read by a program, and what is written from it."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

FIRST_VERSION = "0.1.0"
WRITTEN_BY = "Run tests/write_options after a change of plugin/options/table.h or of the command's table."

#: What is allowed, where limits do not say it.
ALLOWED = {
    "application": "`package.module:name`",
    "string": "text",
    "secret": "text",
    "boolean": "`true`, `false`",
    "file": "file",
    "folders": "folders",
    "virtualenv": "folder",
}
TOKEN = re.compile(r'\s+|/\*.*?\*/|"((?:[^"\\]|\\.)*)"|[\w.*]+|[(),|#]|<<|[?>:]', re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One row; plugin/options/table.h explains the columns."""

    key: str
    variable: str
    kind: str
    type: str
    field: str
    #: None where nothing is set then; `unset` says what is.
    default: Optional[str]
    unset: str
    least: int
    most: int
    words: tuple[str, ...]
    flags: frozenset[str]
    since: str
    sample: Optional[str]
    meaning: str

    def value(self) -> Union[str, int, bool, None]:
        """Return the default as a Python value; bytes and seconds as the administrator writes them."""
        if self.default is not None and self.kind == "boolean":
            return self.default == "true"
        return int(self.default) if self.default is not None and self.kind == "number" else self.default

    def for_python(self) -> Union[str, int, float, bool]:
        """Return the default as the runtime gets it."""
        text = self.default or ""
        if self.kind == "bytes":
            return int(text.rstrip("kMG")) << {"k": 10, "M": 20, "G": 30}.get(text[-1], 0)
        if self.kind == "seconds":
            return float(text)
        if self.kind == "boolean":
            return text == "true"
        return int(text) if self.kind == "number" else text


# ---- reading ----


def rows() -> list[Row]:
    """Return the table's rows, in its order.

    Raises:
        ValueError: There is something that this does not understand.
    """
    text = (ROOT / "plugin" / "options" / "table.h").read_text()
    text = text[text.index("/* clang-format off */") : text.index("#undef OPTION")]
    found = [_row(columns) for columns in _calls(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))]
    if len({row.key for row in found}) != len(found) or len({row.variable for row in found}) != len(found):
        raise ValueError("two options have the same name")
    return found


def for_python() -> dict[str, object]:
    """Return what `_mqttasgi.options()` returns where nobody says anything."""
    return {**{row.key: row.for_python() for row in rows() if "FOR_PYTHON" in row.flags}, "variables": []}


def _calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each OPTION(), strings as they are written."""
    at = 0
    while text[at:].strip():
        opening = re.compile(r"\s*OPTION\(").match(text, at)
        if opening is None:
            raise ValueError(f"no row of options: {text[at : at + 80]!r}")
        at, depth, columns = opening.end(), 1, [""]
        while depth:
            token = TOKEN.match(text, at)
            if token is None:
                raise ValueError(f"no part of a row: {text[at : at + 80]!r}")
            at = token.end()
            depth += {"(": 1, ")": -1}.get(token[0], 0)
            if token[0] == "," and depth == 1:
                columns.append("")
            elif depth:
                columns[-1] += token[0] if token[0].strip() else " "
        yield [column.strip() for column in columns]


def _row(columns: list[str]) -> Row:
    if len(columns) != 11:
        raise ValueError(f"a row of options has 11 columns: {columns}")
    key, variable, kind, type_, field, default, limits, flags, since, sample, meaning = columns
    least, most, words = _limits(limits)
    row = Row(
        key=key,
        variable=_string(variable),
        kind=kind,
        type=type_,
        field=field,
        default=None if default.startswith("UNSET") else _string(default),
        unset=_string(default[len("UNSET(") : -1]) if default.startswith("UNSET") else "",
        least=least,
        most=most,
        words=words,
        flags=frozenset() if flags == "0" else frozenset(flags.replace("|", " ").split()),
        since=_string(since),
        sample=None if sample == "NULL" else _string(sample),
        meaning=_string(meaning),
    )
    if not re.fullmatch(r"\d+\.\d+\.\d+", row.since) or row.meaning.endswith("."):
        raise ValueError(f"{key}: `since` is a version, and the meaning has no full stop at its end")
    return row


def _string(column: str) -> str:
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"', column)
    if not re.fullmatch(r'("((?:[^"\\]|\\.)*)"\s*)+', column):
        raise ValueError(f"no string: {column}")
    return "".join(parts).replace('\\"', '"').replace("\\\\", "\\")


def _limits(column: str) -> tuple[int, int, tuple[str, ...]]:
    if column == "NONE":
        return 0, 0, ()
    name, _, inside = column.rstrip(")").partition("(")
    if name == "WORDS":
        return 0, 0, tuple(_string(word.strip()) for word in inside.split(","))
    least, most = (_number(bound.strip()) for bound in inside.split(","))
    return least, most, ()


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    # A name is defined for machines of 64 bits first.
    source = (ROOT / "plugin" / "options" / "options.c").read_text()
    shift = re.search(rf"#define {text} .*? (?:\(uint64_t\))?(\d+) << (\d+)", source)
    if shift is None:
        raise ValueError(f"{text} is no number")
    return int(shift[1]) << int(shift[2])


# ---- the page ----


def _allowed(row: Row) -> str:
    if row.words:
        return ", ".join(f"`{word}`" for word in row.words)
    if row.kind == "bytes":
        return f"{_bytes(row.least)} to {_bytes(row.most)}"
    if row.kind == "seconds":
        return f"{row.least / 1000:.10g} to {row.most / 1000:.10g}"
    return f"{row.least} to {row.most}" if row.kind == "number" else ALLOWED[row.kind]


def _bytes(number: int) -> str:
    for suffix, shift in (("G", 30), ("M", 20), ("k", 10)):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift}{suffix}"
    return str(number)


def _default(row: Row) -> str:
    if row.default is None:
        return row.unset
    return f"`{row.default}`" if row.kind in ("string", "choice") else row.default


def _meaning(row: Row) -> str:
    more = ". Changes [while the broker runs](reload.md)" if "AT_ONCE" in row.flags else ""
    return row.meaning + more + (f". Since {row.since}" if row.since != FIRST_VERSION else "")


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    cells = [" | ".join(line).replace("|  |", "| |").replace("|  |", "| |") for line in (heads, *lines)]
    cells.insert(1, "|".join("---" for _ in heads))
    return "".join(f"|{line}|\n" if line.startswith("---") else f"| {line} |\n" for line in cells)


def plugin_table(of_session: bool) -> str:
    """Return the page's table of the plugin's options, those about the session or the others."""
    return _table(
        ("`plugin_opt_…`", "environment, `.env`", "default", "allowed", "meaning"),
        (
            (f"`{row.key}`", f"`{row.variable}`", _default(row), _allowed(row), _meaning(row))
            for row in rows()
            if ("OF_SESSION" in row.flags) == of_session
        ),
    )


def command_table() -> str:
    """Return the page's table of the command's arguments."""
    from mqttasgi.command.option_table import OPTIONS, Option

    unset = {row.key: row.unset for row in rows()}

    def default(option: Option) -> str:
        if option.default is None:
            return unset.get(option.name, "")
        return str(option.default).lower() if not isinstance(option.default, str) else f"`{option.default}`"

    return _table(
        ("argument", "environment, `.env`", "default", "meaning"),
        (
            (
                ", ".join(f"`{flag}`" for flag in option.flags) or "the last word",
                f"`{option.variable}`",
                default(option),
                option.help + (f". {option.more}" if option.more else ""),
            )
            for option in OPTIONS
        ),
    )


def page() -> str:
    """Return docs/options.md with its tables as they should be."""
    text = (ROOT / "docs" / "options.md").read_text()
    for name, table in (
        ("command", command_table()),
        ("plugin", plugin_table(False)),
        ("session", plugin_table(True)),
    ):
        text, count = re.subn(
            rf"(<!-- table: {name} -->\n)\n?(?:\|.*\n)*",
            lambda found, table=table: f"{found[1]}\n{table}",
            text,
        )
        if count != 1:
            raise ValueError(f"docs/options.md has no place for the table of {name}")
    return text


# ---- the sample ----


def _plain(meaning: str) -> str:
    """Return the sentence without Markdown. A value keeps its small letter."""
    text = re.sub(r" \(\[why\]\([^)]*\)\)", "", meaning)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    if not re.match(r"`|true:|false:", text):
        text = text[0].upper() + text[1:]
    return text.replace("`:`", "':'").replace("`", "") + "."


def _paragraph(row: Row, active: bool) -> str:
    comment = textwrap.fill(_plain(row.meaning), 120, initial_indent="# ", subsequent_indent="# ")
    return f"{comment}\n{'' if active else '# '}plugin_opt_{row.key} {row.sample}"


def sample() -> str:
    """Return config/mosquitto.conf with what it says of each option as it should be.

    A section's paragraphs without options are its own, and so is whether a line is in force.
    """
    text = (ROOT / "config" / "mosquitto.conf").read_text()
    active = set(re.findall(r"^plugin_opt_(\w+) ", text, re.MULTILINE))
    parts = re.split(r"^(# ---- .* ----)\n", text, flags=re.MULTILINE)
    for heading in range(1, len(parts), 2):
        if parts[heading] not in ("# ---- the application ----", "# ---- the session ----"):
            continue
        own = [part for part in parts[heading + 1].strip("\n").split("\n\n") if "plugin_opt_" not in part]
        made = [
            _paragraph(row, row.key in active)
            for row in rows()
            if row.sample is not None
            and ("OF_SESSION" in row.flags) == (parts[heading] == "# ---- the session ----")
        ]
        parts[heading + 1] = "\n" + "\n\n".join(own + made) + ("\n\n" if heading + 2 < len(parts) else "\n")
    return "".join(part + "\n" if part.startswith("# ----") else part for part in parts)


# ---- what the command knows ----


#: Options that the plugin's C alone reads, and the processes of `--connect` have a use for.
OF_PROCESSES = ("queue_size", "queue_bytes")
#: Those that only make sense inside of a broker, though the runtime gets them.
OF_BROKERS = ("session", "check")


def command_module() -> str:
    """Return python/mqttasgi/command/plugin_options.py."""
    lines = [
        '"""What the command knows of the plugin\'s options; written by tests/write_options."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import NamedTuple, Union",
        "",
        "",
        "class PluginOption(NamedTuple):",
        '    """One row of plugin/options/table.h."""',
        "",
        "    variable: str",
        "    default: Union[str, int, bool, None] = None",
        "    #: Of numbers.",
        "    least: int = 0",
        "    most: int = 0",
        "    #: Of what is one of several words.",
        "    words: tuple[str, ...] = ()",
        "",
        "",
        "class ProcessOption(NamedTuple):",
        '    """One of them that the processes of `--connect` have too, by its `kind` there."""',
        "",
        "    variable: str",
        "    kind: str",
        "    default: Union[str, int, float, bool]",
        "    least: int = 0",
        "    most: int = 0",
        "    words: tuple[str, ...] = ()",
        "",
        "",
        "PLUGIN_OPTIONS = {",
    ]
    for row in rows():
        if "IN_COMMAND" in row.flags:
            value = row.value()
            default = [] if value is None else [value]
            lines.append(_command_row("PluginOption", row, [row.variable, *default], row.kind == "number"))
    lines += ["}", "", "PROCESS_OPTIONS = {"]
    for row in rows():
        is_theirs = ("FOR_PYTHON" in row.flags and "IN_COMMAND" not in row.flags) or row.key in OF_PROCESSES
        if is_theirs and row.key not in OF_BROKERS:
            has_limits = row.kind in ("number", "seconds", "bytes")
            lines.append(
                _command_row("ProcessOption", row, [row.variable, row.kind, row.for_python()], has_limits)
            )
    return "\n".join([*lines, "}", ""])


def _command_row(kind: str, row: Row, values: list[object], has_limits: bool) -> str:
    arguments = [_quoted(value) if isinstance(value, str) else repr(value) for value in values]
    if has_limits:
        arguments += [f"least={row.least}", f"most={row.most}"]
    if row.words:
        arguments.append(f"words=({', '.join(map(_quoted, row.words))})")
    line = f'    "{row.key}": {kind}({", ".join(arguments)}),'
    if len(line) <= 110:
        return line
    return f'    "{row.key}": {kind}(\n        {", ".join(arguments)}\n    ),'


def _quoted(text: str) -> str:
    return f'"{text}"'


def written() -> dict[Path, str]:
    """Return what each file that is written from the tables should be."""
    return {
        ROOT / "docs" / "options.md": page(),
        ROOT / "config" / "mosquitto.conf": sample(),
        ROOT / "python" / "mqttasgi" / "command" / "plugin_options.py": command_module(),
    }
