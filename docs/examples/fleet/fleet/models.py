"""What is kept of the vehicles."""

from __future__ import annotations

from django.db import models


class Position(models.Model):
    """Where a vehicle was. Each once, however often its message comes."""

    vehicle = models.CharField(max_length=100)
    number = models.BigIntegerField(help_text="counted by the vehicle")
    speed = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vehicle", "number"], name="each_position_once")
        ]

    def __str__(self) -> str:
        return f"{self.vehicle} {self.number}: {self.speed:g} km/h"
