"""README and the guides, word for word, on a Debian machine of their own. For `tests/run --pages`."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import (
    ROOT,
    Action,
    Reader,
    Step,
    blocks,
    close,
    command,
    follow,
    follow_comments,
    keep_open,
    paste,
    paste_and_see,
    replacing,
    save,
    shown,
    then,
)
from support.machine import USER, Machine, missing

SUITE = os.environ.get("MQTTASGI_PAGES_SUITE", "trixie")
DEBIAN = ROOT / "build/image" / SUITE
SITE = "/srv/mysite"
IS_UP = "mosquitto version .* running"


def reason() -> str:
    """Return why nobody can follow the pages here; nothing where somebody can."""
    if missing():
        return missing()
    if not (DEBIAN / ".complete").exists():
        return f"there is no Debian in {DEBIAN}: tests/run --pages makes it"
    return ""


pytestmark = [pytest.mark.skipif(bool(reason()), reason=reason()), pytest.mark.timeout(1800)]


def repository(folder: Path) -> None:
    """Make a repository of this checkout as it is now, to be cloned."""
    files = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *files], capture_output=True, check=True
    ).stdout
    names = b"\0".join(name for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists())
    pack = ["tar", "-C", str(ROOT), "--null", "-T", "-", "-cf", "-"]
    packed = subprocess.run(pack, input=names, capture_output=True, check=True).stdout
    folder.mkdir(parents=True)
    subprocess.run(
        ["tar", "-C", str(folder), "--no-same-owner", "-xf", "-"],
        input=packed,
        capture_output=True,
        check=True,
    )
    git = ["git", "-C", str(folder), "-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "As it is now"]):
        subprocess.run([*git, *arguments], check=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    machine = Machine(DEBIAN, ROOT / "build/pages" / SUITE)
    try:
        repository(machine.root / "srv/git/mqttasgi")
        # git clones nothing of somebody else's unless one says that he trusts it.
        (machine.root / f"home/{USER}/.gitconfig").write_text("[safe]\n\tdirectory = *\n")
        yield machine
    finally:
        machine.stop()


LIGHT = "home/lights/kitchen/set on"


def try_lights(reader: Reader, block: str) -> None:
    """Do again what the quick start's two commands did."""
    keep_open("lights")(reader, "mosquitto_sub -t 'home/lights/#' -v")
    paste_and_see("lights", LIGHT)(reader, "mosquitto_pub -t home/sensor/motion -m kitchen")
    close("lights")(reader, block)


def clone(reader: Reader, block: str) -> None:
    """Clone, and leave the quick start running in its terminal."""
    assert block.endswith("config/quickstart\n")
    paste()(reader, block.replace("config/quickstart\n", "").replace("URL", "/srv/git/mqttasgi"))
    keep_open("broker", "The broker is running")(reader, "config/quickstart")


LOG_IN = """/usr/bin/python3 - <<'END'
import re, pathlib, urllib.parse, urllib.request
from http.cookiejar import CookieJar
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
login = browser.open("http://localhost:8000/").read().decode()
form = {"username": "hub", "password": pathlib.Path("build/quickstart/password").read_text().strip()}
form["csrfmiddlewaretoken"] = re.search('csrfmiddlewaretoken" value="(.*?)"', login)[1]
page = browser.open("http://localhost:8000/login/", urllib.parse.urlencode(form).encode()).read().decode()
print(*re.findall(r'aria-checked="true" aria-label="(.*?)"', page))
END
"""


def end_quickstart(reader: Reader, block: str) -> None:
    """Log in to its page, and press Ctrl-C: its last words lead to a project of one's own."""
    terminal = reader.terminals["broker"]
    assert re.search(r"See it at http://localhost:8000/\s+user hub, password [\w-]{16}\s", terminal.printed)
    command(f"cd /home/{USER}/mqttasgi\nstat -c %a build/quickstart/password", r"\b600\b")(reader, block)
    command(LOG_IN, "Light in kitchen")(reader, block)
    close("broker")(reader, block)
    assert "venv/bin/mqttasgi startproject mysite" in terminal.printed, terminal.printed[-1000:]


def same_as_in(page: str) -> Action:
    """The block is on that page too, where something is done with it."""

    def action(reader: Reader, block: str) -> None:
        assert block in blocks(page), f"{page} has another"

    return action


README = [
    Step("sudo apt-get install git", clone),
    Step("mosquitto_sub", keep_open("lights")),
    Step("mosquitto_pub", then(paste_and_see("lights", LIGHT), close("lights"), end_quickstart)),
    Step("from mqttasgi.consumers", same_as_in("docs/first-steps.md")),
    Step("sudo apt-get install mosquitto", paste()),
]

