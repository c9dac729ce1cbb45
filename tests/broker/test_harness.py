"""The harness itself, against a Mosquitto without the plugin: what it reports when things go wrong must be true."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from conftest import BrokerFactory
from support.broker import Broker, BrokerFailed, mosquitto_version
from support.processes import running
from support.redis import RedisServer


def test_start_publish_subscribe_stop(broker: BrokerFactory) -> None:
    plain = broker(plugin=None)
    subscriber, publisher = plain.client(), plain.client(client_id="publisher")
    subscriber.subscribe("a/#", qos=2)
    for qos in (0, 1, 2):
        publisher.publish(f"a/{qos}", f"payload {qos}", qos=qos)
        message = subscriber.wait_for()
        assert (message.topic, message.payload, message.qos) == (
            f"a/{qos}",
            f"payload {qos}".encode(),
            qos,
        )
    assert len(subscriber.messages) == 3
    assert "publisher" in plain.wait_for_log(r"Received PUBLISH from publisher .*'a/2'")[0]
    pid = plain.pid
    assert plain.stop() == 0
    assert not running(pid)
    assert plain.stop() == 0


@pytest.mark.parametrize("protocol", [paho.MQTTv31, paho.MQTTv311, paho.MQTTv5])
def test_every_protocol_version(broker: BrokerFactory, protocol: int) -> None:
    client = broker(plugin=None).client(protocol=protocol, client_id="c")
    assert client.client_id == "c"
    client.subscribe("t", qos=1)
    client.publish("t", b"\0\xff", qos=1)
    assert client.wait_for("t").payload == b"\0\xff"
    client.unsubscribe("t")
    client.publish("t", qos=1)
    client.expect_nothing(0.05)


def test_retained_and_persisted_over_a_restart(broker: BrokerFactory) -> None:
    plain = broker(plugin=None, persistence=True)
    plain.client().publish("kept", "value", qos=1, retain=True)
    port = plain.port
    plain.restart()
    assert plain.port == port
    client = plain.client()
    client.subscribe("kept")
    message = client.wait_for("kept")
    assert message.retain and message.payload == b"value"


def test_last_will_of_a_client_that_vanishes(broker: BrokerFactory) -> None:
    plain = broker(plugin=None)
    watcher = plain.client()
    watcher.subscribe("will")
    victim = plain.client(will=("will", "gone", 0, False))
    victim.abort()
    victim.wait_for_disconnect()
    assert watcher.wait_for("will").payload == b"gone"


def test_wrong_configuration_is_told_with_the_log(broker: BrokerFactory) -> None:
    plain = broker(plugin=None, lines=["no_such_line 1"], start=False)
    with pytest.raises(BrokerFailed, match="no_such_line") as caught:
        plain.start()
    assert caught.value.status not in (0, None)
    assert "no_such_line" in caught.value.log


def test_missing_plugin_is_told(broker: BrokerFactory, tmp_path: Path) -> None:
    absent = broker(plugin=tmp_path / "absent.so", start=False)
    with pytest.raises(FileNotFoundError, match="absent.so"):
        absent.start()


def test_refused_client_is_told(broker: BrokerFactory) -> None:
    plain = broker(plugin=None, anonymous=False)
    with pytest.raises(ConnectionError, match="[Nn]ot authori[sz]ed"):
        plain.client()


def test_wait_for_says_what_else_came(broker: BrokerFactory) -> None:
    client = broker(plugin=None).client()
    client.subscribe("#")
    client.publish("other", "surprise", qos=1)
    with pytest.raises(AssertionError, match="no message to wanted.*other=b'surprise'"):
        client.wait_for("wanted", timeout=0.1)
    client.publish("more", "x", qos=1)
    with pytest.raises(AssertionError, match="more=b'x'"):
        client.expect_nothing()


def test_wait_for_log_says_when_the_broker_has_ended(broker: BrokerFactory) -> None:
    plain = broker(plugin=None)
    with pytest.raises(AssertionError, match="no such line.*did not come"):
        plain.wait_for_log("no such line", timeout=0.05)
    os.kill(plain.pid, signal.SIGTERM)
    with pytest.raises(BrokerFailed, match="without saying"):
        plain.wait_for_log("no such line")


def test_costs_are_numbers_of_this_process(broker: BrokerFactory) -> None:
    plain = broker(plugin=None)
    before = plain.descriptors()
    assert 1 << 20 < plain.rss() < 1 << 30
    assert plain.threads() >= 1
    assert plain.cpu_seconds() < 60
    client = plain.client()
    assert plain.descriptors() == before + 1
    assert len(plain.descriptor_targets()) == before + 1
    assert client.connected


def test_crash_is_told(broker: BrokerFactory) -> None:
    plain = broker(plugin=None)
    os.kill(plain.pid, signal.SIGABRT)
    assert plain.stop() == -signal.SIGABRT


def test_finish_fails_after_a_bad_end(tmp_path: Path) -> None:
    plain = Broker(tmp_path, plugin=None).start()
    os.kill(plain.pid, signal.SIGKILL)
    with pytest.raises(BrokerFailed, match="ended badly"):
        plain.finish()


@pytest.mark.parametrize(
    "line",
    [
        "==12==ERROR: AddressSanitizer: heap-use-after-free on address 0x1",
        "WARNING: ThreadSanitizer: data race (pid=1)",
        "plugin/shared/queue.c:10:3: runtime error: signed integer overflow",
        "==12==ERROR: LeakSanitizer: detected memory leaks",
        "Fatal Python error: Segmentation fault",
        "Traceback (most recent call last)\nValueError: x",
    ],
)
def test_check_log_finds(tmp_path: Path, line: str) -> None:
    plain = Broker(tmp_path, plugin=None)
    (tmp_path / "broker.log").write_text(f"mosquitto version 2\n{line}\n")
    with pytest.raises(AssertionError):
        plain.check_log()
    plain.check_log()


def test_check_log_knows_expected_tracebacks(tmp_path: Path) -> None:
    plain = Broker(tmp_path, plugin=None, expect_traceback="ZeroDivisionError")
    log = tmp_path / "broker.log"
    log.write_text("Traceback (most recent call last):\n  File x\nZeroDivisionError: y\n")
    plain.check_log()
    with log.open("a") as more:
        more.write("Traceback (most recent call last):\n  File x\nValueError: y\n")
    with pytest.raises(AssertionError, match="ValueError"):
        plain.check_log()


def test_children_left_behind_are_told_and_ended(tmp_path: Path) -> None:
    plain = Broker(tmp_path, plugin=None)
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, "MQTTASGI_TEST_BROKER": plain._tag})
    try:
        with pytest.raises(AssertionError, match="sleep 60"):
            plain.finish()
        assert child.wait(5) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_configuration_has_the_plugins_lines(tmp_path: Path) -> None:
    with_plugin = Broker(
        tmp_path,
        application="a.b:c",
        python_path=["/x y", "/z"],
        options={"session": "off", "cleansession": False, "port": None},
        lines=["max_inflight_messages 1"],
        plugin=Path("/p.so"),
    )
    lines = with_plugin.configuration().splitlines()
    assert lines.index("plugin /p.so") < lines.index("plugin_opt_application a.b:c")
    assert "plugin_opt_python_path /x y:/z" in lines
    assert "plugin_opt_session off" in lines
    assert "plugin_opt_cleansession false" in lines
    assert not [line for line in lines if line.startswith("plugin_opt_port")]
    assert lines.index("max_inflight_messages 1") < lines.index("plugin /p.so")


def test_mosquitto_version() -> None:
    assert mosquitto_version() >= (2, 0, 11)


def test_redis_server_comes_back_on_its_port(redis_server: RedisServer) -> None:
    url = redis_server.url
    redis_server.stop()
    redis_server.start()
    assert redis_server.url == url
