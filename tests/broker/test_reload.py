"""SIGHUP: what of the plugin's options changes while the broker runs, and what is only said."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, plugin_path
from support.client import Client

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parents[1] / "support"


def start(broker: BrokerFactory, **arguments: Any) -> tuple[Broker, Client]:
    started = broker("apps.chatty:application", **arguments)
    client = started.client()
    client.subscribe("done", qos=1)
    return started, client


def reload(started: Broker, options: dict[str, object] | None = None) -> str:
    """Changes options, sends SIGHUP, and returns what the plugin says to that, line by line."""
    before = len(started.log())
    started.reload(options)
    started.wait_for_log("mqttasgi: .*(changed|as they were)", since=before)
    # The broker answers once it has come back from the plugin.
    Client(started.port).close()
    said = [line for line in started.log()[before:].splitlines() if line.startswith("mqttasgi: ")]
    return "\n".join(line.removeprefix("mqttasgi: ") for line in said)


def levels(started: Broker, client: Client, word: str) -> str:
    """What of debug, information and warning reaches the log now."""
    client.publish(f"say/{word}", word, qos=1)
    client.wait_for("done")
    return "".join(level for level in "DIW" if f"mqttasgi: apps: {word} {level}" in started.log())


def test_verbosity_up_and_down(broker: BrokerFactory) -> None:
    started, client = start(broker)
    assert levels(started, client, "first") == "W"
    assert reload(started, {"verbosity": 2}) == "Options changed: verbosity is 2 now."
    assert levels(started, client, "second") == "DIW"
    assert reload(started, {"verbosity": 1}) == "Options changed: verbosity is 1 now."
    assert levels(started, client, "third") == "IW"
    assert reload(started) == "No option has changed."
    assert levels(started, client, "fourth") == "IW"
    # A line that is taken out is the default again.
    assert reload(started, {"verbosity": None}) == "Options changed: verbosity is 0 now."
    assert levels(started, client, "fifth") == "W"


def test_how_much_may_be_logged(broker: BrokerFactory) -> None:
    """Ten seconds' worth at once."""
    started, client = start(broker, options={"log_lines": 1})

    def logged(word: str) -> int:
        for number in range(30):
            client.publish(f"say/{word}", f"{word} {number}", qos=1)
        for _ in range(30):
            client.wait_for("done")
        return started.log().count(f"mqttasgi: apps: {word} ")

    assert 10 <= logged("first") < 30
    assert "Options changed: log_lines is 0 now." in reload(started, {"log_lines": 0})
    assert logged("second") == 30
    assert "Options changed: log_lines is 1 now." in reload(started, {"log_lines": 1})
    assert 10 <= logged("third") < 30


def test_what_waits_for_the_next_start(broker: BrokerFactory) -> None:
    """It is said at each reload, until it is so, with whatever else has changed."""
    started, client = start(broker)
    sentence = "Option loop changed; that takes effect at the next start of the broker."
    assert reload(started, {"loop": "asyncio"}) == sentence
    assert reload(started, {"spin": 0}) == f"Options changed: spin is 0 now.\n{sentence}"
    assert reload(started, {"username": "hub"}) == (
        "Options username and loop changed; they take effect at the next start of the broker."
    )
    assert levels(started, client, "same") == "W"
    started.restart()
    assert reload(started) == "No option has changed."


def test_a_mistake_changes_nothing(broker: BrokerFactory) -> None:
    started, client = start(broker)
    assert reload(started, {"verbosity": 3, "spin": 0}) == (
        'The options stay as they were: option verbosity: "3" is not a number from 0 to 2'
    )
    assert reload(started, {"verbosity": 2, "spinn": 0}) == (
        "The options stay as they were: option spinn: unknown, did you mean spin?"
    )
    assert levels(started, client, "before") == "W"
    assert reload(started, {"spinn": None}) == "Options changed: verbosity is 2 now, spin is 0 now."
    assert levels(started, client, "after") == "DIW"
    # Neither the broker's own mistakes nor another plugin's are ours.
    started.rewrite(started.configuration() + "no_such_option 1\n")
    assert reload(started) == "No option has changed."
    started.rewrite(started.configuration().partition("plugin ")[0])
    assert "has no plugin line for" in reload(started)
    (started.folder / "mosquitto.conf").unlink()
    assert reload(started).endswith('" cannot be read: No such file or directory')
    assert levels(started, client, "still") == "DIW"


