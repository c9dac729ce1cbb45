"""Hostile or careless application code: the broker serves on, its log says what happened, the consumer answers again.

docs/containment.md is what these tests promise.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import Broker, mosquitto_program, plugin_path
from support.ports import free_port
from support.processes import SANITIZER, running, wait_until
from support.system_log import SystemLog, reason_not

LOOPS = [
    "asyncio",
    pytest.param(
        "uvloop",
        marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="there is no uvloop"),
    ),
]
# ThreadSanitizer knows no table of descriptors of a thread's own, and takes for a race what numpy does in memory that
# it was not told of.
plain_only = pytest.mark.skipif(
    bool(SANITIZER), reason="about Python and the system, not about the plugin's code"
)


class Hostile:
    """A broker whose consumers do what they are told, and an ordinary client of it."""

    def __init__(self, broker: BrokerFactory, *, loop: str = "auto", **arguments: Any) -> None:
        options = {"loop": loop, **arguments.pop("options", {})}
        self.broker: Broker = broker("apps.hostile:application", options=options, **arguments)
        self.client = self.broker.client()
        for topic in ("done/#", "connected/#", "disconnected/#", "mine", "child"):
            self.client.subscribe(topic, qos=1)

    def tell(self, what: str, /, *, to: int = 0, **arguments: Any) -> None:
        """Tell a consumer to do something."""
        self.client.publish(f"do/{to}/{what}", json.dumps(arguments), qos=1)

    def ask(self, what: str, /, *, to: int = 0, timeout: float = 10, **arguments: Any) -> Any:
        """Tell it, and return the result."""
        self.tell(what, to=to, **arguments)
        return json.loads(self.client.wait_for(f"done/{to}", timeout).payload)

    def spawn(self, app_id: int) -> None:
        """Start a worker: each counts its failures for itself."""
        self.tell("spawn", app_id=app_id)
        # The master's answer and the worker's word come in either order.
        missing = {"done/0", f"connected/{app_id}"}
        while missing:
            missing.discard(self.client.wait_for().topic)

    def fail(self, app_id: int) -> None:
        """A new worker fails: the log says so, and it is restarted."""
        since = len(self.broker.log())
        self.spawn(app_id)
        self.tell("raise_here", to=app_id, error="plain")
        self.broker.wait_for_log(f"app_id {app_id}\\) ended with an error handling a message", since=since)
        self.broker.wait_for_log(f"app_id {app_id}\\) runs again", since=since)
        assert self.ask("ping", to=app_id) == "pong"

    def serves(self) -> None:
        """The broker has its clients, and the consumer answers."""
        self.client.publish("mine", b"1", qos=1)
        self.client.wait_for("mine")
        assert self.ask("ping") == "pong"


ERRORS = {
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt: as told",
    "generator": "GeneratorExit: as told",
    "cancelled": "CancelledError",
    "base": "Outcry: <exception str\\(\\) failed>",
    "plain": "RuntimeError: as told",
}


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_raised(broker: BrokerFactory, loop: str) -> None:
    """In a consumer it ends that one, which is restarted; elsewhere it is only logged."""
    hostile = Hostile(broker, loop=loop, expect_traceback="|".join(ERRORS.values()))
    for app_id, error in enumerate([*ERRORS, "exit"], 1):
        hostile.spawn(app_id)
        hostile.tell("raise_here" if app_id <= len(ERRORS) else "raise_in_executor", to=app_id, error=error)
        hostile.tell("ping", to=app_id)
    hostile.serves()
    for app_id, text in enumerate([*ERRORS.values(), ERRORS["exit"]], 1):
        hostile.broker.wait_for_log(
            rf"app_id {app_id}\) ended with an error handling a message on topic 'do/{app_id}/raise_"
        )
        hostile.broker.wait_for_log(text)
        hostile.broker.wait_for_log(rf"app_id {app_id}\) runs again")
    said = [message.topic for message in hostile.client.messages]
    # Those that end by what is no Exception know no goodbye, unless it is a wish to end.
    assert {topic for topic in said if topic.startswith("disconnected/")} == {
        f"disconnected/{app_id}" for app_id in (1, 2, 6, 7)
    }
    pongs = {f"done/{app_id}" for app_id in range(1, 8)}
    wait_until(lambda: pongs <= {message.topic for message in hostile.client.messages}, 5, "what waited")
    for where in ("task", "callback"):
        since = len(hostile.broker.log())
        hostile.ask(f"raise_in_{where}", error="exit")
        hostile.broker.wait_for_log("The application raised through the event loop:", since=since)
        hostile.broker.wait_for_log("SystemExit: 3", since=since)
    hostile.ask("raise_in_thread", error="exit")  # that is how a thread ends itself
    hostile.ask("raise_in_thread", error="plain")
    hostile.broker.wait_for_log(r"Thread Thread-\d.* of the application ended with an error:")
    since = len(hostile.broker.log())
    hostile.ask("raise_unraisable")
    hostile.broker.wait_for_log("mqttasgi: Exception ignored (in|while)", since=since)
    hostile.serves()


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loop_is_not_the_applications(broker: BrokerFactory, loop: str) -> None:
    hostile = Hostile(broker, loop=loop, expect_traceback="SystemExit: handler|RuntimeError: as told")
    hostile.ask("stop_loop")
    hostile.broker.wait_for_log("The application stopped the event loop; it goes on.")
    assert hostile.ask("close_loop") == "RuntimeError"
    hostile.ask("close_stopped_loop")
    hostile.serves()
    assert "cannot be called from a running event loop" in hostile.ask("run_in_loop")
    assert hostile.ask("run_in_thread") == 3
    hostile.ask("other_loop")
    hostile.ask("handler_raises")
    hostile.broker.wait_for_log("SystemExit: handler")
    hostile.ask("handler_default")
    hostile.spawn(1)
    hostile.ask("task_factory", eager=True)
    hostile.fail(2)
    hostile.ask("task_factory", eager=False)
    hostile.spawn(3)
    hostile.serves()
    # With that factory it also ends.
    assert hostile.broker.stop() == 0
    assert "did not end" not in hostile.broker.log()


@plain_only
def test_a_loop_that_cannot_run(broker: BrokerFactory) -> None:
    """The broker goes on without the application, and says so once."""
    hostile = Hostile(broker, loop="asyncio", expect_traceback="OSError|ValueError")
    hostile.tell("close_loops_descriptor")
    hostile.broker.wait_for_log("The event loop cannot run any more")
    hostile.client.publish("mine", b"1", qos=1)
    while hostile.client.wait_for().topic != "mine":
        pass
    # It is tried again a few times, not for ever.
    assert hostile.broker.log().count("The application raised through the event loop:") <= 4
    assert hostile.broker.stop() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_all_tasks_are_cancelled(broker: BrokerFactory, loop: str) -> None:
    """Those of consumers are restarted; at the end nobody waits for what was cancelled."""
    hostile = Hostile(broker, loop=loop, expect_traceback="SystemExit: cancelled")
    hostile.ask("cancel_all")
    hostile.broker.wait_for_log("CancelledError: its task was cancelled")
    hostile.broker.wait_for_log("runs again")
    hostile.serves()
    hostile.ask("later", name="cancel_all_for_ever", arguments={})
    hostile.ask("exit_when_cancelled")
    assert hostile.broker.stop() == 0
    log = hostile.broker.log()
    assert "The application raised through the event loop at its end:" in log
    assert "did not end" not in log
    assert "did not finish" not in log


@pytest.mark.parametrize("loop", LOOPS)
def test_signals_are_the_brokers(broker: BrokerFactory, loop: str) -> None:
    hostile = Hostile(broker, loop=loop)
    hostile.ask("signals")
    for name in ("signal", "alarm", "setitimer"):
        hostile.broker.wait_for_log(rf"mqttasgi: signal\.{name}\(.* has no effect")
    if not SANITIZER:  # AddressSanitizer has a signal stack of its own, and breaks at another's
        hostile.ask("enable_faulthandler")
    hostile.broker.reload()
    hostile.broker.wait_for_log("Reloading config")
    hostile.serves()
    # That is a legitimate wish.
    hostile.tell("terminate")
    assert hostile.broker.wait() == 0


@plain_only
def test_messages_are_only_made_by_the_plugin(broker: BrokerFactory) -> None:
    hostile = Hostile(broker)
    assert hostile.ask("make_a_message") == "cannot create '_mqttasgi.Message' instances"
    hostile.serves()


def test_recursion(broker: BrokerFactory) -> None:
    hostile = Hostile(broker, expect_traceback="RecursionError")
    for where in ("recurse_in_c", "recurse_in_c_in_thread"):
        found = hostile.ask(where)
        assert set(found) <= {"RecursionError", "SyntaxError", "MemoryError"}, found
    assert hostile.ask("recurse_deeply", depth=49_000) == 49_000
    hostile.tell("recurse")
    hostile.broker.wait_for_log("RecursionError: maximum recursion depth exceeded")
    hostile.broker.wait_for_log("runs again")
    hostile.serves()


@plain_only
def test_a_million_tasks(broker: BrokerFactory) -> None:
    """The consumers wait for each other, as with any long computation; clients do not."""
    hostile = Hostile(broker, options={"shutdown_timeout": 1})
    hostile.tell("many_tasks", count=1_000_000)
    hostile.client.publish("mine", b"1", qos=1)
    assert hostile.client.wait_for().topic == "mine"
    hostile.client.wait_for("done/0", 60)
    assert hostile.ask("ping", timeout=60) == "pong"
    hostile.serves()
    assert hostile.broker.stop() == 0


def test_output(broker: BrokerFactory) -> None:
    """What is printed is seen, and a stream that is closed is no consumer's end."""
    hostile = Hostile(broker)
    hostile.ask("say", text="before")
    assert hostile.broker.log().count("before\n") == 2
    hostile.ask("close_stdout")
    hostile.ask("no_stdout")
    hostile.ask("say", text="after")
    assert hostile.broker.log().count("after\n") == 2
    hostile.ask("close_descriptor")
    hostile.ask("say", text="last")
    hostile.ask("say", text="last")
    hostile.broker.wait_for_log(r"Standard output cannot be written \(Bad file descriptor\)")
    assert hostile.broker.log().count("cannot be written") == 1
    # Standard error is still there, and so is the broker's own output.
    assert hostile.broker.log().count("last\n") == 2
    hostile.serves()