FIRST_STEPS = [
    Step("sudo install -d", paste()),
    Step("from mqttasgi.consumers", save("mysite/consumers.py")),
    Step("import os", save("mysite/asgi.py")),
    Step("venv/bin/mqttasgi", then(keep_open("broker", IS_UP), try_lights, close("broker"))),
    Step("listener 1883", save("/etc/mosquitto/conf.d/mqttasgi.conf")),
    Step(
        "sudo systemctl enable",
        then(
            paste("mosquitto version .* running"),
            try_lights,
            command("sudo systemctl disable --now mosquitto"),
        ),
    ),
]


@pytest.fixture(scope="module")
def reader(machine: Machine) -> Reader:
    """Somebody who has followed README and the first steps, and stands in his project's folder."""
    reader = Reader(machine)
    follow("README.md", README, reader)
    follow("docs/first-steps.md", FIRST_STEPS, reader)
    return reader


def test_first_steps(reader: Reader) -> None:
    assert reader.machine.run("pwd").strip() == SITE


# ---- docs/consumers.md ----

SET_UP = """\
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django.setup()

from mqttasgi.consumers import MqttConsumer

"""


def try_out(source: str, arguments: str, *attempts: Action) -> Action:
    """Start a broker with a module that the block is put into, and do what is said there."""

    def action(reader: Reader, block: str) -> None:
        def indented(spaces: int) -> str:
            return textwrap.indent(block, " " * spaces)

        text = source.format(block=block, method=indented(4), call=indented(8))
        reader.machine.write("mysite/trial.py", SET_UP + text)
        keep_open("broker", IS_UP)(reader, f"venv/bin/mqttasgi {arguments} mysite.trial:application")
        try:
            for attempt in attempts:
                attempt(reader, block)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\nand the broker said\n{reader.terminals['broker'].printed}"
            ) from None
        assert "Traceback" not in reader.terminals["broker"].printed, reader.terminals["broker"].printed
        close("broker")(reader, block)

    return action


def see(topic: str, pattern: str, commands: str) -> Action:
    """Enter commands until a subscriber gets what the regular expression finds."""

    def action(reader: Reader, block: str) -> None:
        keep_open("listener")(reader, f"mosquitto_sub -t '{topic}' -v")
        paste_and_see("listener", pattern)(reader, commands)
        close("listener")(reader, block)

    return action


def print_in_broker(pattern: str, commands: str) -> Action:
    """Enter commands, and wait until the broker's terminal shows the regular expression."""

    def action(reader: Reader, block: str) -> None:
        paste_and_see("broker", pattern)(reader, commands)

    return action


def class_of(block: str) -> str:
    return "class Trial(MqttConsumer):\n" + block + "\n\napplication = Trial.as_asgi()\n"


KITCHEN = "{block}\n\napplication = Kitchen.as_asgi()\n"
RECEIVER = class_of(
    '    async def connect(self):\n        await self.subscribe("kitchen/question", qos=1)\n\n{method}'
)
ONE_CALL = class_of("    async def connect(self):\n{call}")
WORKER = (
    "class RoomConsumer(MqttConsumer):\n"
    "    async def connect(self):\n"
    '        await self.publish("room", self.scope["room"], retain=True)\n\n\n'
)

ANSWER = r'\{"answer": 42\}'


def ask(reader: Reader, block: str) -> None:
    """The application of the block before, and what a client asks it."""
    answering = (
        "async def receive(self, mqtt_message):\n    await self.reply(mqtt_message, '{\"answer\": 42}')\n"
    )
    assert answering in (ROOT / "docs/consumers.md").read_text()
    try_out(RECEIVER, "", lambda reader, _: paste(ANSWER)(reader, block))(reader, answering)


