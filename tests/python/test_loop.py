"""The event loop that the option names."""

from __future__ import annotations

import pytest

from mqttasgi.runtime.loop import new_event_loop


def test_the_loop_option() -> None:
    loop = new_event_loop("asyncio")
    assert "uvloop" not in type(loop).__module__
    loop.close()
    loop = new_event_loop("auto")
    loop.close()
    pytest.importorskip("uvloop")
    loop = new_event_loop("uvloop")
    assert "uvloop" in type(loop).__module__
    loop.close()
