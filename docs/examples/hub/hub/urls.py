"""The admin, to look at the tables: `HUB_DEBUG=1 python manage.py runserver`."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