@plain_only
def test_output_into_a_broken_pipe(broker: BrokerFactory, tmp_path: Path) -> None:
    command = f"exec {mosquitto_program()} -c '{tmp_path}/broker-0/mosquitto.conf' > >(exec true)"
    hostile = Hostile(broker, command=["bash", "-c", command])
    for _ in range(2):
        hostile.ask("say", text="nobody")
    hostile.broker.wait_for_log(r"Standard output cannot be written \(Broken pipe\)")
    assert hostile.broker.log().count("cannot be written") == 1
    hostile.serves()


@plain_only
def test_warnings(broker: BrokerFactory) -> None:
    """They are in the log; where they are errors, this package has none."""
    hostile = Hostile(broker, expect_traceback="RuntimeError: as told")
    hostile.ask("warn")
    hostile.broker.wait_for_log("mqttasgi: py.warnings: .*UserWarning: be warned")
    hostile.broker.wait_for_log("mqttasgi: py.warnings: .*'warn.<locals>.forgotten' was never awaited")
    hostile.ask("warnings_are_errors")
    hostile.fail(1)
    hostile.ask("signals")
    hostile.serves()


def test_logging(broker: BrokerFactory) -> None:
    """The application's configuration is in force, and what the plugin has to say is said all the same."""
    hostile = Hostile(broker, expect_traceback="RuntimeError: as told")
    hostile.ask("log", text="one")
    hostile.broker.wait_for_log("^mqttasgi: apps: one$")
    for app_id, name in enumerate(("basic", "dict", "none"), 1):
        hostile.ask(f"logging_{name}")
        hostile.ask("log", text=name)
        hostile.fail(app_id)
        hostile.ask("signals")
    log = hostile.broker.log()
    assert "\ntheirs: basic\n" in log
    # Their dictConfig disables the loggers that it does not name.
    assert "theirs: dict" not in log
    assert log.count("signal.alarm(1,) has no effect") == 3


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_forked_children(broker: BrokerFactory, loop: str) -> None:
    """They can be signalled, they log, and none goes on as a second consumer."""
    hostile = Hostile(broker, loop=loop, expect_traceback="RuntimeError: as told")
    assert hostile.ask("fork_and_exit") == 7
    assert hostile.ask("fork_and_log") == 0
    hostile.broker.wait_for_log("^apps: logged by a child$")
    assert hostile.ask("fork_and_fail_in_thread") == 0
    hostile.broker.wait_for_log(r"^Thread Thread-\d.* of the application ended with an error:$")
    for name in ("fork_and_return", "fork_and_await"):
        child = hostile.ask(name)
        assert child > 0
        hostile.tell("ping")
        hostile.client.wait_for("done/0")
        assert hostile.ask("status_of", pid=child) == 70
        hostile.broker.wait_for_log(f"child process {child}, which the application has forked, came back")
    hostile.tell("fork_and_poll")
    hostile.tell("ping")
    child, parent = (json.loads(hostile.client.wait_for("done/0").payload) for _ in range(2))
    assert child > 0 and parent == "pong"
    assert hostile.ask("status_of", pid=child) == 70
    assert hostile.ask("process", method="fork") == -signal.SIGTERM
    hostile.serves()
    assert not [message for message in hostile.client.messages if message.topic == "child"]
    assert hostile.broker.children() == []


