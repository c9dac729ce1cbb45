"""What the dashboard's pages are made of: values in words, the tree, the bounds, plots, what has changed."""

from __future__ import annotations

import asyncio
import re
import threading
from bisect import bisect_left

import pytest

from mqttasgi._mqtt import topic_matches
from mqttasgi.dashboard import plots, tree, trees, values
from mqttasgi.dashboard.parts import Block, Cell, Seen
from mqttasgi.dashboard.topics import NUMBERS, PAYLOAD, Topics
from mqttasgi.dashboard.tree import ROWS, Tree, arrange, is_filter, pattern_of


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b"", "empty", ""),
        (b'{"a":[1,"\xc3\xbc"]}', "JSON", '{\n  "a": [\n    1,\n    "ü"\n  ]\n}'),
        (b'["\\ud800\\u202e"]', "JSON", '[\n  "\\ud800\\u202e"\n]'),
        (b"[" * 4000, "text", "[" * 4000),
        (b"[" * 200, "text", "[" * 200),
        (b"{broken", "text", "{broken"),
        (b"21.5", "text", "21.5"),
        (b"a\x1bb", "binary", "00000000  61 1b 62                                         |a.b|"),
        (b"a\x00", "binary", "00000000  61 00                                            |a.|"),
        ("a\u202eb".encode(), "text", "a\\u202eb"),
    ],
)
def test_payloads(payload: bytes, kind: str, text: str) -> None:
    assert values.shown(payload, len(payload)) == (kind, text)


def test_payloads_that_were_cut() -> None:
    assert values.shown(b'{"a": "b', 9000) == ("text", '{"a": "b')
    assert values.shown("ab\u20ac".encode()[:-1], 9000) == ("text", "ab")
    assert values.short(b"x" * 4096, 9000) == "x" * 79 + "…"
    assert values.short(b" a\n  b", 6) == "a b"
    assert values.short(b"\xff\x00", 2) == "ff 00"
    assert values.short(b"", 0) == "(empty)"


def test_names() -> None:
    assert values.name("a\x00\u202e/b") == "a\\x00\\u202e/b"
    assert len(values.name("x" * 65_535)) == values.LONG
    assert len(values.name("\x01" * 65_535)) == values.LONG


def test_long_tracebacks() -> None:
    assert values.ends("short") == "short"
    assert values.ends("a" * 5000 + "b" * 60_000 + "c" * 6000) == "a" * 2000 + "\n…\n" + "c" * 6000


def test_words_for_numbers() -> None:
    assert [values.age(seconds) for seconds in (0, 9, 31, 61, 3600, 90_000)] == [
        *("now", "now", "30 s", "1 min", "1 h", "1 d"),
    ]
    assert values.duration(90_061) == "1 d 1 h"
    assert values.duration(0) == "0 s"
    assert [values.rate(each) for each in (1234.5, 2, 0.05, 0.001)] == ["1,234/s", "2.0/s", "3.0/min", "-"]
    assert [values.size(each) for each in (5, 1500, 59e6, 2.5e12)] == ["5 B", "1.5 kB", "59 MB", "2,500.0 GB"]
    assert [values.seconds_of(each) for each in (86, 1500, 2e6)] == ["86 µs", "1.5 ms", "2.0 s"]
    assert values.moment(0) == "-"


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        *((b"21.5", 21.5), (b" -3\n", -3.0), (b"1e3", 1000.0), (b"", None), (b"on", None), (b"nan", None)),
        *((b"inf", None), (b"1e999", None), (b"1_0", None), (b"9" * 40, None)),
    ],
)
def test_numbers(payload: bytes, number: float | None) -> None:
    assert values.number_of(payload) == number


# ---- the topics ----


def test_topics_are_bounded() -> None:
    topics = Topics(topics=3, most_bytes=20_000)
    for number in range(5):
        topics.put(f"a/{number}", b"x", False, 0.0)
    assert (len(topics.by_name), topics.unkept, topics.messages, topics.generation) == (3, 2, 5, 3)
    for number in range(3):
        topics.put(f"a/{number}", b"x" * 50_000, False, 1.0)
    assert topics.bytes == sum(topic.cost() for topic in topics.by_name.values())
    assert all(len(topic.payload) == PAYLOAD and topic.size == 50_000 for topic in topics.by_name.values())
    small = Topics(topics=100, most_bytes=10_000)
    for number in range(9):
        small.put(f"b/{number}", b"x" * 4000, False, 1.0)
    assert small.bytes <= 10_000
    assert small.unkept_values == 7
    small.put("c" * 60_000, b"", False, 1.0)
    assert small.unkept == 1
    small.put("b/8", b"now small", False, 2.0)
    assert small.by_name["b/8"].payload == b"now small"


