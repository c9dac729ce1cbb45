"""The application of the asgi.py block, with a witness in front of it."""

from __future__ import annotations

import django

# The asgi.py block imports its consumer before it calls this, which is too late for a consumer that imports models.
django.setup()

from my_application.asgi import application as documented  # noqa: E402
from witness import witness  # noqa: E402

application = witness(documented)
