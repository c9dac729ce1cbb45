"""The plugin's statistics for Prometheus.

`mqttasgi.metrics_urls` serves them to Prometheus, with whatever else the process has in `prometheus_client`'s
registry. docs/anywhere.md says how to include it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from . import _host

try:
    from prometheus_client import REGISTRY
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder
except ImportError as error:
    raise ImproperlyConfigured(
        f"mqttasgi.metrics needs the package prometheus_client ({error}); install it with "
        "pip install 'prometheus_client>=0.20', or do not include mqttasgi.metrics_urls"
    ) from error

#: What `session/state` is while there is a session, and without one (plugin/shared/statistics.h).
_OFF, _UP = 0, 2


class Metric(NamedTuple):
    """A metric of one sample, or of several that a label tells apart."""

    #: As Prometheus knows it, with its unit and without the `_total` of a counter.
    name: str
    is_counter: bool
    help: str
    #: The label's name; empty: there is none.
    label: str
    #: (statistic, the label's value), with the names of plugin/shared/statistics.h.
    samples: tuple[tuple[str, str], ...]
    #: What a statistic is divided by to be in the unit.
    divisor: int = 1


def _counter(name: str, statistic: str, text: str) -> Metric:
    return Metric(name, True, text, "", ((statistic, ""),))


def _gauge(name: str, statistic: str, text: str, divisor: int = 1) -> Metric:
    return Metric(name, False, text, "", ((statistic, ""),), divisor)


#: All there are, once each.
TABLE = (
    _counter("mqttasgi_messages_received", "messages/received", "Messages for consumers."),
    _counter("mqttasgi_messages_sent", "messages/sent", "Messages of the application for the broker."),
    _counter(
        "mqttasgi_messages_refused", "messages/refused", "Of these, messages that the broker did not take."
    ),
    Metric(
        "mqttasgi_messages_dropped",
        True,
        "Messages for consumers that were dropped: no room in the queue of all, no room in a consumer's own, "
        "their consumer had ended, no memory.",
        "reason",
        (
            ("messages/dropped/queue", "queue"),
            ("messages/dropped/consumer_queue", "consumer_queue"),
            ("messages/dropped/consumer_ended", "consumer_ended"),
            ("messages/dropped/memory", "memory"),
        ),
    ),
    _counter("mqttasgi_messages_unmarked", "messages/unmarked", "Messages that may have come twice."),
    _counter(
        "mqttasgi_messages_unnamed", "messages/unnamed", "Messages that may have come without their sender."
    ),
    Metric(
        "mqttasgi_queue_messages",
        False,
        "Messages that wait now, for consumers (inbound) or for the broker (outbound).",
        "queue",
        (("queue/inbound/messages", "inbound"), ("queue/outbound/messages", "outbound")),
    ),
    Metric(
        "mqttasgi_queue_bytes",
        False,
        "Their size.",
        "queue",
        (("queue/inbound/bytes", "inbound"), ("queue/outbound/bytes", "outbound")),
    ),
    _gauge("mqttasgi_durable_messages", "durable/messages", "Messages in the durable inbox."),
    _gauge("mqttasgi_durable_bytes", "durable/bytes", "Their size."),
    _gauge("mqttasgi_durable_oldest_seconds", "durable/oldest", "Since the oldest of these was published."),
    _counter(
        "mqttasgi_durable_redelivered",
        "durable/redelivered",
        "Messages that came to a consumer although they were stored before its start.",
    ),
    _counter(
        "mqttasgi_durable_refused", "durable/refused", "Messages that were not stored, nor acknowledged."
    ),
    _counter("mqttasgi_durable_unstored", "durable/unstored", "Messages that were not stored, and came."),
    _gauge("mqttasgi_durable_dead_letters", "durable/dead", "Dead letters now."),
    _counter(
        "mqttasgi_durable_dead_letters_dropped",
        "durable/dead/dropped",
        "Dead letters that made room for newer ones.",
    ),
    _gauge("mqttasgi_http_connections", "http/connections", "Connections for HTTP and WebSockets now."),
    _counter("mqttasgi_http_requests", "http/requests", "Requests and WebSockets for the application."),
    _counter(
        "mqttasgi_http_refused",
        "http/refused",
        "Connections and requests that were turned away or broken off at a limit.",
    ),
    _gauge("mqttasgi_consumers_running", "consumers/running", "Consumers that run now."),
    _gauge(
        "mqttasgi_consumers_restarting",
        "consumers/restarting",
        "Consumers that have failed and wait for their next start.",
    ),
    _counter("mqttasgi_consumers_failed", "consumers/failed", "Consumers that were given up."),
    _counter("mqttasgi_consumers_restarted", "consumers/restarted", "Restarts of consumers."),
    Metric(
        "mqttasgi_handling_seconds",
        False,
        "How long consumers took for a message, in the last interval with messages.",
        "quantile",
        (("handling/p50", "0.5"), ("handling/p99", "0.99")),
        1_000_000,
    ),
    _gauge(
        "mqttasgi_loop_longest_block_seconds",
        "loop/longest_block",
        "The longest time for which the event loop did not react.",
        1000,
    ),
    _gauge(
        "mqttasgi_session_up",
        "session/state",
        "Whether the plugin's session with the broker is up; missing where it is turned off.",
    ),
    _counter(
        "mqttasgi_session_left_out",
        "session/left_out",
        "How often the broker dropped messages for the session, as far as it shows.",
    ),
    _counter(
        "mqttasgi_session_passed_over",
        "session/passed_over",
        "Messages that the session could not read, and went on without.",
    ),
    _counter(
        "mqttasgi_session_subscriptions_refused",
        "session/refused",
        "Tries of the session to subscribe that failed.",
    ),
    _counter("mqttasgi_wake_ups", "wake_ups", "Signals to the broker, because the application published."),
    _counter("mqttasgi_log_lines_dropped", "log/dropped", "Lines that were left out of the broker's log."),
    _gauge("mqttasgi_memory_bytes", "memory", "Memory of the broker's process, the application's included."),
    _gauge("mqttasgi_uptime_seconds", "uptime", "Since the plugin's start."),
    _gauge(
        "mqttasgi_updated_timestamp_seconds",
        "time",
        "When memory, handling times, session and uptime were last looked at.",
    ),
)


class Collector:
    """What `prometheus_client` asks at each scrape; nothing outside of the broker."""

    def describe(self) -> tuple[()]:
        """Return nothing: what there is shows only in the broker."""
        return ()

    def collect(self) -> Iterator[Union[CounterMetricFamily, GaugeMetricFamily]]:
        """Iterate over the metrics that there are, those of a durable inbox, or of HTTP, only with that."""
        try:
            values = _host.find("mqttasgi.metrics").statistics()
        except _host.OutsideBroker:
            return
        state = values.pop("session/state", _OFF)
        if state != _OFF:
            values["session/state"] = int(state == _UP)
        for metric in TABLE:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=[metric.label] if metric.label else [])
            for statistic, label in metric.samples:
                if statistic in values:
                    family.add_metric([label] if label else [], values[statistic] / metric.divisor)
            if family.samples:
                yield family


REGISTRY.register(Collector())


@require_safe
def view(request: HttpRequest) -> HttpResponse:
    """Answer a scrape, in the format that it asks for. Nobody has to log in."""
    try:
        _host.find("mqttasgi.metrics")
    except _host.OutsideBroker as error:
        return HttpResponse(f"{error}.\n", status=503, content_type="text/plain; charset=utf-8")
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(REGISTRY), content_type=content_type)
