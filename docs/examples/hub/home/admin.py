from django.contrib import admin

from .models import Command, Device, EnergyReading, IrrigationSchedule, MotionEvent


@admin.register(MotionEvent)
class MotionEventAdmin(admin.ModelAdmin):
    list_display = ["room", "at"]
    list_filter = ["room"]
    date_hierarchy = "at"


@admin.register(EnergyReading)
class EnergyReadingAdmin(admin.ModelAdmin):
    list_display = ["watts", "at"]
    date_hierarchy = "at"


@admin.register(Device)
class DeviceAdmin(admin.ModelAdmin):
    list_display = ["name", "online", "since"]
    list_filter = ["online"]


@admin.register(IrrigationSchedule)
class IrrigationScheduleAdmin(admin.ModelAdmin):
    list_display = ["start_hour", "active"]
    list_editable = ["active"]


@admin.register(Command)
class CommandAdmin(admin.ModelAdmin):
    list_display = ["topic", "state", "at"]
