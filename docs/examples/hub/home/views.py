"""The page of the house, and what its buttons do."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST
from mqttasgi import broker

from home import plot, topics
from home.consumers.commands import remember
from home.house import House

# Nothing from elsewhere, no script or style within the page, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def guard(response: HttpResponse) -> HttpResponse:
    """Have the browser keep to the policy, and no cache keep the page."""
    response["Content-Security-Policy"] = POLICY
    response["Cache-Control"] = "no-store, private"
    return response


def page(request: HttpRequest, problem: str = "", status: int = 200) -> HttpResponse:
    """Return the page, as the tables know the house. `home/live.py` keeps it up to date."""
    shown = House.load().shown()
    rooms = [(room, topics.light(room), shown[f"room-{room}"]) for room in topics.room_names()]
    context = {
        "rooms": rooms,
        "energy": shown["energy"],
        "garden": shown["garden"],
        "valve": topics.VALVE,
        "size": f"0 0 {plot.WIDTH} {plot.HEIGHT}",
        "problem": problem,
    }
    return guard(render(request, "home/house.html", context, status=status))


@login_required
def house(request: HttpRequest) -> HttpResponse:
    return page(request)


@login_required
@require_POST
def switch(request: HttpRequest) -> HttpResponse:
    """Publish what was clicked. Django has looked for the form's CSRF token before."""
    topic, state = request.POST.get("topic", ""), request.POST.get("state", "")
    if state not in topics.switch_states(topic):
        return HttpResponseBadRequest("That is nothing to switch.")
    try:
        async_to_sync(broker.publish)(topic, state, qos=1)
    except broker.OutsideBroker as error:
        return page(request, str(error), 503)
    # So that the page which comes next shows it; the consumer may not have got there yet.
    remember(topic, state)
    return redirect("house")


class Login(LoginView):
    template_name = "home/login.html"

    def dispatch(self, *arguments: object, **named: object) -> HttpResponse:
        return guard(super().dispatch(*arguments, **named))