def test_topics_know_what_is_retained() -> None:
    topics = Topics()
    topics.put("a", b"x", True, 0.0)
    topics.put("a", b"y", False, 0.0)
    assert topics.by_name["a"].retained
    topics.put("a", b"", True, 0.0)
    assert not topics.by_name["a"].retained


def test_topics_keep_the_last_numbers() -> None:
    topics = Topics()
    for number in range(NUMBERS + 7):
        topics.put("a", str(number).encode(), False, float(number))
    topic = topics.by_name["a"]
    assert topic.numbers is not None
    assert list(topic.numbers) == list(range(7, NUMBERS + 7))
    assert topic.rate(NUMBERS + 6.0) == pytest.approx(1.0, rel=0.1)
    assert topic.rate(NUMBERS + 600.0) < 0.001
    topics.put("a", b"off", False, 99.0)
    assert topic.numbers is None
    assert topics.bytes == topic.cost()


# ---- the tree ----


def labels(tree: Tree) -> list[str]:
    return ["  " * row.depth + row.label + (f" ({row.below})" if row.below else "") for row in tree.rows]


def test_a_small_tree_is_open() -> None:
    names = ["home/hall/light", "home/hall", "home/bath/light", "zigbee2mqtt/lamp", "/a//b", "x"]
    assert labels(arrange(names, "")) == [
        *("/a//b", "home", "  bath/light", "  hall", "    light", "x", "zigbee2mqtt/lamp"),
    ]
    assert [row.path for row in arrange(names, "").rows if row.is_topic] == [
        *("/a//b", "home/bath/light", "home/hall", "home/hall/light", "x", "zigbee2mqtt/lamp"),
    ]


def test_a_large_tree_is_open_as_far_as_there_is_room() -> None:
    names = [f"site/{site}/device/{device}" for site in range(30) for device in range(100)]
    tree = arrange(names, "")
    assert (len(tree.rows) <= ROWS, tree.matching) == (True, 3000)
    assert sum(row.below for row in tree.rows) + sum(row.is_topic for row in tree.rows) == 3000
    assert any(row.is_topic for row in tree.rows)
    flat = arrange([f"a/{number:06}" for number in range(20_000)], "")
    assert labels(flat)[0] == "a (20000)"
    flat = arrange([f"{number:06}" for number in range(20_000)], "")
    assert (len(flat.rows), flat.rows[0].path, flat.more) == (ROWS, "000000", 20_000 - ROWS)
    assert labels(arrange(names, "site/3/#")) == labels(arrange(names, "site/3/device/#"))


def test_what_is_looked_for() -> None:
    names = ["home/Hall/light", "home/hall/door", "$SYS/uptime"]
    assert arrange(names, "LIGHT").matching == 1
    assert arrange(names, "a+b").matching == 0
    assert arrange(names, "+/+/door").matching == 1
    assert arrange([], "x") == Tree((), 0, 0)
    with pytest.raises(ValueError, match="#"):
        arrange(names, "home/#/light")


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "a/#", "a/+", "+/b", "a/+/c", "$SYS/#", "+/#", "/#", "/+", "a.c/+"]
)
def test_filters_match_as_mqtt_says(topic_filter: str) -> None:
    pattern = pattern_of(topic_filter)
    assert is_filter(topic_filter)
    for topic in ("a", "a/b", "a/b/c", "/", "/a", "b", "$SYS/a", "$SYS", "abc/d", "a.c/d", "a/\n", "a//c"):
        assert bool(pattern.fullmatch(topic)) == topic_matches(topic_filter, topic), topic


def test_many_levels_do_no_harm() -> None:
    names = ["/".join("x" * 200) + f"/{number}" for number in range(300)] + ["/" * 200]
    tree = arrange(names, "")
    assert tree.matching == 301
    assert len(tree.rows) <= ROWS


def deep(branches: int, levels: int, chain: int) -> list[str]:
    """Return many branches that do not fit with long chains below, and a chain that opens level by level."""
    tail = "/".join("1" * levels)
    names = [f"b{branch}/x{number}/{tail}" for branch in range(branches) for number in range(200)]
    for length in range(chain):
        names.append("a" + "/1" * length + "/0")
    return names


