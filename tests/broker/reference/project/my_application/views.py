"""The URLs of the project, and what is outside the consumer."""

from __future__ import annotations

import runpy
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path


def announce(request: HttpRequest) -> HttpResponse:
    """An ordinary view, in whose thread the channel layer's block runs from its first line to its last."""
    runpy.run_path(str(Path(__file__).with_name("consumers.py")))
    return HttpResponse("announced")


urlpatterns = [path("announce", announce)]