#: How application code starts another process.
WAYS = ("popen", "popen_posix_spawn", "popen_async", "system", "spawned", "forked", "forked_terminal")


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_child_programs_can_be_ended(broker: BrokerFactory, loop: str) -> None:
    hostile = Hostile(broker, loop=loop)
    for name in WAYS:
        assert hostile.ask(name) == -signal.SIGTERM, name
    for name in ("popen", "system", "forked"):
        assert hostile.ask("in_thread", name=name, arguments={}) == -signal.SIGTERM, name
    hostile.ask("zombie")
    hostile.serves()


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_signals_that_wait_are_never_let_through(broker: BrokerFactory, loop: str) -> None:
    """The application has sent its own thread signals that end a process; it starts others, in each way."""
    hostile = Hostile(broker, loop=loop)
    names = ["SIGALRM", "SIGPROF", "SIGTERM", "SIGUSR1", "SIGVTALRM"]
    assert hostile.ask("pend", names=names) == names
    hostile.ask("unblock")
    for name in WAYS:
        assert hostile.ask(name) == -signal.SIGTERM, name
    for method in ("fork", "spawn", "forkserver"):
        assert hostile.ask("process", method=method) == -signal.SIGTERM, method
    assert hostile.ask("pending") == names
    hostile.serves()


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_programs_end_with_the_broker(broker: BrokerFactory, loop: str) -> None:
    """Except one that was given a session of its own, to go on."""
    hostile = Hostile(broker, loop=loop)
    ended = [
        hostile.ask("program", name="sleep"),
        hostile.ask("in_thread", name="program", arguments={"name": "sleep"}),
        hostile.ask("program_async", name="sleep"),
    ]
    goes_on = hostile.ask("program", name="sleep", session=True)
    try:
        assert hostile.broker.stop() == 0
        for child in ended:
            wait_until(lambda child=child: not running(child), 10, "the end of the program")
        assert re.findall(
            r"Child process (\d+) \(sleep\) of the application is ended", hostile.broker.log()
        ) == [str(child) for child in sorted(ended)]
        assert running(goes_on)
    finally:
        os.kill(goes_on, signal.SIGKILL)


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_programs_whose_threads_have_ended(broker: BrokerFactory, loop: str) -> None:
    """Mosquitto's own thread hears of their end. libuv's handler would write to its pipe there, whose number is that
    of one of the broker's descriptors."""
    hostile = Hostile(broker, loop=loop)
    found = hostile.ask("programs_of_ended_threads")
    assert found == (plugin_path().name if loop == "uvloop" else "")
    assert hostile.broker.stop() == 0


