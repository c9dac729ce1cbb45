"""Dead letters of a process on their way into the file, which may not take them."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from mqttasgi.cluster.dead_letters import FAILED, DeadLettersError
from mqttasgi.cluster.letters import Letters
from mqttasgi.cluster.log import Log
from mqttasgi.cluster.message import ReceivedMessage, Room
from mqttasgi.cluster.settings import Settings
from mqttasgi.cluster.statistics import Statistics


class Locked:
    """The file, which another program keeps locked until `is_free`."""

    def __init__(self) -> None:
        self.is_free = False
        self.tries = 0

    def add(self, *_: object) -> int:
        self.tries += 1
        if not self.is_free:
            raise DeadLettersError("locked", True)
        return 0


def test_a_locked_file_is_tried_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try waits for it, on the loop: not one for each of a consumer's messages."""
    settings = Settings("a:b", [], "id", dead_letters=str(tmp_path / "inbox.db"))
    letters = Letters(settings, Log(0, 1, 0), Statistics(), count(), lambda *_: None)
    letters.close()
    file: Any = Locked()
    monkeypatch.setattr(letters, "_file", file)
    published = paho.MQTTMessage(topic=b"a")
    room = Room({"queue_size": 10, "queue_bytes": 1000})
    kept: list[int] = []
    for number in range(5):
        message = ReceivedMessage(published, number, room)
        letters.add(1, message, FAILED, 5, "", lambda number=number: kept.append(number))
    assert (file.tries, kept) == (1, [])
    file.is_free = True
    letters._pay(is_first=False)
    assert (file.tries, kept) == (6, [0, 1, 2, 3, 4])
