"""`mqttasgi status`: asks a broker for the plugin's statistics and prints them.

They are retained messages below `$SYS/broker/mqttasgi/` (plugin/broker/sys_tree.c), so one subscription
brings all of them at once, and then what changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import time
from typing import Any, Callable, Union

from .._words import duration as _duration
from .configuration import check_certificate, loopback
from .option_table import Settings

PREFIX = "$SYS/broker/mqttasgi/"
VERSION = "$SYS/broker/version"
#: The last that an interval brings.
LAST = "uptime"
#: Seconds for an answer of the broker.
PATIENCE = 10.0

Value = Union[int, str]


class StatusError(Exception):
    """There is nothing to print; the text is a sentence without its full stop."""


# ---- the table ----


def _count(value: int) -> str:
    return f"{value:,}"


def _bytes(value: int) -> str:
    size, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{_short(size)} {units[0]}"


def _milliseconds(value: float) -> str:
    return f"{_short(value)} ms" if value < 999.5 else f"{_short(value / 1000)} s"


def _microseconds(value: int) -> str:
    return _milliseconds(value / 1000)


def _short(value: float) -> str:
    """Three digits, of those after the point as many as say something."""
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bytes_if_known(value: int) -> str:
    return _bytes(value) if value else "unknown"


def _as_of(value: int) -> str:
    """When the values were published, by this machine's clock."""
    age = int(time.time()) - value
    clock = time.strftime("%H:%M:%S" if abs(age) < 86400 else "%Y-%m-%d %H:%M:%S", time.localtime(value))
    return f"{clock}, {_duration(age)} ago" if age >= 0 else clock


#: The groups that are shown only where there is such an inbox, and where HTTP is served.
DURABLE, WEB = "durable inbox", "HTTP and WebSockets"

#: Groups of (what is said, topic's end, how its value is written). A topic of plugin/shared/statistics.h that
#: has no row here is shown under "more".
TABLE: tuple[tuple[str, tuple[tuple[str, str, Callable[[int], str]], ...]], ...] = (
    (
        "messages",
        (
            ("to consumers", "messages/received", _count),
            ("from consumers", "messages/sent", _count),
            ("from consumers, refused by the broker", "messages/refused", _count),
            ("dropped, the queue was full", "messages/dropped/queue", _count),
            ("dropped, a consumer's queue was full", "messages/dropped/consumer_queue", _count),
            ("dropped, their consumer had ended", "messages/dropped/consumer_ended", _count),
            ("dropped, no memory", "messages/dropped/memory", _count),
            ("may have come twice", "messages/unmarked", _count),
            ("may have come without their sender", "messages/unnamed", _count),
        ),
    ),
    (
        "waiting now",
        (
            ("messages to consumers", "queue/inbound/messages", _count),
            ("their size", "queue/inbound/bytes", _bytes),
            ("messages from consumers", "queue/outbound/messages", _count),
            ("their size", "queue/outbound/bytes", _bytes),
        ),
    ),
    (
        DURABLE,
        (
            ("messages stored", "durable/messages", _count),
            ("their size", "durable/bytes", _bytes),
            ("the oldest came before", "durable/oldest", _duration),
            ("came again after a start", "durable/redelivered", _count),
            ("refused, could not be stored", "durable/refused", _count),
            ("not stored, handed over all the same", "durable/unstored", _count),
            ("dead letters", "durable/dead", _count),
            ("dead letters that made room", "durable/dead/dropped", _count),
        ),
    ),
    (
        WEB,
        (
            ("connections open", "http/connections", _count),
            ("requests and WebSockets", "http/requests", _count),
            ("turned away or broken off at a limit", "http/refused", _count),
        ),
    ),
    (
        "consumers",
        (
            ("running", "consumers/running", _count),
            ("waiting to be restarted", "consumers/restarting", _count),
            ("given up", "consumers/failed", _count),
            ("restarts", "consumers/restarted", _count),
        ),
    ),
    (
        "times",
        (
            ("handling a message, median", "handling/p50", _microseconds),
            ("handling a message, 99 of 100 within", "handling/p99", _microseconds),
            ("event loop blocked, longest", "loop/longest_block", _milliseconds),
        ),
    ),
    (
        "plugin",
        (
            ("session", "session/state", _count),
            ("left out by the broker, times", "session/left_out", _count),
            ("could not be read", "session/passed_over", _count),
            ("subscriptions refused", "session/refused", _count),
            ("wake-ups of the broker", "wake_ups", _count),
            ("log lines dropped", "log/dropped", _count),
            ("memory of the broker's process", "memory", _bytes_if_known),
            ("as of", "time", _as_of),
            ("running for", LAST, _duration),
        ),
    ),
)


