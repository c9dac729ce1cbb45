"""Does to the process and to the event loop what a message tells it: `do/APP_ID/NAME`, with the arguments as JSON."""

import asyncio
import atexit
import concurrent.futures
import contextlib
import copy
import ctypes
import faulthandler
import gc
import grp
import inspect
import json
import locale
import logging
import logging.config
import multiprocessing
import os
import pickle
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import syslog
import tempfile
import threading
import time
import warnings
from typing import Any, Callable

import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer

ACTIONS: dict[str, Callable[..., Any]] = {}
#: What is to outlive a message.
kept: list[Any] = []
#: What is to be done in disconnect(): names and arguments.
at_disconnect: list[Any] = []
logger = logging.getLogger("apps")


def action(function: Callable[..., Any]) -> Callable[..., Any]:
    ACTIONS[function.__name__] = function
    return function


class Hostile(MqttConsumer):
    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.subscribe(f"do/{self.scope['app_id']}/#", 1)
        await self.publish(f"connected/{self.scope['app_id']}", b"")

    async def receive(self, mqtt_message: Any) -> None:
        arguments = json.loads(mqtt_message["payload"] or b"{}")
        result = await perform(self, mqtt_message["topic"].split("/")[2], arguments)
        await self.publish(f"done/{self.scope['app_id']}", json.dumps(result))

    async def disconnect(self) -> None:
        for name, arguments in at_disconnect:
            await perform(self, name, arguments)
        await self.publish(f"disconnected/{self.scope['app_id']}", b"")


async def perform(consumer: Hostile, name: str, arguments: Any) -> Any:
    result = ACTIONS[name](consumer, **arguments)
    return await result if inspect.isawaitable(result) else result


application = Hostile.as_asgi()


@action
def ping(consumer: Hostile) -> str:
    return "pong"


@action
async def spawn(consumer: Hostile, app_id: int) -> None:
    await consumer.spawn_worker(app_id, "apps.hostile.Hostile")


@action
def later(consumer: Hostile, name: str, arguments: Any) -> None:
    at_disconnect.append((name, arguments))


@action
def make_a_message(consumer: Hostile) -> str:
    import _mqttasgi

    (kind,) = (found for found in gc.get_referents(_mqttasgi) if getattr(found, "__name__", "") == "Message")
    try:
        kind()
    except TypeError as error:
        return str(error)
    return "made"


