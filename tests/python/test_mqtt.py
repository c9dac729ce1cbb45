"""Topics, filters, QoS and payloads: what is refused, with which error."""

from __future__ import annotations

import ctypes
import ctypes.util
import random

import paho.mqtt.client
import pytest

from mqttasgi._events import check_event
from mqttasgi._mqtt import check_filter, check_qos, check_topic, encode_payload, topic_matches

GOOD_TOPICS = ["a", "/", "home/kitchen/light", "//", "$SYS/x", "ü/日本", "a b", "x" * 65_535, "/" * 200]
BAD_TOPICS = ["", "+", "a/+/b", "a/#", "a\x00b", "a\nb", "\x7f", "\ud800", "\ufffe", "x" * 65_536, "/" * 201]
GOOD_FILTERS = ["#", "+", "a/+/b", "a/#", "+/+/#", "/", "//#", "$SYS/#", "ü/+"]
GOOD_FILTERS += ["$share/g/a", "$share/g/+/#", "$share/g//", "$share/g/$SYS/#", "$shared/+", "a/$share"]
BAD_FILTERS = [
    "",
    "a#",
    "#/a",
    "a/#/b",
    "a+",
    "+a/b",
    "a/b+",
    "a\x00",
    "\udfff",
    "$share/g/a#",
    "$share/g/#/a",
    "/" * 201,
]


@pytest.mark.parametrize("topic", GOOD_TOPICS)
def test_topics_that_may_be_published_to(topic: str) -> None:
    check_topic(topic)


@pytest.mark.parametrize("topic", BAD_TOPICS)
def test_topics_that_may_not(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        check_topic(topic)


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["a"]])
def test_a_topic_or_filter_is_text(value: object) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        check_topic(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a str"):
        check_filter(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("topic_filter", GOOD_FILTERS)
def test_filters_that_may_be_subscribed_to(topic_filter: str) -> None:
    check_filter(topic_filter)


@pytest.mark.parametrize("topic_filter", BAD_FILTERS)
def test_filters_that_may_not(topic_filter: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "wrong"),
    [
        ("$share", "group has no name"),
        ("$share/", "group has no name"),
        ("$share//a", "group has no name"),
        ("$share/+/a", r"'\+', contains a wildcard"),
        ("$share/#", "'#', contains a wildcard"),
        ("$share/g+/a", r"'g\+', contains a wildcard"),
        ("$share/g", "no filter after the group"),
        ("$share/g/", "no filter after the group"),
    ],
)
def test_what_a_shared_subscription_lacks(topic_filter: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as caught:
        check_filter(topic_filter)
    assert repr(topic_filter) in str(caught.value)
    assert "$share/<group>/<filter>" in str(caught.value)


@pytest.mark.parametrize("qos", [-1, 3, 128])
def test_qos_out_of_range(qos: int) -> None:
    with pytest.raises(ValueError, match=f"not {qos}"):
        check_qos(qos)


@pytest.mark.parametrize("qos", [True, 1.0, "1", None])
def test_qos_of_another_type(qos: object) -> None:
    with pytest.raises(TypeError, match="qos must be"):
        check_qos(qos)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "encoded"),
    [
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        ("grün", "grün".encode()),
        (21, b"21"),
        (21.5, b"21.5"),
        (None, b""),
        ("", b""),
    ],
)
def test_payloads_are_encoded_as_paho_does(payload: object, encoded: bytes) -> None:
    assert encode_payload(payload) == encoded  # type: ignore[arg-type]


@pytest.mark.parametrize("payload", [{"a": 1}, [1], object()])
def test_other_payloads_are_refused_with_their_type(payload: object) -> None:
    with pytest.raises(TypeError, match=type(payload).__name__):
        encode_payload(payload)  # type: ignore[arg-type]


def test_a_payload_too_long_for_mqtt() -> None:
    with pytest.raises(ValueError, match="268435456 bytes"):
        encode_payload(bytes(268_435_456))


@pytest.mark.parametrize("event", [None, {}, {"type": "mqtt.unknown"}, "mqtt.pub"])
def test_events_that_no_application_sends(event: object) -> None:
    with pytest.raises(ValueError, match="event"):
        check_event(event)


def client_library() -> ctypes.CDLL:
    name = ctypes.util.find_library("mosquitto")
    assert name, "libmosquitto is needed for this test: apt-get install libmosquitto-dev"
    return ctypes.CDLL(name)


def test_the_client_library_agrees_on_what_is_a_topic_and_a_filter() -> None:
    """libmosquitto checks the same things, in C; the two must not differ on any generated text."""
    library = client_library()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    alphabet = [
        "a",
        "b",
        "/",
        "+",
        "#",
        "ü",
        "日",
        "$",
        " ",
        "\x01",
        "\x7f",
        "\x9f",
        "\ufdd0",
        "\uffff",
        "\U0001f600",
    ]
    for _ in range(20_000):
        text = "".join(
            chance.choices(alphabet, weights=[8, 8, 12, 4, 4] + [1] * 10, k=chance.randrange(0, 9))
        )
        raw = text.encode()
        readable = library.mosquitto_validate_utf8(raw, len(raw)) == 0
        for check, their_check in (
            (check_topic, library.mosquitto_pub_topic_check),
            (check_filter, library.mosquitto_sub_topic_check),
        ):
            try:
                check(text)
                ours = True
            except ValueError:
                ours = False
            # The broker refuses the empty topic (MQTT 5, 4.7.3); the library leaves that to it.
            theirs = bool(raw) and readable and their_check(raw) == 0
            assert ours == theirs, (check.__name__, text)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("+", "a", True),
        ("+", "a/", False),
        ("+/+", "/", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+/c", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "/", True),
        ("a/#", "a", True),
        ("a/#", "a/", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/#", "b", False),
        ("+/#", "a", True),
        ("a/+/#", "a", False),
        ("a/+/#", "a/b", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/+", "$SYS/a", True),
        ("a/#", "a/$b", True),
        ("$share/g/a/+", "a/b", True),
        ("$share/g/a/+", "g/a/b", False),
        ("$share/g//", "/", True),
        ("$share/g/#", "a", True),
        ("$share/g/#", "$SYS/a", False),
        ("$share/g/$SYS/#", "$SYS/a", True),
        ("$shared/#", "$shared/a", True),
    ],
)
def test_which_filters_match_a_topic(topic_filter: str, topic: str, matches: bool) -> None:
    assert topic_matches(topic_filter, topic) is matches


def test_client_libraries_agree_on_which_filters_match() -> None:
    library = client_library()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    matching = 0
    for _ in range(20_000):
        topic = "/".join(chance.choices(["a", "b", "", "$", "$a"], k=chance.randint(1, 4)))
        levels = chance.choices(["a", "b", "", "$", "$a", "+"], [4, 2, 1, 1, 1, 6], k=chance.randint(1, 4))
        if chance.random() < 0.3:
            levels[-1] = "#"
        topic_filter = "/".join(levels)
        if not topic or not topic_filter:
            continue
        theirs = ctypes.c_bool()
        assert (
            library.mosquitto_topic_matches_sub(topic_filter.encode(), topic.encode(), ctypes.byref(theirs))
            == 0
        )
        ours = topic_matches(topic_filter, topic)
        assert ours == theirs.value, (topic_filter, topic)
        assert ours == paho.mqtt.client.topic_matches_sub(topic_filter, topic), (topic_filter, topic)
        assert topic_matches(f"$share/group/{topic_filter}", topic) == ours
        matching += ours
    assert matching > 1000