CONSUMERS = [
    Step(
        "from mqttasgi.consumers",
        then(
            save("mysite/kitchen.py"),
            try_out(KITCHEN, "", see("kitchen/light/set", "on", "mosquitto_pub -t kitchen/motion -m now")),
        ),
    ),
    Step(
        "async def receive", try_out(RECEIVER, "", command("mosquitto_pub -q 1 -t kitchen/question -m now"))
    ),
    Step(
        "await self.publish(",
        try_out(ONE_CALL, "", see("kitchen/temperature", "21.5", "true")),
    ),
    Step("async def receive", shown),  # with the next block
    Step("mosquitto_rr", ask),
    Step(
        "from mqttasgi.consumers",
        try_out(
            "{block}\n\napplication = Presence.as_asgi()\n",
            "-o connect_events=true",
            see("presence/#", "presence/someone online", "mosquitto_pub -i someone -t anything -m now"),
            see("presence/#", "presence/someone offline", "mosquitto_pub -i someone -t anything -m now"),
        ),
    ),
    Step(
        "await self.spawn_worker(",
        replacing(
            "mysite.consumers.RoomConsumer",
            "mysite.trial.RoomConsumer",
            try_out(
                ONE_CALL.replace("class Trial", WORKER + "class Trial"), "", see("room", "living", "true")
            ),
        ),
    ),
    Step("Consumer mysite.consumers.Weather", shown),
    Step(
        "INSTALLED_APPS +=",
        lambda reader, block: command(f"cat >>mysite/settings.py <<'END'\n{block}END")(reader, block),
    ),
    Step(
        "from mqttasgi.consumers",
        try_out(
            "{block}\n\napplication = Switch.as_asgi()\n",
            "",
            see("lights/all/set", "lights/all/set off", "mosquitto_pub -t lights/off -m now"),
        ),
    ),
    Step(
        "async def application",
        try_out(
            "{block}", "", print_in_broker("kitchen/motion b'now'", "mosquitto_pub -t kitchen/motion -m now")
        ),
    ),
    Step("venv/bin/pip install pytest", paste()),
    Step("[pytest]", save("pytest.ini")),
    Step("from mqttasgi.testing", save("test_kitchen.py")),
    Step(
        "venv/bin/python -m pytest",
        then(command("cp mysite/kitchen.py mysite/consumers.py"), paste("1 passed")),
    ),
]


def test_consumers(reader: Reader) -> None:
    follow("docs/consumers.md", CONSUMERS, reader)


# ---- docs/examples/hub/README.md ----


def install_hub(reader: Reader, block: str) -> None:
    command(f"cd /home/{USER}/mqttasgi\nsudo rm -f /etc/mosquitto/conf.d/*.conf")(reader, block)
    paste()(reader, block)


def lose_power(reader: Reader, block: str) -> None:
    """The lamp's connection is cut as soon as it has said that it is online."""
    terminal = reader.terminals["home"]
    since = len(terminal.printed)
    paste()(reader, block)
    terminal.wait_for("home/alerts/offline lamp", 60, since)


HUB = [
    Step("sudo cp -r docs/examples/hub", install_hub),
    Step("listener 1883", save("/etc/mosquitto/conf.d/hub.conf")),
    Step(
        "[Service]",
        then(
            command("sudo mkdir -p /etc/systemd/system/mosquitto.service.d"),
            save("/etc/systemd/system/mosquitto.service.d/override.conf"),
            command("sudo systemctl daemon-reload"),
        ),
    ),
    Step("sudo systemctl restart mosquitto", paste()),
    # Once the first message comes it listens.
    Step(
        "mosquitto_sub",
        then(
            keep_open("home"),
            lambda reader, _: paste_and_see("home", "home/here")(reader, "mosquitto_pub -t home/here -m now"),
        ),
    ),
    Step("mosquitto_pub -q 1 -t home/sensor/motion", follow_comments("home")),
    Step("mosquitto_pub -q 1 -t home/sensor/living", follow_comments("home")),
    Step("mosquitto_pub -q 1 -t home/energy", follow_comments("home", "nothing new", "calm again")),
    Step("mosquitto_pub -q 1 -r -t home/kitchen", follow_comments("home")),
    Step("REDIS_URL=", shown),  # wants a Redis
    Step("sudo -u mosquitto", follow_comments("home")),
    Step("mosquitto_sub -t zigbee2mqtt/lamp", lose_power),
    Step("sudo -u mosquitto", shown),  # asks for a password
    Step(
        "sudo venv/bin/pip install pytest",
        then(paste("passed"), command("sudo systemctl disable --now mosquitto")),
    ),
]


def test_hub(reader: Reader) -> None:
    follow("docs/examples/hub/README.md", HUB, reader)


# ---- docs/raspberry-pi.md ----

KITCHEN_ON = r"home/lights/kitchen/set on"
HOST = "$(hostname).local"


def forget_all(reader: Reader) -> None:
    """Make an empty card of the machine, as far as this page goes."""
    reader.machine.run(
        f"cd /home/{USER}\nsudo rm -rf mqttasgi /opt/hub /var/lib/hub /etc/mosquitto/conf.d/*.conf\n"
        "sudo rm -rf /etc/systemd/system/mosquitto.service.d\n"
        "sudo systemctl disable --now mosquitto || true\n"
        "sudo apt-get install -qq iproute2"  # every Raspberry Pi has it
    )