class Outcry(BaseException):
    """No Exception, and not to be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt("as told"),
    "generator": lambda: GeneratorExit("as told"),
    "cancelled": lambda: asyncio.CancelledError("as told"),
    "base": Outcry,
    "plain": lambda: RuntimeError("as told"),
}


@action
def raise_here(consumer: Hostile, error: str) -> None:
    raise ERRORS[error]()


@action
async def raise_in_task(consumer: Hostile, error: str) -> None:
    async def fail() -> None:
        raise ERRORS[error]()

    kept.append(asyncio.create_task(fail()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@action
async def raise_in_callback(consumer: Hostile, error: str) -> None:
    def fail() -> None:
        raise ERRORS[error]()

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@action
def raise_in_thread(consumer: Hostile, error: str) -> None:
    def fail() -> None:
        raise ERRORS[error]()

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


@action
async def raise_in_executor(consumer: Hostile, error: str) -> None:
    def fail() -> None:
        raise ERRORS[error]()

    await asyncio.to_thread(fail)


@action
def raise_unraisable(consumer: Hostile) -> None:
    class Bad:
        def __del__(self) -> None:
            raise RuntimeError("as told")

    Bad()


# ---- the loop ----


@action
def stop_loop(consumer: Hostile) -> None:
    asyncio.get_running_loop().stop()


@action
def close_loop(consumer: Hostile) -> str:
    return outcome(asyncio.get_running_loop().close)


@action
async def close_stopped_loop(consumer: Hostile) -> None:
    loop = asyncio.get_running_loop()
    switch = sys.getswitchinterval()
    done = threading.Event()

    def close() -> None:
        while not done.is_set():
            try:
                loop.close()
            except RuntimeError:
                continue
            else:
                done.set()

    thread = threading.Thread(target=close)
    sys.setswitchinterval(1e-6)
    thread.start()
    for _ in range(20):
        loop.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    done.set()
    sys.setswitchinterval(switch)


@action
def close_loops_descriptor(consumer: Hostile) -> None:
    for name in os.listdir("/proc/thread-self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/thread-self/fd/{name}") == "anon_inode:[eventpoll]":
                os.close(int(name))


@action
def handler_raises(consumer: Hostile) -> None:
    def handler(loop: Any, context: Any) -> None:
        raise SystemExit("handler")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)


@action
def handler_default(consumer: Hostile) -> None:
    asyncio.get_running_loop().set_exception_handler(None)


@action
def run_in_loop(consumer: Hostile) -> str:
    async def nothing() -> None:
        pass

    coroutine = nothing()
    try:
        asyncio.run(coroutine)
    except RuntimeError as error:
        return str(error)
    finally:
        coroutine.close()
    return ""


@action
async def run_in_thread(consumer: Hostile) -> int:
    async def three() -> int:
        await asyncio.sleep(0)
        return 3

    return await asyncio.to_thread(lambda: asyncio.run(three()))


@action
def other_loop(consumer: Hostile) -> None:
    asyncio.set_event_loop(None)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


@action
def task_factory(consumer: Hostile, eager: bool) -> str:
    def factory(loop: Any, coroutine: Any, **arguments: Any) -> Any:
        coroutine.close()
        raise RuntimeError("no tasks today")

    loop = asyncio.get_running_loop()
    if eager:
        loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
    else:
        loop.set_task_factory(factory)
    return "set"


@action
def task_factory_default(consumer: Hostile) -> None:
    asyncio.get_running_loop().set_task_factory(None)


@action
def cancel_all(consumer: Hostile) -> None:
    for task in asyncio.all_tasks():
        task.cancel()


@action
async def cancel_all_for_ever(consumer: Hostile) -> None:
    """Also when it is cancelled itself."""

    async def cancel() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

    asyncio.get_running_loop().call_soon(lambda: kept.append(asyncio.ensure_future(cancel())))


@action
def exit_when_cancelled(consumer: Hostile) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit("cancelled")

    kept.extend(asyncio.ensure_future(stubborn()) for _ in range(3))


@action
async def many_tasks(consumer: Hostile, count: int) -> None:
    async def wait(future: Any) -> None:
        await future

    future = asyncio.get_running_loop().create_future()
    # Looking for garbage again and again would take most of the time. It goes on with all of them there.
    gc.disable()
    kept.append([asyncio.create_task(wait(future)) for _ in range(count)])
    await asyncio.sleep(0)
    gc.enable()


# ---- signals ----


@action
def signals(consumer: Hostile) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    loop.remove_signal_handler(signal.SIGHUP)
    signal.siginterrupt(signal.SIGTERM, False)
    signal.set_wakeup_fd(-1)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)


@action
def pend(consumer: Hostile, names: list[str]) -> list[str]:
    """Signals for this thread that wait until somebody unblocks them."""
    for name in names:
        signal.pthread_kill(threading.get_ident(), getattr(signal, name))
    return pending(consumer)


@action
def pending(consumer: Hostile) -> list[str]:
    return sorted(signal.Signals(number).name for number in signal.sigpending())


@action
def unblock(consumer: Hostile) -> None:
    """In each way, one after the other."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, range(1, 32))
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@action
def enable_faulthandler(consumer: Hostile) -> None:
    faulthandler.enable()


@action
def terminate(consumer: Hostile) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# ---- recursion ----


def nested(depth: int) -> list[Any]:
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    return data


@action
def recurse(consumer: Hostile) -> None:
    def again() -> None:
        again()

    again()


@action
def recurse_in_c(consumer: Hostile) -> list[str]:
    data, other = nested(200_000), nested(200_000)

    class Key:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __lt__(self, other: Any) -> bool:
            return sorted([Key(1), Key(2)])[0] is None

    return [
        outcome(work)
        for work in (
            lambda: repr(data),
            lambda: json.dumps(data),
            lambda: json.loads("[" * 200_000),
            lambda: copy.deepcopy(data),
            lambda: pickle.dumps(data),
            lambda: data == other,
            lambda: sorted([Key(1), Key(2)]),
            lambda: compile("(" * 200_000, "", "eval"),
            lambda: isinstance(1, nested_tuple(200_000)),
        )
    ]


