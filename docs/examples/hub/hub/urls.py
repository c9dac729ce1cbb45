"""Where things are: the page of the house, the tables (Django's admin), and the dashboard."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.contrib.staticfiles.views import serve
from django.urls import include, path

from home import views

urlpatterns = [
    path("", views.house, name="house"),
    path("switch/", views.switch, name="switch"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # Style sheets and scripts, unless servestatic (hub/asgi.py) has them. It is slower.
    path("static/<path:path>", serve, {"insecure": True}),
]
if settings.HUB_DASHBOARD:
    urlpatterns.append(path("dashboard/", include("mqttasgi.dashboard.urls")))