@pytest.mark.parametrize(
    "names",
    [
        deep(9, 180, 95),
        deep(5, 150, 30),
        deep(90, 195, 199),
        [f"{number % 199}/{number}/{'/' * 150}" for number in range(20_000)],
        [f"{'a/' * (number % 199)}{number}" for number in range(20_000)],
        ["/".join(f"{number:015b}") for number in range(20_000)],
        ["/" * 60_000 + f"a/{number}" for number in range(199)],
        ["a" + "/" * number for number in range(2000)],
    ],
)
def test_the_work_is_bounded_by_the_number_of_topics(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """The steps are looks for the end of a branch; nothing else is done for each level."""
    steps = 0

    def counted(keys: list[str], key: str, low: int, high: int) -> int:
        nonlocal steps
        steps += 1
        return bisect_left(keys, key, low, high)

    monkeypatch.setattr(tree, "bisect_left", counted)
    made = arrange(names, "")
    assert len(made.rows) <= ROWS
    assert made.matching == len(names)
    assert steps <= 2 * len(names) + 2 * ROWS


class Arranged:
    """Counts who is at it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_go_on = threading.Event()

    def __call__(self, names: list[str], wanted: str) -> Tree:
        self.calls.append(wanted)
        assert self.may_go_on.wait(20)
        return arrange(names, wanted)


@pytest.fixture
def arranged(monkeypatch: pytest.MonkeyPatch) -> Arranged:
    counting = Arranged()
    monkeypatch.setattr(trees, "arrange", counting)
    return counting


async def test_one_tree_is_for_all_who_look(arranged: Arranged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "PAUSE", 0.2)
    arranged.may_go_on.set()
    topics = Topics()
    topics.put("a", b"x", False, 0.0)
    first = await topics.trees.get(topics, "")
    topics.put("b", b"x", False, 0.0)
    # Not for each new topic, but some time later.
    assert await topics.trees.get(topics, "") is first
    await asyncio.sleep(0.25)
    assert (await topics.trees.get(topics, "")).matching == 2
    await topics.trees.get(topics, "")
    assert arranged.calls == ["", ""]
    with pytest.raises(ValueError, match="#"):
        await topics.trees.get(topics, "#/a")
    for number in range(3 * trees.KEPT):
        await topics.trees.get(topics, str(number))
    assert len(topics.trees._made) == trees.KEPT


async def test_one_tree_at_a_time_is_made_in_a_thread(arranged: Arranged) -> None:
    topics = Topics()
    for number in range(trees.FEW + 1):
        topics.put(f"a/{number}", b"x", False, 0.0)
    look = asyncio.get_running_loop().create_task
    looks = [look(topics.trees.get(topics, wanted)) for wanted in ("", "7", "") * 5]
    await asyncio.sleep(0.05)
    # Who began it goes away: the others have what is made, and nothing else is begun meanwhile.
    looks.pop(0).cancel()
    await asyncio.sleep(0.05)
    assert arranged.calls == [""]
    arranged.may_go_on.set()
    made = await asyncio.gather(*looks)
    assert arranged.calls == ["", "7"]
    assert len({id(each) for each in made}) == 2


# ---- plots ----


def test_plots_are_nothing_but_numbers() -> None:
    points = plots.over_time([(0.0, 1.0), (5.0, None), (10.0, 3.0), (15.0, 2.0)], 0.0, 15.0, 3.0)
    assert points == ("M0.0 53.0h0M200.0 1.0h0L300.0 27.0", 1.0, 3.0)
    assert plots.over_time([], 0.0, 1.0, 0.0) == ("", 0.0, 0.0)
    for numbers in ([1.0], [5.0, 5.0], [-1e299, 1e299], [1e-300, 0.0], list(map(float, range(60)))):
        drawn = plots.spark(numbers).path
        assert re.fullmatch(r"M[\d.]+ [\d.]+h0(L[\d.]+ [\d.]+)*", drawn), drawn
    assert plots.spark([]).path == ""


# ---- what has changed ----


def test_only_what_has_changed_is_sent() -> None:
    def block(key: str, text: str) -> Block:
        return Block("all", key, "waiting", [Cell("a", text, "css"), Cell("b", "<same>")])

    seen = Seen()
    seen_first = block("1", "x")
    seen_first.html = lambda: "whole"  # type: ignore[method-assign,assignment,return-value]
    assert seen.update([seen_first]) == "whole"
    assert seen.update([block("1", "x")]) == ""
    assert seen.update([block("1", "<y>")]) == '<span id="a" class="css">&lt;y&gt;</span>'
    changed = block("2", "<y>")
    changed.html = lambda: "again"  # type: ignore[method-assign,assignment,return-value]
    assert seen.update([changed]) == "again"
    assert seen.update([block("2", "<y>")]) == ""
