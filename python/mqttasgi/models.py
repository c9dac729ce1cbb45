"""Dead letters as a model, where the project's `DATABASES` has their file (`mqttasgi.dead.database`).

Elsewhere there is none: it would be one without a table, which `manage.py dumpdata` asks every model for.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models

from . import dead

if dead.ALIAS in settings.DATABASES:

    class DeadLetter(models.Model):
        """A message that its consumer could not handle. Times are milliseconds since 1970."""

        id = models.BigAutoField(primary_key=True)
        consumer = models.TextField()
        message = models.BigIntegerField()
        time = models.BigIntegerField()
        died = models.BigIntegerField()
        reason = models.TextField()
        tries = models.BigIntegerField()
        traceback = models.TextField()
        topic = models.TextField()
        payload = models.BinaryField()
        qos = models.IntegerField("QoS")
        retain = models.BooleanField()
        properties = models.BinaryField()
        replay = models.BooleanField(default=False)

        class Meta:
            managed = False
            db_table = "dead_letter"
            ordering = ("-id",)
            verbose_name = "dead letter"
            # Nobody adds one or changes it.
            default_permissions = ("view", "delete")
            permissions = (("replay_deadletter", "Can replay dead letter"),)

        def __str__(self) -> str:
            return f"{self.topic} for {self.consumer}"
