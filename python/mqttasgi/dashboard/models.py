"""What the dashboard's permissions belong to: a model without a table, and without rows."""

from __future__ import annotations

from django.db import models


class NoRows(models.Manager):
    """Answers without asking the database, as `manage.py dumpdata` does for each model."""

    def get_queryset(self) -> models.QuerySet:
        """Return nothing."""
        return super().get_queryset().none()


class Dashboard(models.Model):
    """Stands for the pages in the list of permissions."""

    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ()
        permissions = (
            ("view_dashboard", "Can look at the dashboard"),
            ("publish", "Can publish messages and clear retained ones"),
            ("manage", "Can restart consumers and disconnect clients"),
        )