@plain_only
def test_programs_that_do_not_end_are_killed(broker: BrokerFactory) -> None:
    """With what is left of shutdown_timeout to do it by themselves."""
    hostile = Hostile(broker, options={"shutdown_timeout": 2})
    children = [hostile.ask("stubborn_program")]
    children += [hostile.ask("stubborn_process", daemon=daemon) for daemon in (False, True)]
    try:
        assert hostile.broker.stop() == 0
        log = hostile.broker.log()
        assert sorted(
            map(int, re.findall(r"Child process (\d+) \(.*\) .* did not end at SIGTERM", log))
        ) == sorted(children)
        for child in children:
            wait_until(lambda child=child: not running(child), 2, "the end of the program")
        assert "did not end within shutdown_timeout" not in log
    finally:
        for child in filter(running, children):
            os.kill(child, signal.SIGKILL)


@plain_only
def test_programs_have_time_to_end(broker: BrokerFactory, tmp_path: Path) -> None:
    hostile = Hostile(broker, options={"shutdown_timeout": 10})
    hostile.ask("slow_program", marker=str(tmp_path / "marker"))
    assert hostile.broker.stop() == 0
    assert (tmp_path / "marker").read_text() == "done\n"
    assert "did not end" not in hostile.broker.log()


@plain_only
def test_pools_of_processes_end_with_the_broker(broker: BrokerFactory) -> None:
    hostile = Hostile(broker)
    for method in ("fork", "spawn"):
        assert hostile.ask("pool", method=method) == [0, 1, 4, 9]
    name = hostile.ask("left_process", daemon=False)
    daemon = hostile.ask("left_process", daemon=True)
    assert hostile.broker.stop() == 0
    log = hostile.broker.log()
    assert re.search(
        rf"Child process \d+ \({name}\) of the application is ended with the broker\.$", log, re.MULTILINE
    )
    assert f"({daemon})" not in log
    assert "did not end" not in log


