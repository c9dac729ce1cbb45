"""The pages of the dashboard: `path("dashboard/", include("mqttasgi.dashboard.urls"))`."""

from __future__ import annotations

from django.urls import path

from . import actions, views
from .apps import LABEL

app_name = LABEL

urlpatterns = [
    path("", views.page, {"name": "overview"}, name="overview"),
    path("topics/", views.page, {"name": "topics"}, name="topics"),
    path("topics/publish/", actions.publish, name="publish"),
    path("topics/clear/", actions.clear, name="clear"),
    path("consumers/", views.page, {"name": "consumers"}, name="consumers"),
    path("consumers/restart/", actions.restart, name="restart"),
    path("clients/", views.page, {"name": "clients"}, name="clients"),
    path("clients/disconnect/", actions.disconnect, name="disconnect"),
    path("log/", views.page, {"name": "log"}, name="log"),
]