def table(values: dict[str, Value]) -> str:
    """Return the values as a table; one that the plugin does not have is a dash."""
    rows: list[tuple[str, str]] = []
    rest = dict(values)
    for title, group in TABLE:
        if title in (DURABLE, WEB) and not any(name in values for _, name, _ in group):
            continue
        rows.append((title, ""))
        for text, name, write in group:
            value = rest.pop(name, "-")
            rows.append((f"  {text}", write(value) if isinstance(value, int) else value))
    if rest:
        rows.append(("more", ""))
        rows += [
            (f"  {name}", _count(value) if isinstance(value, int) else value) for name, value in rest.items()
        ]
    left = max(len(text) for text, _ in rows)
    right = max(len(value) for _, value in rows)
    return "".join(f"{text:<{left}}  {value:>{right}}".rstrip() + "\n" for text, value in rows)


# ---- the broker ----


class Statistics:
    """A connection to a broker, and what has come through it."""

    def __init__(self, settings: Settings) -> None:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise StatusError(
                "status needs the Python package paho-mqtt, 2.1 or later: pip install 'paho-mqtt>=2.1'"
            ) from None
        self.values: dict[str, Value] = {}
        #: What it calls itself; empty: it did not say.
        self.broker = ""
        #: How often an interval's values were complete.
        self.intervals = 0
        self._settings = settings
        self._connack: Any = None
        self._answered: set[int] = set()
        self._denied = False
        host = settings.host
        is_socket = host.startswith("/")
        self.where = host if is_socket else f"{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"mqttasgi-status-{socket.gethostname()}-{os.getpid()}",
            protocol=paho.MQTTv311,
            transport="unix" if is_socket else settings.transport,  # type: ignore[arg-type, unused-ignore]
            reconnect_on_failure=False,
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_message = self._on_message
        if settings.username is not None:
            self._client.username_pw_set(settings.username, settings.password)
        if settings.cacert or settings.use_ssl or settings.cert:
            self._client.tls_set_context(_tls(settings))

    def fetch(self) -> None:
        """Connect, and return when everything that is retained has come.

        Raises:
            StatusError: Nothing has.
        """
        self._connect()
        self._until(lambda: self._connack is not None, PATIENCE)
        self._check_login()
        _, asked = self._client.subscribe([(f"{PREFIX}#", 0), (VERSION, 0)])
        self._until(lambda: asked in self._answered, PATIENCE)
        # What is retained comes before the answer to anything that was asked later.
        _, asked = self._client.unsubscribe(f"{PREFIX}none")
        self._until(lambda: asked in self._answered, PATIENCE)
        self._check_values()

    def wait(self) -> None:
        """Return when the next interval's values have come."""
        seen = self.intervals
        self._until(lambda: self.intervals > seen, None)
        self._check_values()

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()

    def _connect(self) -> None:
        host = loopback(self._settings.host)
        try:
            self._client.connect(host, self._settings.port or 1)
        except ssl.SSLCertVerificationError as error:
            raise StatusError(
                f"the certificate of the broker at {self.where} is not trusted ({error.verify_message}); "
                "-S names the file with the CA that signed it"
            ) from None
        except (ssl.SSLError, ConnectionResetError) as error:
            raise StatusError(
                f"no TLS with {self.where} ({getattr(error, 'reason', None) or error.strerror}); does that "
                "listener speak TLS, and want a client's certificate (-C and -K)?"
            ) from None
        except (ConnectionRefusedError, FileNotFoundError):
            raise StatusError(
                f"no broker listens at {self.where}; start it, or say with -H and -p where it listens"
            ) from None
        except TimeoutError:
            raise StatusError(
                f"{self.where} does not answer; -H and -p say where the broker listens"
            ) from None
        except OSError as error:
            if "ebsocket" in type(error).__name__ + str(error):
                raise StatusError(
                    f"{self.where} does not speak websockets; leave out -T websockets"
                ) from None
            raise StatusError(
                f"no connection to the broker at {self.where}: {error.strerror or error}"
            ) from None

    def _check_login(self) -> None:
        if not self._connack.is_failure:
            return
        if self._connack.value in (134, 135):
            who = "a login without a user name"
            if self._settings.username is not None:
                who = f'the login as "{self._settings.username}"'
            raise StatusError(f"the broker at {self.where} refuses {who}; give another with -U and -P")
        raise StatusError(f"the broker at {self.where} refuses the connection: {str(self._connack).lower()}")

    def _check_values(self) -> None:
        if self.values:
            return
        if self._denied:
            raise StatusError(
                f"the broker at {self.where} lets {self._user()} not subscribe to {PREFIX}#; allow it there"
            )
        if self.intervals:
            raise StatusError(
                f"the broker at {self.where} has taken its statistics back: its sys_interval is 0 now"
            )
        if not self.broker:
            raise StatusError(
                f"the broker at {self.where} shows nothing below $SYS: its sys_interval is 0, or its "
                f'acl_file lacks the line "topic read $SYS/broker/#" for {self._user()}'
            )
        hint = ""
        if self._settings.bridge:
            hint = "; where this machine's broker mirrors that one, name a listener of its own (-H localhost)"
        raise StatusError(
            f"the broker at {self.where} ({self.broker}) has no statistics of mqttasgi: the plugin is "
            f"not in it, its sys_interval is 0, or its acl_file lacks the line "
            f'"topic read {PREFIX}#" for {self._user()}{hint}'
        )

    def _user(self) -> str:
        return "anonymous clients" if self._settings.username is None else f'user "{self._settings.username}"'

    def _until(self, condition: Callable[[], bool], seconds: Union[float, None]) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            if deadline is not None and time.monotonic() > deadline:
                raise StatusError(
                    f"{self.where} does not answer as an MQTT broker does; is it another service's, "
                    "or a listener with TLS (-S, -SSL true) or websockets (-T websockets)?"
                )
            try:
                lost = self._client.loop(0.5) != 0
            except OSError:
                lost = True
            if lost and not condition():
                if self._connack is not None:
                    raise StatusError(f"the broker at {self.where} has closed the connection")
                raise StatusError(
                    f"the broker at {self.where} closes the connection without a word; its listener may "
                    "want TLS (-S, -SSL true), a client's certificate (-C and -K) or websockets "
                    "(-T websockets)"
                )

    # paho's callbacks, called by loop()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connack = reason

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._denied = reasons[0].is_failure
        self._answered.add(mid)

    def _on_unsubscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._answered.add(mid)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        text = message.payload.decode(errors="replace")
        if message.topic == VERSION:
            self.broker = text.replace("mosquitto version", "Mosquitto")
            return
        name = message.topic[len(PREFIX) :]
        if not text:
            # Taken back: sys_interval has become 0.
            self.values.pop(name, None)
        else:
            self.values[name] = int(text) if text.isascii() and text.isdigit() else text
        self.intervals += name == LAST


