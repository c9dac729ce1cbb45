"""The hub's topics in one place, and what keeps them from feeding back on themselves.

A consumer hears what it publishes itself whenever its own filter matches. So:

| consumer     | listens to                 | publishes to                                   |
|--------------|----------------------------|------------------------------------------------|
| lights       | home/sensor/motion         | home/lights/<room>/set                         |
| ai           | home/sensor/#              | what `is_command_topic` allows, never a sensor |
| energy       | home/energy/consumption    | home/alerts/energy                             |
| rooms        | home/<room>/#              | home/<room>/status, home/<room>/announce       |
| irrigation   | garden/sensor/moisture     | garden/valve/main                              |
| availability | zigbee2mqtt/+/availability | home/alerts/offline                            |
| commands     | home/lights/+/set,         | nothing                                        |
|              | garden/valve/main          |                                                |

The page (`home/live.py`) listens to `SHOWN`, and publishes what somebody clicks: `switch_states`.

Only a room hears its own publishes, and passes them over: it reads the topics of inputs and no
others. A room named `lights` would hear every lamp's command, one named `sensor` every sensor:
`RESERVED` forbids such names.
"""

from __future__ import annotations

import re

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

MOTION = "home/sensor/motion"
SENSORS = "home/sensor/#"
CONSUMPTION = "home/energy/consumption"
ENERGY_ALERT = "home/alerts/energy"
MOISTURE = "garden/sensor/moisture"
VALVE = "garden/valve/main"
AVAILABILITY = "zigbee2mqtt/+/availability"
OFFLINE_ALERT = "home/alerts/offline"
LIGHTS = "home/lights/+/set"

# What the page shows.
SHOWN = [
    MOTION,
    LIGHTS,
    "home/+/temperature",
    "home/+/presence",
    CONSUMPTION,
    MOISTURE,
    VALVE,
]

# Second levels of `home/…` that are taken.
RESERVED = frozenset({"alerts", "energy", "fan", "heating", "lights", "sensor"})

# What room workers believe when they hear it on home/<room>/<input>.
ROOM_READINGS = frozenset({"temperature", "presence"})

# Words in any alphabet, and nothing that has a meaning in a topic (`/`, `+`, `#`, `$`, NUL).
_NAME = re.compile(r"[\w-]{1,64}")
_COMMAND = re.compile(r"home(/[\w-]{1,64}){1,6}")


def is_room_name(name: str) -> bool:
    """Tell whether `home/<name>/…` can be the topics of a room."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def room_names() -> list[str]:
    """Return the rooms of the settings.

    Raises:
        ImproperlyConfigured: A name cannot be a room, or is there twice.
    """
    rooms = list(settings.HUB_ROOMS)
    for room in rooms:
        if not is_room_name(room):
            raise ImproperlyConfigured(
                f"HUB_ROOMS: {room!r} cannot be a room. Use letters, digits, '_' and '-', "
                f"and none of {', '.join(sorted(RESERVED))}."
            )
        if rooms.count(room) > 1:
            raise ImproperlyConfigured(f"HUB_ROOMS: {room!r} is listed more than once.")
    return rooms


def light(room: str) -> str:
    """Return the topic that switches a room's light."""
    return LIGHTS.replace("+", room)


def switch_states(topic: str) -> tuple[str, ...]:
    """Return what can be said to a thing that one can switch; nothing where `topic` is none."""
    if topic == VALVE:
        return ("open", "close")
    if topic in [light(room) for room in room_names()]:
        return ("on", "off")
    return ()


def device_name(topic: str) -> str | None:
    """Return what stands in `topic` for the `+` of `AVAILABILITY`; None where no table holds it."""
    name = topic.split("/")[AVAILABILITY.split("/").index("+")]
    return name if len(name) <= 255 else None


def is_command_topic(topic: str) -> bool:
    """Tell whether a model may publish to `topic`: under `home/`, and nothing a sensor would say.

    Sensors are `home/sensor` with all below it (`home/sensor/#` matches both), `home/energy`
    likewise, and the readings of rooms: a model that could publish those would answer itself.
    """
    if _COMMAND.fullmatch(topic) is None:
        return False
    levels = topic.split("/")
    return levels[1] not in {"sensor", "energy"} and levels[-1] not in ROOM_READINGS
