"""Memcheck has nothing to say of the plugin in a real broker. The interpreter and Mosquitto are not looked at."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import SANITIZER, mosquitto_program
from support.consumers import Consumers, Heard

SUPPRESSIONS = Path(__file__).parents[1] / "support" / "valgrind.supp"
PLUGIN = "mqttasgi_plugin.so"
LEAKS_THAT_ARE_NONE = {"Leak_StillReachable", "Leak_IndirectlyLost", "Leak_PossiblyLost"}
# What the interpreter runs from here on is not the plugin's, though its thread called it.
INTERPRETER = {
    "_PyEval_EvalFrameDefault",
    "Py_InitializeFromConfig",
    "PyImport_ImportModule",
    "PyImport_Import",
}


def is_of_the_plugin(stack: xml.Element) -> bool:
    """Return whether the plugin is in the stack, or has called what is, with no Python code between."""
    for frame in stack.iter("frame"):
        if (frame.findtext("obj") or "").endswith(PLUGIN):
            return True
        if frame.findtext("fn") in INTERPRETER:
            return False
    return False


def of_the_plugin(report: Path) -> list[str]:
    """Return the plugin's errors: of which it is in a stack, also in the one that made or freed the block."""
    found = []
    for error in xml.parse(report).getroot().iter("error"):
        kind = error.findtext("kind") or ""
        if kind not in LEAKS_THAT_ARE_NONE and any(map(is_of_the_plugin, error.iter("stack"))):
            lines = [
                f"  {frame.findtext('fn') or frame.findtext('obj')} ({frame.findtext('file')}:{frame.findtext('line')})"
                for frame in error.iter("frame")
            ]
            found.append("\n".join([kind, *lines]))
    return found


@pytest.mark.long
@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer and valgrind do not go together")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("session", ["full", "off"])
def test_the_plugin_in_a_broker(broker: BrokerFactory, tmp_path: Path, session: str) -> None:
    """Subscribes, publishes, fails, is restarted, stops."""
    report = tmp_path / "report.xml"
    started = broker(
        "apps.listener:application",
        start=False,
        options={"session": session, "startup_timeout": 300, "shutdown_timeout": 60},
        # Python's own allocator would hide its blocks.
        environment={"PYTHONMALLOC": "malloc"},
        expect_traceback="RuntimeError: as told",
        command=[
            *("valgrind", "--quiet", "--fair-sched=try", "--leak-check=full", "--num-callers=40"),
            *("--xml=yes", f"--xml-file={report}", f"--suppressions={SUPPRESSIONS}"),
            *(mosquitto_program(), "-c", str(tmp_path / "broker-0" / "mosquitto.conf")),
        ],
    )
    started.start(timeout=300)
    if session == "full":
        started.wait_for_log("Session with the listener", 120)
    consumers = Consumers(started)
    consumers.subscribe("k/#")
    consumers.spawn(1)
    consumers.subscribe("k/x", to=1)
    client = started.client()
    for number in range(20):
        client.publish("k/x", str(number), qos=number % 3, retain=number == 19)
    heard = consumers.heard()
    assert len(heard) == len(consumers.heard(to=1)) == 20
    client.publish("do/0/fail", "{}", qos=1)
    started.wait_for_log(r"\(master, app_id 0\) runs again", 120)
    consumers.subscribe("k/#")
    client.publish("k/y", "again", qos=1)
    assert Heard("k/y", "again", 1, False) in consumers.heard()
    assert started.stop(timeout=120) == 0
    errors = of_the_plugin(report)
    assert not errors, "errors of valgrind:\n" + "\n\n".join(errors)