def test_the_environment_and_the_env_file_are_those_of_the_start(
    broker: BrokerFactory, tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("VERBOSITY=1\n")
    started, client = start(broker, options={"env_file": file})
    file.write_text("VERBOSITY=2\nMQTTASGI_SPIN=nonsense\n")
    assert reload(started) == "No option has changed."
    assert levels(started, client, "first") == "IW"
    assert reload(started, {"verbosity": 0}) == "Options changed: verbosity is 0 now."
    assert reload(started, {"verbosity": None}) == "Options changed: verbosity is 1 now."


def test_consumers_are_not_disturbed(broker: BrokerFactory) -> None:
    """Messages that are under way during many reloads are all handled, in order, by the same consumer."""
    started, client = start(broker)
    count = 0
    for size in range(1000, 1040):
        started.reload({"queue_size": size, "verbosity": size % 3, "spin": size % 2})
        for _ in range(20):
            client.paho.publish(f"do/{count}", str(count), qos=count % 2)
            count += 1
    handled = [client.wait_for("done", timeout=20).payload.decode() for _ in range(count)]
    assert handled == [f"1 {number}" for number in range(count)]
    assert started.log().count("Reloading config.") > 1
    # Mosquitto loses a signal that comes while it reloads. What it answers now, it answers after the last of those that
    # it has seen, and what it answers next, after that reload.
    Client(started.port).close()
    Client(started.port).close()
    reload(started)
    assert "queue_size is 1039 now" in started.log()
    assert started.log().count("mqttasgi: Session with the listener") == 1


def test_queue_size_bounds_what_waits(broker: BrokerFactory, tmp_path: Path) -> None:
    """`apps.slow` handles nothing until it is told to, so its messages wait."""
    go = tmp_path / "go"
    started = broker("apps.slow:application", options={"session": "off"}, environment={"TEST_GO": str(go)})
    client = started.client()
    client.subscribe("handled", qos=1)
    client.subscribe("taken", qos=1)
    assert reload(started, {"queue_size": 5}) == "Options changed: queue_size is 5 now."
    for number in range(30):
        client.publish("slow/x", str(number), qos=1)
        if number == 0:
            client.wait_for("taken")
    started.wait_for_log(r"messages for consumers dropped.*queue_size \(5\)")
    assert reload(started, {"queue_size": 100}) == "Options changed: queue_size is 100 now."
    for number in range(30, 60):
        client.publish("slow/x", str(number), qos=1)
    go.touch()
    handled: list[int] = []
    while not handled or handled[-1] != 59:
        handled.append(int(client.wait_for("handled").payload))
    first = handled.index(30)
    assert first in (5, 6), "what a consumer is handling may be counted or not"
    assert handled == [*range(first), *range(30, 60)]


def test_include_dir(broker: BrokerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    started = broker("apps.chatty:application", start=False)
    folder = started.folder / "conf.d"
    folder.mkdir()
    whole = started.configuration()
    begin = whole.index("plugin ")
    (folder / "b.conf").write_text(whole[begin:])
    (folder / "c.conf").write_text("max_queued_messages 2000\n")
    # A relative name is relative to where the broker was started.
    monkeypatch.setattr(started, "configuration", lambda: whole[:begin] + "include_dir conf.d\n")
    started.start()
    client = started.client()
    client.subscribe("done", qos=1)
    assert reload(started) == "No option has changed."
    (folder / "b.conf").write_text(whole[begin:] + "plugin_opt_verbosity 2\n")
    assert reload(started) == "Options changed: verbosity is 2 now."
    assert levels(started, client, "first") == "DIW"
    (folder / "a.conf").symlink_to("nowhere")
    assert reload(started).endswith('" cannot be read: No such file or directory')


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_user_mosquitto_may_not_read(broker: BrokerFactory) -> None:
    """The broker read it as root, before it became another user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "python" / "mqttasgi", folder / "mqttasgi" / "mqttasgi")
        shutil.copytree(Path(__file__).parent / "apps", folder / "apps")
        shutil.copy(plugin_path(), folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        started = broker(
            "apps.plain:application",
            plugin=folder / plugin_path().name,
            python_path=[folder],
            options={"virtualenv": None},
            user="mosquitto",
        )
        sentence = (
            '" cannot be read by user mosquitto: Permission denied; let that user read it and send SIGHUP again, or '
            "restart the broker"
        )
        assert sentence in reload(started, {"verbosity": 2})


def test_another_plugins_section_is_not_ours(broker: BrokerFactory, tmp_path: Path) -> None:
    before, after = tmp_path / "before.so", tmp_path / "after.so"
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", before, SUPPORT / "speaking_plugin.c"], check=True)
    shutil.copy(before, after)
    configuration = {
        "lines": [f"plugin {before}", "plugin_opt_verbosity 1"],
        "lines_after": [f"plugin {after}", "plugin_opt_verbosity 1"],
    }
    started, client = start(broker, **configuration)
    assert reload(started) == "No option has changed."
    text = started.configuration()
    started.rewrite(text.replace("plugin_opt_verbosity 1", "plugin_opt_verbosity 2"))
    assert reload(started) == "No option has changed."
    assert levels(started, client, "first") == "W"
    assert reload(started, {"verbosity": 1}) == "Options changed: verbosity is 1 now."
