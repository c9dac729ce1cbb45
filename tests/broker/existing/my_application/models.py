from django.db import models


class MotionEvent(models.Model):
    room = models.CharField(max_length=50)
    at = models.DateTimeField(auto_now_add=True)
