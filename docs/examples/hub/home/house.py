"""What the page shows: read from the tables, and kept up to date by messages.

All of it is text, and goes to the browser as text: what a sensor says never becomes HTML.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from home import plot, topics
from home.models import Command, EnergyReading, MotionEvent
from home.payloads import number, presence, text

NOTHING = "–"
MOST_READINGS = 300

# Part of the page → name of what is shown there → text
Shown = dict[str, dict[str, str]]


class House:
    """The rooms of the settings, what the house draws, and the garden."""

    def __init__(self) -> None:
        self.rooms = {
            room: {"light": "off", "motion": NOTHING, "temperature": NOTHING, "presence": NOTHING}
            for room in topics.room_names()
        }
        self.garden = {"moisture": NOTHING, "valve": NOTHING}
        self.readings: deque[tuple[datetime, float]] = deque(maxlen=MOST_READINGS)

    @classmethod
    def load(cls) -> House:
        """Return the house as the tables know it."""
        house = cls()
        for room, shown in house.rooms.items():
            event = MotionEvent.objects.filter(room=room).first()
            if event is not None:
                shown["motion"] = clock(event.at)
        for command in Command.objects.all():
            house.told(command.topic, command.state, command.at)
        latest = EnergyReading.objects.values_list("at", "watts")[:MOST_READINGS]
        house.readings.extend(reversed(latest))
        return house

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a message of `topics.SHOWN`. What makes no sense changes nothing."""
        topic, payload = message["topic"], message["payload"]
        value, word = number(payload), text(payload)
        kept, levels = message.get("retain"), topic.split("/")
        if topic == topics.MOISTURE:
            if value is not None and 0 <= value <= 100:
                self.garden["moisture"] = f"{value:.3g} %"
        elif levels[-1] in topics.ROOM_READINGS:
            if levels[1] in self.rooms:
                self.sensed(levels[1], levels[-1], payload)
        elif kept:
            pass  # an event of yesterday
        elif topic == topics.MOTION:
            if word in self.rooms:
                self.rooms[word]["motion"] = clock(timezone.now())
        elif topic == topics.CONSUMPTION:
            if value is not None:
                self.readings.append((timezone.now(), value))
        elif word in topics.switch_states(topic):
            self.told(topic, word, timezone.now())

    def sensed(self, room: str, reading: str, payload: bytes) -> None:
        """Take what a room's sensor says."""
        value, somebody = number(payload), presence(payload)
        if reading == "temperature" and value is not None:
            self.rooms[room]["temperature"] = f"{value:.3g} °C"
        elif reading == "presence" and somebody is not None:
            self.rooms[room]["presence"] = "somebody" if somebody else "nobody"

    def told(self, topic: str, state: str, at: datetime) -> None:
        """Take what a light or the valve was told."""
        if topic == topics.VALVE:
            self.garden["valve"] = f"{state}, {clock(at)}"
            return
        for room, shown in self.rooms.items():
            if topic == topics.light(room):
                shown["light"] = state

    def energy(self) -> dict[str, str]:
        """Return the plot of what the house draws, in words too."""
        alert = settings.HUB_ENERGY_ALERT_WATTS
        watts = [value for _, value in self.readings]
        top = max([alert * 1.2, *watts])
        shown = {
            "line": plot.line(self.readings, top),
            "alert": f"M0 {plot.height(alert, top):.1f}H{plot.WIDTH}",
        }
        if not watts:
            return {**shown, "now": NOTHING, "range": "No readings yet."}
        first = clock(self.readings[0][0])
        words = f"Between {min(watts):.6g} and {max(watts):.6g} W since {first}."
        return {**shown, "now": f"{watts[-1]:.6g} W", "range": words}

    def shown(self) -> Shown:
        """Return all of it, by the parts of the page."""
        rooms = {f"room-{room}": dict(shown) for room, shown in self.rooms.items()}
        return {**rooms, "energy": self.energy(), "garden": dict(self.garden)}


def changes(old: Shown, new: Shown) -> Shown:
    """Return what of `new` a page that shows `old` does not show yet."""
    found = {
        part: {name: text for name, text in texts.items() if old.get(part, {}).get(name) != text}
        for part, texts in new.items()
    }
    return {part: texts for part, texts in found.items() if texts}


def clock(at: datetime) -> str:
    """Return the time of day, with the date where it is not today's."""
    local, today = timezone.localtime(at), timezone.localdate()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"
