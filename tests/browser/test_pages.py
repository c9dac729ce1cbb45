"""What somebody sees and does in the hub's pages, in a real browser."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import statistics
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from support.processes import wait_until

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python")

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "tests" / "screenshots"
TIMEOUT = 30_000
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
PAGES = {
    "hub": "/",
    "overview": "/dashboard/",
    "topics": "/dashboard/topics/?topic=home/kitchen/temperature",
    "consumers": "/dashboard/consumers/",
    "clients": "/dashboard/clients/",
    "log": "/dashboard/log/",
}
#: Waits for a text in an element, and returns the clock's time when it was there.
APPEARS = """([selector, text]) => new Promise((found) => {
  const look = () => {
    if (document.querySelector(selector)?.textContent.includes(text)) found(Date.now() / 1000);
    else requestAnimationFrame(look);
  };
  look();
})"""


def expect(locator: Any) -> Any:
    """Return what waits for a locator."""
    return sync_api.expect(locator)


@pytest.fixture(autouse=True)
def _patience() -> None:
    sync_api.expect.set_options(timeout=TIMEOUT)


def test_a_value_is_seen_soon(hub: Any, window: Any) -> None:
    """Prints how long it takes from the start of mosquitto_pub until the value is in the page."""
    hub.client.publish("home/kitchen/temperature", "0", qos=1, retain=True)
    page = window.open("/dashboard/topics/?topic=home/kitchen/temperature")
    expect(page.locator("#topic-value pre")).to_have_text("0")
    taken = []
    for number in range(20):
        value = f"{number}.25"
        begun = hub.run("mosquitto_pub", "-t", "home/kitchen/temperature", "-m", value)
        taken.append(1000 * (page.evaluate(APPEARS, ["#topic-value pre", value]) - begun))
    print(
        f"from mosquitto_pub to the page: median {statistics.median(taken):.0f} ms, at most {max(taken):.0f} ms"
    )


def test_the_tree_is_filtered(hub: Any, window: Any) -> None:
    for topic in ("home/kitchen/temperature", "garden/sensor/moisture"):
        hub.client.publish(topic, "20", qos=1, retain=True)
    page = window.open("/dashboard/topics/")
    rows = page.locator("#topic-rows")
    expect(rows).to_contain_text("garden")
    page.get_by_role("searchbox").fill("kitchen")
    expect(rows).not_to_contain_text("garden")
    expect(rows).to_contain_text("kitchen")
    page.get_by_role("searchbox").fill("garden/#")
    expect(rows).to_contain_text("moisture")
    expect(rows).not_to_contain_text("kitchen")


def test_publishing_and_clearing(hub: Any, window: Any) -> None:
    page = window.open("/dashboard/topics/?topic=home/door")
    page.get_by_label("Payload").fill("open")
    page.get_by_label("Retain", exact=True).check()
    page.get_by_role("button", name="Publish", exact=True).click()
    assert hub.client.wait_for("home/door").payload == b"open"
    expect(page.locator(".said")).to_have_text("The message was published.")
    expect(page.locator("#topic-retained")).to_have_text("yes")
    page.get_by_role("button", name="Clear the retained message").click()
    assert hub.client.wait_for("home/door").payload == b""
    expect(page.locator(".said")).to_have_text("The retained message was cleared.")
    assert window.dialogs == ["Clear the retained message of this topic?"]


def test_a_light_is_clicked(hub: Any, window: Any) -> None:
    page = window.open("/")
    switch = page.get_by_role("switch", name="Light in kitchen")
    with subprocess.Popen(
        ["mosquitto_sub", "-p", str(hub.broker.port), "-t", "home/lights/kitchen/set", "-v", "-C", "1", "-i", "wall"],
        stdout=subprocess.PIPE,
        text=True,
    ) as heard:  # fmt: skip
        hub.broker.wait_for_log("Sending SUBACK to wall")
        switch.focus()
        page.keyboard.press("Space")
        printed, _ = heard.communicate(timeout=90)
    assert printed == "home/lights/kitchen/set on\n"
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")


def test_a_client_is_disconnected(hub: Any, window: Any) -> None:
    page = window.open("/dashboard/clients/")
    other = hub.broker.client(client_id="to-be-gone")
    page.get_by_role("button", name="Disconnect to-be-gone").click()
    expect(page.locator(".said")).to_contain_text("The client was disconnected.")
    expect(page.locator("#clients")).not_to_contain_text("to-be-gone")
    wait_until(lambda: not other.connected, 10, "the client's end")
    assert window.dialogs == ["Disconnect to-be-gone?"]


def test_the_log_is_live(hub: Any, window: Any) -> None:
    page = window.open("/dashboard/log/")
    hub.client.publish("garden/sensor/moisture", "very dry", qos=1)
    expect(page.get_by_role("log")).to_contain_text("is not a percentage")


def test_what_others_write_is_text(hub: Any, window: Any) -> None:
    """Topics, payloads, client ids and lines of the log are shown, and not run."""
    attack = "<img src=x onerror=window.hacked=1><script>alert(2)</script>"
    topic = f"home/{attack.replace('/', '')}"
    other = hub.broker.client(client_id=attack)
    other.publish(topic, attack, qos=1, retain=True)
    other.publish("garden/sensor/moisture", attack, qos=1)
    other.publish("home/sensor/motion", attack, qos=1)
    page = window.open("/dashboard/topics/")
    expect(page.locator("#topic-rows")).to_contain_text("onerror")
    page.locator("#topic-rows a", has_text="onerror").first.click()
    expect(page.locator("#topic-value pre")).to_have_text(attack)
    assert not page.evaluate("window.hacked")
    page = window.open("/dashboard/clients/")
    expect(page.locator("#clients")).to_contain_text(attack)
    assert not page.evaluate("window.hacked")
    page = window.open("/dashboard/log/")
    expect(page.get_by_role("log")).to_contain_text("onerror")
    assert not page.evaluate("window.hacked")
    page = window.open("/")
    assert not page.evaluate("window.hacked")
    assert window.dialogs == []


def grave(page: Any) -> list[str]:
    """Return what axe-core finds serious or critical."""
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everybody_can_use_the_pages(hub: Any, visit: Callable[..., Any], size: str, scheme: str) -> None:
    """Nothing serious is found by axe-core, nothing is wider than the window. Leaves pictures in SCREENSHOTS."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for number in range(20):
        hub.client.publish("home/kitchen/temperature", f"{20 + number % 7 / 2}", qos=1, retain=True)
        hub.client.publish("home/energy/consumption", str(400 + 173 * number % 900), qos=1)
    hub.client.publish("home/living/temperature", "21.5", qos=1, retain=True)
    hub.client.publish("home/kitchen/presence", "on", qos=1, retain=True)
    hub.client.publish("garden/sensor/moisture", "45", qos=1, retain=True)
    hub.client.publish("home/lights/kitchen/set", "on", qos=1)
    window = visit(is_logged_in=False, viewport=SIZES[size], color_scheme=scheme)
    page = window.page
    page.goto(f"{window.address}/login/")
    found = {"login": grave(page)}
    page.screenshot(path=SCREENSHOTS / f"login-{size}-{scheme}.png")
    window.log_in()
    for name, path in PAGES.items():
        window.open(path)
        if name == "topics":
            for value in ("20", "21.5", "21", "22.5", "23"):
                hub.client.publish("home/kitchen/temperature", value, qos=1, retain=True)
            expect(page.locator("#topic-spark svg")).to_be_visible()
        found[name] = grave(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
        page.screenshot(path=SCREENSHOTS / f"{name}-{size}-{scheme}.png")
    assert not {name: problems for name, problems in found.items() if problems}


def test_a_consumer_fails_and_is_restarted(hub: Any, window: Any) -> None:
    """The table that a consumer writes to is gone: its error is in the page, and its button restarts it."""
    hub.broker.expect_traceback = True
    (database,) = hub.broker.folder.parent.glob("hub.sqlite3")
    page = window.open("/dashboard/consumers/")
    with contextlib.closing(sqlite3.connect(str(database), timeout=20)) as connection, connection:
        connection.execute("ALTER TABLE home_energyreading RENAME TO gone")
    hub.client.publish("home/energy/consumption", "100", qos=1)
    entry = page.locator(".consumer", has_text="no such table")
    expect(entry.locator("pre")).to_contain_text("Traceback")
    expect(entry.locator(".state")).to_have_text(re.compile("running"))
    restarts = entry.locator("[id$=-restarts]")
    expect(restarts).to_have_text("1")
    entry.get_by_role("button", name="Restart").click()
    expect(page.locator(".said")).to_contain_text("The consumer is being restarted.")
    expect(restarts).to_have_text("2")