def nested_tuple(depth: int) -> Any:
    data: Any = str
    for _ in range(depth):
        data = (data,)
    return data


def outcome(work: Callable[[], Any]) -> str:
    try:
        work()
    except Exception as error:
        return type(error).__name__
    return ""


@action
async def recurse_in_c_in_thread(consumer: Hostile) -> list[str]:
    found: list[str] = await asyncio.to_thread(recurse_in_c, consumer)
    return found


@action
def recurse_deeply(consumer: Hostile, depth: int) -> int:
    def deeper(left: int) -> int:
        return 1 + deeper(left - 1) if left else 0

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 1000)
    try:
        return deeper(depth)
    finally:
        sys.setrecursionlimit(before)


# ---- output ----


@action
def say(consumer: Hostile, text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


@action
def close_stdout(consumer: Hostile) -> None:
    sys.stdout.close()
    sys.stderr.close()


@action
def close_descriptor(consumer: Hostile) -> None:
    os.close(1)


@action
def no_stdout(consumer: Hostile) -> None:
    kept.append(sys.stdout)
    sys.stdout = None  # type: ignore[assignment]
    print("nobody")
    sys.stdout = kept.pop()


@action
def warn(consumer: Hostile) -> None:
    async def forgotten() -> None:
        pass

    warnings.warn("be warned", UserWarning, stacklevel=1)
    forgotten()
    gc.collect()


@action
def warnings_are_errors(consumer: Hostile) -> None:
    warnings.simplefilter("error")


# ---- logging ----


@action
def log(consumer: Hostile, text: str) -> None:
    logger.warning(text)


@action
def logging_basic(consumer: Hostile) -> None:
    logging.basicConfig(force=True, format="theirs: %(message)s")


@action
def logging_dict(consumer: Hostile) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"theirs": {"format": "theirs: %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "theirs"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    )


@action
def logging_none(consumer: Hostile) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    logging.shutdown()
    logging.raiseExceptions = False
    logging.disable(logging.CRITICAL)


# ---- the process ----


@action
def careless(consumer: Hostile) -> None:
    gc.disable()
    gc.freeze()
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mqttasgi"]:
        del sys.modules[name]


@action
def set_locale(consumer: Hostile, name: str) -> str:
    locale.setlocale(locale.LC_ALL, name)
    return f"{1.5:n}"


@action
def trace_raises(consumer: Hostile) -> None:
    def trace(*_: Any) -> None:
        raise RuntimeError("trace")

    sys.settrace(trace)


@action
def hooks_raise(consumer: Hostile) -> None:
    def hook(*_: Any) -> None:
        raise RuntimeError("hook")

    sys.excepthook = threading.excepthook = sys.unraisablehook = hook


@action
def at_exit(consumer: Hostile, how: str) -> None:
    def last() -> None:
        print("at exit", how, flush=True)
        if how == "raises":
            raise RuntimeError("at exit")
        if how == "exits":
            sys.exit(4)
        if how == "hangs":
            time.sleep(3600)

    atexit.register(last)


# ---- children ----


@action
def fork_and_exit(consumer: Hostile) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@action
def fork_and_return(consumer: Hostile) -> int:
    # The child's 0 goes where the parent's number goes, and must not arrive.
    return os.fork()


@action
def fork_and_log(consumer: Hostile) -> int:
    pid = os.fork()
    if pid == 0:
        logger.warning("logged by a child")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@action
def fork_and_fail_in_thread(consumer: Hostile) -> int:
    pid = os.fork()
    if pid == 0:
        raise_in_thread(consumer, "plain")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@action
async def fork_and_await(consumer: Hostile) -> Any:
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)
        await consumer.publish("child", b"")
        os._exit(9)
    return pid


@action
async def fork_and_poll(consumer: Hostile) -> int:
    """The child polls while something waits that is for its parent."""
    pid = os.fork()
    if pid == 0:
        time.sleep(0.3)
        await asyncio.sleep(0)
        os._exit(9)
    time.sleep(0.6)
    return pid


@action
async def status_of(consumer: Hostile, pid: int) -> int:
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])


def square(number: int) -> int:
    return number * number


def sleep_long() -> None:
    time.sleep(3600)