@plain_only
def test_a_busy_pool_of_processes_ends_with_the_broker(broker: BrokerFactory, tmp_path: Path) -> None:
    hostile = Hostile(broker)
    hostile.ask("busy_pool", marker=str(tmp_path / "marker"))
    (child,) = hostile.broker.children()
    assert hostile.broker.stop() == 0
    wait_until(lambda: not running(child), 5, "the end of the pool's process")
    log = hostile.broker.log()
    assert f"Child process {child} (" in log
    assert "did not end" not in log


@plain_only
def test_a_daemons_child_keeps_nothing_of_the_brokers(broker: BrokerFactory) -> None:
    hostile = Hostile(broker)
    child = hostile.ask("grandchild")
    try:
        hostile.broker.restart()
        assert running(child)
        hostile.broker.client().publish("mine", b"", qos=1)
    finally:
        os.kill(child, signal.SIGKILL)


@plain_only
@pytest.mark.parametrize("loop", LOOPS)
def test_the_systems_log(broker: BrokerFactory, tmp_path: Path, loop: str) -> None:
    """The C library has one descriptor for it, the broker's, which is nothing or another one's for the application."""
    if reason_not():
        pytest.skip(reason_not())
    with SystemLog() as log:
        command = log.command(tmp_path / "broker-0" / "mosquitto.conf")
        hostile = Hostile(broker, loop=loop, command=command, lines=["log_dest syslog"])
        hostile.ask("open_pairs")
        hostile.ask("write_syslog_in_c", text="by a library")
        log.wait_for("by a library")
        for text in ("first", "after a restart", "after another"):
            hostile.ask("write_syslog", text=text)
            log.wait_for(f"mosquitto: {text}")
            hostile.ask("in_thread", name="write_syslog", arguments={"text": f"thread {text}"})
            log.wait_for(f"mosquitto: thread {text}")
            assert hostile.ask("write_syslog_in_child", text=f"child {text}") == 0
            log.wait_for(f"mosquitto: child {text}")
            since = len(log.text())
            hostile.broker.client()
            wait_until(
                lambda since=since: "New client connected" in log.text()[since:], 10, "the broker's own line"
            )
            hostile.serves()
            log.restart()
        assert hostile.ask("heard_in_pairs") == []


@plain_only
def test_libraries_keep_no_other_descriptor(broker: BrokerFactory) -> None:
    """Else it were one of the broker's, too: the libraries are the same."""
    assert Hostile(broker).ask("left_by_libraries") == []


