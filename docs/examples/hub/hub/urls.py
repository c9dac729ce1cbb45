"""Where things are: the page of the house, the tables (Django's admin), and the dashboard."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from home import views

urlpatterns = [
    path("", views.house, name="house"),
    path("switch/", views.switch, name="switch"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
if settings.HUB_DASHBOARD:
    urlpatterns.append(path("dashboard/", include("mqttasgi.dashboard.urls")))
