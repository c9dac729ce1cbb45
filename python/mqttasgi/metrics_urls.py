"""`/metrics`, for a project's urls: `path("", include("mqttasgi.metrics_urls"))`."""

from __future__ import annotations

from django.urls import path

from .metrics import view

urlpatterns = [path("metrics", view, name="mqttasgi-metrics")]