@action
async def pool(consumer: Hostile, method: str) -> list[int]:
    executor = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method))
    kept.append(executor)
    loop = asyncio.get_running_loop()
    return list(await asyncio.gather(*[loop.run_in_executor(executor, square, n) for n in range(4)]))


@action
def busy_pool(consumer: Hostile, marker: str) -> None:
    """Returns when a job runs that does not end by itself."""
    executor = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    kept.append((executor, executor.submit(mark_and_sleep, marker)))
    while not os.path.exists(marker):
        time.sleep(0.01)


def mark_and_sleep(marker: str) -> None:
    with open(marker, "x"):
        pass
    sleep_long()


@action
def process(consumer: Hostile, method: str) -> int:
    child = multiprocessing.get_context(method).Process(target=sleep_long)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode or 0


@action
def left_process(consumer: Hostile, daemon: bool) -> str:
    child = multiprocessing.get_context("fork").Process(target=sleep_long, daemon=daemon)
    child.start()
    kept.append(child)
    return child.name


@action
def popen(consumer: Hostile) -> int:
    child = subprocess.Popen(["sleep", "3600"])
    child.terminate()
    return child.wait()


@action
def popen_posix_spawn(consumer: Hostile) -> int:
    child = subprocess.Popen(["/bin/sleep", "3600"], close_fds=False)
    child.terminate()
    return child.wait()


@action
async def popen_async(consumer: Hostile) -> int:
    child = await asyncio.create_subprocess_exec("sleep", "3600")
    child.terminate()
    return await child.wait()


@action
def spawned(consumer: Hostile) -> int:
    pid = os.posix_spawnp("sleep", ["sleep", "3600"], os.environ)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@action
def forked(consumer: Hostile) -> int:
    pid = os.fork()
    if pid == 0:
        # This one may unblock what it likes.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@action
def forked_terminal(consumer: Hostile) -> int:
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execvp("sleep", ["sleep", "3600"])
    os.kill(pid, signal.SIGTERM)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)


@action
def program(consumer: Hostile, name: str, session: bool = False) -> int:
    """One that runs on."""
    child = subprocess.Popen([name, "3600"], start_new_session=session)
    kept.append(child)
    return child.pid


def whose_is_the_handler(number: int) -> str:
    """The file that the process' handler of a signal is in; empty: there is none."""
    action = (ctypes.c_void_p * 32)()  # its first member is the handler
    assert ctypes.CDLL(None).sigaction(number, None, action) == 0
    address = action[0] or 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            first, last = (int(end, 16) for end in line.split()[0].split("-"))
            if first <= address < last:
                return os.path.basename(line.split()[-1])
    return ""


@action
async def programs_of_ended_threads(consumer: Hostile) -> str:
    """Their ends are told to the process' first thread; meanwhile the loop waits for one of its own. Returns whose
    handler that thread calls."""
    waited = await asyncio.create_subprocess_exec("sleep", "3600")

    def start() -> None:
        kept.append(subprocess.Popen(["sleep", "0.2"]))

    for _ in range(20):
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        await asyncio.sleep(0.02)
    found = whose_is_the_handler(signal.SIGCHLD)
    for child in kept:
        await asyncio.to_thread(child.wait)
    waited.terminate()
    await waited.wait()
    return found


@action
def stubborn_program(consumer: Hostile) -> int:
    """One that SIGTERM does not end."""
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 3600"], stdout=subprocess.PIPE)
    kept.append(child)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


