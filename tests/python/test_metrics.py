"""The statistics as Prometheus gets them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path

from mqttasgi import _host
from mqttasgi.testing import PlayedBroker

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from mqttasgi import metrics

ROOT = Path(__file__).resolve().parents[2]
urlpatterns = [path("", include("mqttasgi.metrics_urls"))]


def names() -> list[str]:
    """Return the names of all statistics."""
    table = (ROOT / "plugin/shared/statistics.h").read_text()
    return re.findall(r'^\tSTATISTIC\(\w+, "([\w/]+)"', table, re.MULTILINE)


class Host:
    """What is asked for statistics."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = values

    def statistics(self) -> dict[str, int]:
        return dict(self.values)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Be in a broker whose statistics are 1, 2, 3 and so on."""
    made = Host({name: number for number, name in enumerate(names(), 1)})
    monkeypatch.setattr(_host, "of_process", made)
    return made


def scraped(accept: str = "") -> dict[tuple[str, tuple[str, ...]], float]:
    """Return our samples: (name, labels' values) -> value."""
    response = metrics.view(RequestFactory().get("/metrics", headers={"Accept": accept} if accept else None))
    assert response.status_code == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
        if sample.name.startswith("mqttasgi_")
    }


def test_every_statistic_is_a_sample_of_one_metric() -> None:
    samples = [statistic for metric in metrics.TABLE for statistic, _ in metric.samples]
    assert sorted(samples) == sorted(names())
    assert len({metric.name for metric in metrics.TABLE}) == len(metrics.TABLE)


def test_values_are_in_the_units_that_prometheus_wants(host: Host) -> None:
    host.values.update(
        {"messages/sent": 2**40, "handling/p50": 8, "handling/p99": 1500, "loop/longest_block": 3}
    )
    got = scraped()
    assert got["mqttasgi_messages_sent_total", ()] == 2**40
    assert got["mqttasgi_handling_seconds", ("0.5",)] == 8e-6
    assert got["mqttasgi_handling_seconds", ("0.99",)] == 0.0015
    assert got["mqttasgi_loop_longest_block_seconds", ()] == 0.003
    assert got["mqttasgi_messages_dropped_total", ("queue",)] == host.values["messages/dropped/queue"]
    assert got["mqttasgi_queue_bytes", ("outbound",)] == host.values["queue/outbound/bytes"]
    assert len(got) == len(names())


@pytest.mark.parametrize(("state", "value"), [(0, None), (1, 0), (2, 1)])
def test_the_session(host: Host, state: int, value: Any) -> None:
    host.values["session/state"] = state
    assert scraped().get(("mqttasgi_session_up", ())) == value


def test_without_a_durable_inbox_nothing_is_said_of_one(host: Host) -> None:
    for name in names():
        if name.startswith("durable/"):
            del host.values[name]
    assert not [name for name, _ in scraped() if "durable" in name]


def test_each_metric_says_what_it_is(host: Host) -> None:
    text = metrics.view(RequestFactory().get("/metrics")).content.decode()
    for metric in metrics.TABLE:
        name = metric.name + ("_total" if metric.is_counter else "")
        assert f"# HELP {name} {metric.help}\n" in text
        assert f"# TYPE {name} {'counter' if metric.is_counter else 'gauge'}\n" in text


def test_the_format_that_is_asked_for(host: Host) -> None:
    request = RequestFactory().get("/metrics", headers={"Accept": "application/openmetrics-text"})
    response = metrics.view(request)
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert response.content.endswith(b"# EOF\n")
    assert b"mqttasgi_messages_sent_total" in response.content


def test_what_the_application_counts_is_there_too(host: Host) -> None:
    from prometheus_client import REGISTRY, Counter

    counter = Counter("lamps_lit", "Lamps that were lit.")
    try:
        counter.inc(3)
        assert b"lamps_lit_total 3.0" in metrics.view(RequestFactory().get("/metrics")).content
    finally:
        REGISTRY.unregister(counter)


@override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
def test_the_urls(host: Host) -> None:
    assert Client().get("/metrics").status_code == 200
    assert Client().head("/metrics").status_code == 200
    assert Client().post("/metrics").status_code == 405


def test_outside_of_a_broker() -> None:
    response = metrics.view(RequestFactory().get("/metrics"))
    assert response.status_code == 503
    assert b"mqttasgi.metrics outside of the broker" in response.content
    # Another view of the registry's has nothing of ours, and no error.
    assert list(metrics.Collector().collect()) == []
    with PlayedBroker():
        assert scraped() == {}


def test_without_prometheus_client() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        f"sys.path.insert(0, {str(ROOT / 'python')!r})\n"
        "import mqttasgi.metrics_urls"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ImproperlyConfigured: mqttasgi.metrics needs the package prometheus_client (" in result.stderr
    assert result.stderr.rstrip().endswith(
        "; install it with pip install 'prometheus_client>=0.20', or do not include mqttasgi.metrics_urls"
    )
