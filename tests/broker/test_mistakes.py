"""What the log says of mistakes that would else be silent while everything runs."""

from __future__ import annotations

import pytest

from conftest import BrokerFactory


def test_messages_that_nobody_handles(broker: BrokerFactory) -> None:
    started = broker("apps.mistakes:Good")
    client = started.client()
    for number in range(3):
        client.publish(f"hall/{number}", qos=1)
    started.wait_for_log(
        r"apps\.mistakes\.Good gets messages, the first on topic 'hall/0', and has no method receive\("
    )
    client.publish("hall/end", qos=1)
    assert started.log().count("has no method receive") == 1


@pytest.mark.inside("unheard")
def test_a_slash_too_many_in_a_filter(broker: BrokerFactory) -> None:
    started = broker("apps.mistakes:Good", options={"verbosity": 1})
    client = started.client()
    client.publish("cellar/light", qos=1)
    for topic in ("kitchen/light", "kitchen/motion"):
        client.publish(topic, qos=1)
    started.wait_for_log(
        "No consumer hears the topic 'kitchen/light', but one has a filter that begins with a slash"
    )
    client.publish("/hall/light", qos=1)
    assert started.log().count("No consumer hears") == 1


@pytest.mark.inside("unheard")
def test_a_slash_too_many_in_a_topic(broker: BrokerFactory) -> None:
    started = broker("apps.mistakes:Good", options={"verbosity": 1})
    client = started.client()
    for topic in ("/cellar/light", "/", "/hall/light", "/hall/motion"):
        client.publish(topic, qos=1)
    started.wait_for_log("No consumer hears the topic '/hall/light', but one would without the slash")
    assert started.log().count("No consumer hears") == 1


def test_a_slash_that_is_meant(broker: BrokerFactory) -> None:
    started = broker("apps.mistakes:Good", options={"verbosity": 1})
    client = started.client()
    for topic in ("/kitchen/light", "kitchen/light", "/hall/light", "kitchen/end"):
        client.publish(topic, qos=1)
    assert "No consumer hears" not in started.log()


def test_nobody_is_told_of_slashes_unasked(broker: BrokerFactory) -> None:
    started = broker("apps.mistakes:Good")
    client = started.client()
    for topic in ("kitchen/light", "/hall/light"):
        client.publish(topic, qos=1)
    assert "No consumer hears" not in started.log()
