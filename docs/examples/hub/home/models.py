"""What the hub remembers."""

from django.core.validators import MaxValueValidator
from django.db import models


class MotionEvent(models.Model):
    """Somebody moved in a room."""

    room = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.room} at {self.at:%Y-%m-%d %H:%M:%S}"


class EnergyReading(models.Model):
    """What the house drew from the grid at one moment."""

    watts = models.FloatField()
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.watts:.0f} W at {self.at:%Y-%m-%d %H:%M:%S}"


class Device(models.Model):
    """A device that says whether it is there."""

    name = models.CharField(max_length=255, unique=True)
    online = models.BooleanField()
    since = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name}: {'on' if self.online else 'off'}line"


class IrrigationSchedule(models.Model):
    """An hour of the day, in the zone of the settings, in which the garden may be watered."""

    start_hour = models.PositiveSmallIntegerField(validators=[MaxValueValidator(23)])
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["start_hour"]

    def __str__(self) -> str:
        return f"{self.start_hour}:00" + ("" if self.active else " (off)")


class Command(models.Model):
    """What a light or the valve was told last, by whomever."""

    topic = models.CharField(max_length=255, unique=True)
    state = models.CharField(max_length=16)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["topic"]

    def __str__(self) -> str:
        return f"{self.topic} {self.state} at {self.at:%Y-%m-%d %H:%M:%S}"