def _tls(settings: Settings) -> ssl.SSLContext:
    """Return what a client needs for the listener that these options describe.

    On this machine `cert` is also what the listener shows, so it is trusted, whatever names are in it:
    clients from elsewhere know the broker by another.
    """
    check_certificate(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.bridge
    if settings.cacert:
        context.load_verify_locations(settings.cacert)
    else:
        context.load_default_certs()
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key)
        if not settings.bridge:
            context.load_verify_locations(settings.cert)
            # X509_V_FLAG_PARTIAL_CHAIN, which has a name since Python 3.10: also one that another signed.
            context.verify_flags |= 0x80000
    return context


# ---- the command ----


def run(settings: Settings, *, as_json: bool = False, watch: bool = False) -> None:
    """Print the statistics of the broker that the settings describe; with `bridge`, of another machine's.

    Raises:
        StatusError, UsageError: It cannot be done.
    """
    statistics = Statistics(settings)
    on_terminal = sys.stdout.isatty()
    try:
        statistics.fetch()
        _print(statistics, as_json)
        with contextlib.suppress(KeyboardInterrupt):
            while watch:
                statistics.wait()
                if not as_json:
                    # The top of an empty screen.
                    print("\033[H\033[2J" if on_terminal else "\n", end="")
                _print(statistics, as_json)
    finally:
        statistics.close()


def _print(statistics: Statistics, as_json: bool) -> None:
    if as_json:
        print(json.dumps(statistics.values), flush=True)
        return
    broker = f" ({statistics.broker})" if statistics.broker else ""
    print(f"broker at {statistics.where}{broker}\n\n{table(statistics.values)}", end="", flush=True)