def umask_of(broker: Broker) -> str:
    """The broker thread's umask."""
    (line,) = re.findall("^Umask:.*", Path(f"/proc/{broker.pid}/status").read_text(), re.MULTILINE)
    return str(line)


def test_what_a_process_has_only_once(broker: BrokerFactory, tmp_path: Path) -> None:
    """Folder and umask are the application's own; it may forget its environment and this package's modules."""
    hostile = Hostile(broker, expect_traceback="RuntimeError: as told|RuntimeError: trace|RuntimeError: hook")
    umask = umask_of(hostile.broker)
    hostile.ask("careless")
    assert Path(f"/proc/{hostile.broker.pid}/cwd").readlink() == hostile.broker.folder
    assert umask_of(hostile.broker) == umask
    hostile.spawn(1)
    hostile.ask("hooks_raise")
    hostile.ask("raise_in_thread", error="plain")
    hostile.ask("raise_unraisable")
    for how in ("raises", "exits"):
        hostile.ask("at_exit", how=how)
    hostile.tell("trace_raises")
    hostile.broker.wait_for_log("app_id 0\\) runs again")
    hostile.serves()
    assert hostile.broker.stop() == 0
    assert {"at exit raises", "at exit exits"} <= set(hostile.broker.log().splitlines())


def test_the_end_does_not_wait_for_what_hangs_there(broker: BrokerFactory) -> None:
    hostile = Hostile(broker, options={"shutdown_timeout": 1})
    hostile.ask("at_exit", how="hangs")
    assert hostile.broker.stop() == 0
    assert "did not end within shutdown_timeout (1 s)" in hostile.broker.log()


def test_threads_that_outlive_the_application(broker: BrokerFactory) -> None:
    """They may log and publish as long as the process lives, which they do not prolong."""
    hostile = Hostile(broker)
    hostile.ask("outliving_threads")
    hostile.broker.wait_for_log("still here")
    hostile.serves()
    assert hostile.broker.stop() == 0
    assert "did not end" not in hostile.broker.log()


@plain_only
@pytest.mark.skipif(not Path("/usr/share/i18n/locales/de_DE").exists(), reason="there is no locale to build")
def test_the_brokers_numbers_keep_their_point(broker: BrokerFactory, tmp_path: Path) -> None:
    folder = tmp_path / "locales"
    folder.mkdir()
    built = folder / "de_DE.UTF-8"
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", built], check=False, capture_output=True)
    hostile = Hostile(broker, environment={"LOCPATH": str(folder)}, lines=["sys_interval 1"])
    assert hostile.ask("set_locale", name="de_DE.UTF-8") == "1,5"
    client = hostile.broker.client()
    client.subscribe("$SYS/broker/load/messages/received/1min")

    def comes_again() -> bool:
        # Mosquitto 2.1 may not look whether it is time while it has nothing else to do.
        hostile.ask("ping")
        return len(client.messages) > 1

    wait_until(comes_again, 10, "a load that was computed since")
    assert re.fullmatch(r"\d+\.\d\d", client.messages[-1].payload.decode())


@plain_only
def test_extension_modules(broker: BrokerFactory) -> None:
    """Imported in the master, used there, in a thread, in a worker, and after a restart."""
    pytest.importorskip("numpy")
    pytest.importorskip("psycopg")
    pytest.importorskip("cryptography")
    port = free_port()
    uses: list[tuple[str, dict[str, Any], Any]] = [
        ("use_numpy", {}, 0.5),
        ("use_cryptography", {}, "secret"),
        ("use_psycopg", {"port": port}, "OperationalError"),
    ]
    hostile = Hostile(broker, expect_traceback="RuntimeError: as told")
    hostile.spawn(1)
    for to in (0, 1):
        for name, arguments, result in uses:
            assert hostile.ask(name, to=to, timeout=30, **arguments) == result
            assert hostile.ask("in_thread", to=to, name=name, arguments=arguments) == result
    for app_id in (0, 1):
        hostile.tell("raise_here", to=app_id, error="plain")
    for app_id in (0, 1):
        hostile.broker.wait_for_log(f"app_id {app_id}\\) runs again")
        for name, arguments, result in uses:
            assert hostile.ask(name, to=app_id, **arguments) == result
    hostile.serves()
