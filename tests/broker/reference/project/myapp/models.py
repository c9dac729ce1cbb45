"""The models that blocks import, with the fields that they use."""

from __future__ import annotations

from django.db import models


class MotionEvent(models.Model):
    room = models.CharField(max_length=100)


class EnergyReading(models.Model):
    watts = models.FloatField()


class IrrigationSchedule(models.Model):
    active = models.BooleanField()
    start_hour = models.PositiveSmallIntegerField()