def asked_for(host: str) -> str:
    """Return what prints the status of the hub's page under a name."""
    return (
        f"/usr/bin/python3 - {host} <<'END'\nimport http.client, sys\n"
        "browser = http.client.HTTPConnection('127.0.0.1', 8000)\n"
        "browser.request('GET', '/', headers={'Host': sys.argv[1] + ':8000'})\n"
        "print(browser.getresponse().status)\nEND\n"
    )


def walk_in(reader: Reader, block: str) -> None:
    """The light goes on, also on the page, for who has logged in."""
    keep_open("lights")(reader, "mosquitto_sub -u me -P secret -v -t 'home/lights/#'")
    replacing("PASSWORD", "secret", lambda reader, text: paste_and_see("lights", KITCHEN_ON)(reader, text))(
        reader, block
    )
    close("lights")(reader, block)
    password = 'pathlib.Path("build/quickstart/password").read_text().strip()'
    assert password in LOG_IN
    command(LOG_IN.replace(password, '"secret-of-me"').replace('"hub"', '"me"'), "Light in kitchen")(
        reader, ""
    )
    command(asked_for(HOST), "302")(reader, "")
    command(asked_for("evil.example"), "400")(reader, "")
    command("mosquitto_pub -t x -m y 2>&1 || true", "not authori[sz]ed")(reader, "")


def enter_password(old: str, new: str) -> Action:
    """Paste a command that asks for something, with the answer in it."""
    return replacing(old, new, paste())


RASPBERRY_PI = [
    Step("sudo apt-get update", replacing("URL mqttasgi", "/srv/git/mqttasgi mqttasgi", paste())),
    Step("sudo cp -r docs/examples/hub", paste()),
    Step(
        "sudo -u mosquitto",
        enter_password(
            "venv/bin/python manage.py createsuperuser",
            "DJANGO_SUPERUSER_PASSWORD=secret-of-me venv/bin/python manage.py createsuperuser --noinput "
            "--username me --email me@localhost",
        ),
    ),
    Step("secret()", paste()),
    Step(
        "sudo mosquitto_passwd",
        enter_password(
            "mosquitto_passwd /etc/mosquitto/passwd me", "mosquitto_passwd -b /etc/mosquitto/passwd me secret"
        ),
    ),
    Step("sudo install -d", paste()),
    Step("listener 1883", save("/etc/mosquitto/conf.d/hub.conf")),
    Step("sudo systemctl enable", paste()),
    Step("sudo tail -f", then(keep_open("log", "hub.asgi:application runs in Mosquitto"), close("log"))),
    Step("mosquitto_pub -u me", walk_in),
    Step(
        "sudo systemctl stop mosquitto",
        then(
            paste(),
            command(
                "tar -tzf ~/hub-*.tar.gz",
                "var/lib/hub/db.sqlite3",
                "etc/mosquitto/hub.env",
                "opt/hub/home/live.py",
            ),
            command(
                "! tar -tzf ~/hub-*.tar.gz | grep opt/hub/venv\nstat -c '%a %U' ~/hub-*.tar.gz", f"600 {USER}"
            ),
        ),
    ),
    Step("cd ~/mqttasgi", paste()),
    Step(
        "systemctl status",
        then(
            paste(r"active \(running\)", r"0\.0\.0\.0:8000"),
            command("sudo systemctl disable --now mosquitto"),
        ),
    ),
]


def test_raspberry_pi(machine: Machine) -> None:
    reader = Reader(machine)
    forget_all(reader)
    try:
        follow("docs/raspberry-pi.md", RASPBERRY_PI, reader)
    finally:
        reader.machine.run("sudo systemctl disable --now mosquitto")  # also where a step has failed


# ---- what `mqttasgi startproject` makes ----


def test_startproject(reader: Reader) -> None:
    machine = reader.machine
    machine.run(f"cd /home/{USER}\n. {SITE}/venv/bin/activate\nmqttasgi startproject house\ncd house")
    page = (machine.root / f"home/{USER}/house/README.md").read_text()
    lines = [line.strip().partition(" #")[0].strip() for line in page.splitlines() if line.startswith("    ")]
    activated = f". {SITE}/venv/bin/activate\n"
    migrate, start, watch, publish, test, install_paho, check_connection = lines
    machine.run(activated + migrate)
    broker = machine.open_terminal(activated + start)
    broker.wait_for(IS_UP, 60)
    reader.terminals = {"broker": broker}
    keep_open("averages")(reader, watch)
    paste_and_see("averages", "averages/hall 20.5")(reader, publish)
    said = machine.run(f"{activated}{install_paho}\n{check_connection}", 300)
    assert "ok      connection to mqtt://localhost" in said
    close("averages", "broker")(reader, "")
    assert "1 passed" in machine.run(activated + test, 300)