@action
def slow_program(consumer: Hostile, marker: str) -> int:
    """One that has a second's work before it ends."""
    script = "trap 'sleep 1; echo done >\"$0\"; exit' TERM; echo; while :; do sleep 0.1; done"
    child = subprocess.Popen(["sh", "-c", script, marker], stdout=subprocess.PIPE)
    kept.append(child)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def ignore_sigterm(connection: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send("ready")
    sleep_long()


@action
def stubborn_process(consumer: Hostile, daemon: bool) -> int:
    """The same of multiprocessing's."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=ignore_sigterm, args=(there,), daemon=daemon)
    child.start()
    kept.append(child)
    here.recv()
    assert child.pid is not None
    return child.pid


@action
async def program_async(consumer: Hostile, name: str) -> int:
    child = await asyncio.create_subprocess_exec(name, "3600")
    kept.append(child)
    return child.pid


@action
def system(consumer: Hostile) -> int:
    return os.waitstatus_to_exitcode(os.system("kill -TERM $$; exit 5"))


@action
def grandchild(consumer: Hostile) -> int:
    """One that has nothing to do with the broker any more, as daemons have it."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            pid = os.fork()
            if pid == 0:
                os.execvp("sleep", ["sleep", "3600"])
            os.write(file.fileno(), str(pid).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        file.seek(0)
        return int(file.read())


@action
def zombie(consumer: Hostile) -> int:
    return subprocess.Popen(["true"]).pid


# ---- the system's log ----


@action
def open_pairs(consumer: Hostile) -> None:
    """Descriptors, as an application has them for its connections."""
    for _ in range(40):
        for end in socket.socketpair():
            end.setblocking(False)
            kept.append(end)


@action
def heard_in_pairs(consumer: Hostile) -> list[str]:
    heard = []
    for end in (thing for thing in kept if isinstance(thing, socket.socket)):
        with contextlib.suppress(BlockingIOError):
            heard.append(repr(end.recv(4096)))
    return heard


@action
def write_syslog(consumer: Hostile, text: str) -> None:
    syslog.syslog(syslog.LOG_ERR, text)


@action
def write_syslog_in_c(consumer: Hostile, text: str) -> None:
    """As a library does that this package does not know."""
    ctypes.CDLL(None).syslog(syslog.LOG_ERR, b"%s", text.encode())


@action
async def write_syslog_in_child(consumer: Hostile, text: str) -> int:
    pid = os.fork()
    if pid == 0:
        syslog.syslog(syslog.LOG_ERR, text)
        os._exit(0)
    return await status_of(consumer, pid)


@action
def left_by_libraries(consumer: Hostile) -> list[str]:
    """What is open after much was asked of the C library and OpenSSL, and was not before."""

    def look() -> set[str]:
        return {
            name
            for name in os.listdir("/proc/thread-self/fd")
            if os.path.exists(f"/proc/thread-self/fd/{name}")
        }

    libc = ctypes.CDLL(None)
    libc.iconv_open.restype = ctypes.c_void_p
    before = look()
    pwd.getpwall()
    grp.getgrall()
    os.getgrouplist("root", 0)
    for asks in (
        lambda: socket.getaddrinfo("localhost", 1883),
        lambda: socket.getaddrinfo("no.such.invalid", 1883),
        lambda: socket.gethostbyname("localhost"),
        lambda: socket.getservbyname("mqtt"),
        lambda: socket.if_nameindex(),
        os.getlogin,
    ):
        with contextlib.suppress(OSError):
            asks()
    time.tzset()
    assert libc.iconv_open(b"UTF-16", b"LATIN1") not in (None, 2**64 - 1)
    ssl.RAND_bytes(64)
    ssl.create_default_context()
    os.urandom(64)
    return sorted(look() - before)


# ---- threads ----


@action
def outliving_threads(consumer: Hostile) -> None:
    loop = asyncio.get_running_loop()

    def talk() -> None:
        while True:
            logger.warning("still here")
            asyncio.run_coroutine_threadsafe(consumer.publish("late", b""), loop)
            time.sleep(0.0001)

    threading.Thread(target=talk).start()
    loop.run_in_executor(None, time.sleep, 3600)


# ---- extension modules ----


@action
def use_numpy(consumer: Hostile) -> float:
    import numpy

    return float(numpy.linalg.inv(numpy.eye(64) * 2)[0, 0])


@action
def use_cryptography(consumer: Hostile) -> str:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    key.public_key().verify(key.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))
    fernet = Fernet(Fernet.generate_key())
    return fernet.decrypt(fernet.encrypt(b"secret")).decode()


@action
def use_psycopg(consumer: Hostile, port: int) -> str:
    import psycopg

    assert psycopg.pq.version() >= 100000
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="nobody", sslmode="require", connect_timeout=5)
    except psycopg.OperationalError as error:
        return type(error).__name__
    return ""


@action
async def in_thread(consumer: Hostile, name: str, arguments: Any) -> Any:
    return await asyncio.to_thread(ACTIONS[name], consumer, **arguments)
