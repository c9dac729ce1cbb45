"""Nobody notices the plugin: who may log in, publish, subscribe and read is the same with it and without it.

The plugin asks the broker to be asked about access, to keep copies from its session. So each case below is played
twice: to a Mosquitto without the plugin and to one with it, whose consumer hears everything. Every answer of the broker
and every message that comes is written down, and the two transcripts must be the same.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import MARKS, Broker, mosquitto_version, plugin_path, virtualenv
from support.consumers import Consumers
from support.ports import free_port
from support.processes import PATIENCE
from support.talkers import Gone, Talker

APPS = Path(__file__).resolve().parent
SUPPORT = APPS.parent / "support"
VERSION = mosquitto_version()

# ---- what the script is made of ----

#: Name, user name, password. `hub` is the session's user, and a witness's, who may do everything.
PEOPLE: list[tuple[str, str | None, str | None]] = [
    ("guest", None, None),
    ("ann", "ann", "of ann"),
    ("bob", "bob", "of bob"),
    ("thief", "ann", "of bob"),
    ("stranger", "stranger", "of stranger"),
    ("odd+", "ann", "of ann"),
]
PROTOCOLS = [4, 5]  # MQTT 3.1.1 and 5; the last three of these speak the first only
FILTERS = ["#", "a/+", "+/x", "own/#", "user/+/x", "$SYS/broker/version", "$share/group/shared/#", "$other/#"]
TOPICS = [
    *["a/x", "a/secret/x", "to-read/x", "to-write/x", "public/x", "elsewhere/x", "shared/x"],
    *["own/ann-4/x", "own/bob-5/x", "own/ann-4/closed", "user/ann/x", "user/bob/x"],
    *["foreign/yes", "foreign/no", "$SYS/broker/x", "$SYS/broker/connection/x/state", "$other/x"],
]
WILLS = ["a/will", "a/secret/will", "own/ann-4/will", "public/will"]

RULES = """
topic readwrite public/#
topic readwrite kept/+
user hub
topic readwrite #
topic readwrite $other/#
topic read $SYS/#
user ann
topic readwrite a/#
topic deny a/secret/#
topic read to-read/#
topic write to-write/#
topic readwrite shared/#
topic readwrite kept/+
topic read $SYS/#
topic readwrite $other/#
user bob
topic read a/#
topic readwrite to-write/#
topic read shared/#
topic readwrite kept/bob-4
"""
PATTERNS = """
pattern readwrite own/%c/#
pattern deny own/%c/closed
pattern readwrite user/%u/#
"""
OTHER_RULES = """
user hub
topic readwrite #
topic readwrite $other/#
topic read $SYS/#
user ann
topic read a/#
user bob
topic readwrite a/#
topic readwrite kept/#
"""
HUB = "user hub\ntopic readwrite #\ntopic readwrite $other/#\ntopic read $SYS/#\n"

# ---- the cases ----


@dataclass
class Rules:
    """What a broker's file says about access. In `lines`, `{name}` is the path of the file of that name."""

    lines: Sequence[str] = ()
    anonymous: bool = True


@dataclass
class Case:
    """A broker's file, with our plugin's lines and without them.

    Attributes:
        rules: One after the other, with a SIGHUP between two.
        before: Lines before our plugin's.
        after: Lines after them.
        refuses: The lowest version on which copies are refused; None: on no one, they are marked and sorted out.
        needs: The Mosquitto that can do this, and goes on,
        until: and the one that cannot any more.
        per_listener: Each listener has rules and plugins of its own.
    """

    rules: Sequence[Rules]
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    refuses: tuple[int, int] | None = (2, 0)
    needs: tuple[int, int, int] = (2, 0, 0)
    until: tuple[int, int] = (3, 0)
    per_listener: bool = False


ACL, PASSWORDS = "acl_file {acl}", "password_file {passwords}"
SECURITY = ["plugin {security}", "plugin_opt_config_file {dynamic}"]
DECIDES = ["plugin {foreign}", "plugin_opt_decides true"]
GRANTS = [*DECIDES, "plugin_opt_otherwise grant"]
LOOKS_ON = ["plugin {foreign}"]
OLD = ["auth_plugin {old}", "auth_opt_decides true"]
NOTHING, WITH_ACL = Rules(), Rules([ACL])

CASES = {
    "no rules": Case([NOTHING]),
    "no anonymous": Case([Rules([PASSWORDS], anonymous=False)]),
    "passwords, and anonymous too": Case([Rules([PASSWORDS])]),
    "acl": Case([WITH_ACL]),
    "acl of patterns": Case([Rules(["acl_file {patterns}"])]),
    "acl with nothing in it": Case([Rules(["acl_file {empty}"])]),
    "acl and passwords": Case([Rules([ACL, PASSWORDS], anonymous=False)]),
    "acl and passwords, and anonymous too": Case([Rules([ACL, PASSWORDS])]),
    "dynamic security behind": Case([NOTHING], after=SECURITY),
    "dynamic security before": Case([NOTHING], before=SECURITY, refuses=None),
    "dynamic security and acl": Case([WITH_ACL], after=SECURITY),
    "dynamic security, acl and passwords": Case([Rules([ACL, PASSWORDS], anonymous=False)], after=SECURITY),
    "a plugin that decides, behind": Case([NOTHING], after=DECIDES, refuses=(2, 1)),
    "a plugin that decides, before": Case([NOTHING], before=DECIDES, refuses=None),
    "a plugin that decides, and acl": Case([WITH_ACL], after=DECIDES, refuses=(2, 1)),
    "a plugin that grants, behind": Case([NOTHING], after=GRANTS, refuses=(2, 1)),
    "a plugin that grants, before, and acl": Case([WITH_ACL], before=GRANTS, refuses=None),
    "a plugin that looks on, behind": Case([NOTHING], after=LOOKS_ON, refuses=(2, 1)),
    "a plugin that looks on, before": Case([NOTHING], before=LOOKS_ON, refuses=None),
    "a plugin that looks on, and acl": Case([WITH_ACL], after=LOOKS_ON, refuses=(2, 1)),
    "a plugin that decides, beside dynamic security": Case(
        [NOTHING], after=[*SECURITY, *DECIDES], refuses=(2, 1)
    ),
    "an old plugin, behind": Case([NOTHING], after=OLD, refuses=(2, 1)),
    "an old plugin, before, and acl": Case([WITH_ACL], before=OLD, refuses=None),
    "each listener has its own": Case([WITH_ACL], per_listener=True, needs=(2, 0, 15), refuses=(2, 1)),
    "acl comes and goes": Case([NOTHING, WITH_ACL, NOTHING]),
    "acl goes and comes": Case([WITH_ACL, NOTHING, WITH_ACL]),
    "acl changes": Case([WITH_ACL, Rules(["acl_file {other}"])]),
    "acl comes beside dynamic security": Case([NOTHING, WITH_ACL], after=SECURITY),
    "acl goes beside dynamic security": Case([WITH_ACL, NOTHING], after=SECURITY),
    "acl comes beside a plugin": Case([NOTHING, WITH_ACL, NOTHING], after=LOOKS_ON, refuses=(2, 1)),
    "acl is lost": Case([WITH_ACL, Rules(["acl_file {missing}"]), WITH_ACL], until=(2, 1)),
    "acl that cannot be read": Case([NOTHING, Rules(["acl_file {broken}"]), NOTHING], until=(2, 1)),
    "passwords are lost": Case(
        [Rules([ACL, PASSWORDS]), Rules([ACL, "password_file {missing}"])], until=(2, 1)
    ),
    "passwords change": Case([Rules([PASSWORDS]), Rules(["password_file {fewer}"], anonymous=False)]),
    "a file that is wrong": Case([WITH_ACL, Rules(["no_such_setting 1"]), NOTHING]),
    "a file that is wrong later": Case([NOTHING, Rules([ACL, "no_such_setting 1"]), WITH_ACL]),
}


# ---- the script ----


class Script:
    """Plays everybody's part at a broker, and writes down what happens."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.transcript: list[str] = []
        self.witness = self._talker("witness", "hub", "of hub", 5)
        self.people = [
            self._talker(f"{name}-{protocol}", user, password, protocol)
            for number, (name, user, password) in enumerate(PEOPLE)
            for protocol in (PROTOCOLS if number < 3 else PROTOCOLS[:1])
        ]
        self._since = 0

    def play(self) -> list[str]:
        """Let everybody do everything, and return the transcript since the last time."""
        if not self.witness.connected:
            assert self.witness.connect(self.broker.port), "the witness is to be let in"
            for filter in ("#", "$other/#"):
                self.witness.subscribe(filter, 2)
        self._log_in()
        self._subscribe()
        for qos in (0, 1, 2):
            self._publish(qos)
        self._retain()
        self._leave_wills()
        self._sleep()
        self._look_back()
        transcript, self.transcript[:] = list(self.transcript), []
        return transcript

    def reload(self) -> None:
        """Return when the broker has read its file again; who is sent away is in the transcript."""
        since = len(self.broker.log())
        self.broker.reload()
        self.broker.wait_for_log("Reloading config", since=since)
        self._listen()

    def heard(self) -> Counter[tuple[str, str, int]]:
        """Return what the witness has heard, without what came because it was retained."""
        return Counter(message[:3] for message in self.witness.heard if not message[3])

    def _talker(self, name: str, user: str | None, password: str | None, protocol: int) -> Talker:
        return Talker(self.transcript, name, user, password, protocol)

    @property
    def _present(self) -> list[Talker]:
        return [person for person in self.people if person.connected]

    def _listen(self) -> None:
        for talker in [*self._present, self.witness]:
            talker.listen()

    def _log_in(self, *, with_wills: bool = False) -> None:
        for person in self.people:
            if not person.connected:
                will = ("a/gone", f"{person.name} is gone".encode(), 1) if with_wills else None
                person.connect(self.broker.port, will=will)

    def _subscribe(self) -> None:
        self.witness.publish("kept/x", "kept", 1, retain=True)
        self.witness.publish("a/secret/kept", "kept", 0, retain=True)
        for person in self._present:
            with suppress(Gone):
                for number, filter in enumerate(FILTERS):
                    person.subscribe(filter, number % 3)
                person.unsubscribe("+/x")
                person.subscribe("+/x", 2)
            person.listen()

    def _publish(self, qos: int) -> None:
        for person in [*self._present, self.witness]:
            with suppress(Gone):
                for topic in TOPICS:
                    person.publish(topic, f"of {person.name}", qos)
            self._listen()

    def _retain(self) -> None:
        for number, person in enumerate(self._present):
            with suppress(Gone):
                person.publish(f"kept/{person.name}", f"kept by {person.name}", number % 3, retain=True)
        self._listen()

    def _leave_wills(self) -> None:
        """A will is sent when its client is lost; the log tells when that was."""
        for person in list(self._present):
            person.drop()
            self._wait_for_end_of(person)
            for number, topic in enumerate(WILLS):
                if person.connect(
                    self.broker.port, will=(topic, f"will of {person.name}".encode(), number % 3)
                ):
                    person.drop()
                    self._wait_for_end_of(person)
            self._listen()

    def _wait_for_end_of(self, person: Talker) -> None:
        pattern = rf"[Cc]lient {re.escape(person.name)} .*(closed|disconnect)"
        self._since = self.broker.wait_for_log(pattern, since=self._since).end()

    def _sleep(self) -> None:
        """What waits for a client with a kept session, which then comes back as somebody else."""
        for protocol in PROTOCOLS:
            sleeper = self._talker(f"sleeper-{protocol}", "ann", "of ann", protocol)
            if not sleeper.connect(self.broker.port, kept=True):
                continue
            with suppress(Gone):
                sleeper.subscribe("#", 1)
                sleeper.leave()
            for topic in TOPICS:
                self.witness.publish(topic, "meanwhile", 1)
            if sleeper.connect(self.broker.port, kept=True, as_user="bob"):
                sleeper.listen()
                sleeper.unsubscribe("#")
                sleeper.listen()
                sleeper.leave()
        self._listen()

    def _look_back(self) -> None:
        """What is retained, for those who come later; a reload may send them away."""
        self._log_in(with_wills=True)
        for person in self._present:
            with suppress(Gone):
                person.subscribe("#", 2)
            person.listen()


# ---- files ----


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The plugins that a file may name: dynamic security, and ones of our own."""
    folder = tmp_path_factory.mktemp("plugins")
    found = {name: str(folder / f"{name}.so") for name in ("foreign", "old")}
    for name, file in found.items():
        command = [
            os.environ.get("CC", "gcc"),
            "-shared",
            "-fPIC",
            f"-DINTERFACE={4 if name == 'old' else 5}",
        ]
        subprocess.run([*command, "-o", file, SUPPORT / "foreign_plugin.c"], check=True)
    security = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"), None)
    return {**found, "security": str(security or "")}


@pytest.fixture
def files(plugins: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The paths of all files that rules name."""
    folder = tmp_path / "rules"
    folder.mkdir()
    texts = {
        "acl": RULES + PATTERNS,
        "patterns": HUB + PATTERNS,
        "empty": HUB,
        "other": OTHER_RULES,
        "broken": "topic readwrite public/#\nno rule at all\n",
        "passwords": "".join(f"{name}:of {name}\n" for name in ("hub", "ann", "bob")),
        "fewer": "hub:of hub\nbob:of bob\n",
        "dynamic": dynamic_security(),
        "subscriptions": json.dumps({"#": 2, "$other/#": 2}),
    }
    paths = {name: str(folder / name) for name in [*texts, "missing"]}
    for name, text in texts.items():
        Path(paths[name]).write_text(text)
    for name in ("passwords", "fewer"):
        subprocess.run(["mosquitto_passwd", "-U", paths[name]], check=True, capture_output=True)
    return {**paths, **plugins}


def dynamic_security() -> str:
    """Return the file of the dynamic security plugin: everything for hub, something for ann, bob and the others."""

    def client(name: str) -> dict[str, object]:
        salt = b"salt, twelve"
        key = hashlib.pbkdf2_hmac("sha512", f"of {name}".encode(), salt, 101, 64)
        return {
            "username": name,
            "roles": [{"rolename": name}],
            "password": base64.b64encode(key).decode(),
            "salt": base64.b64encode(salt).decode(),
            "iterations": 101,
        }

    def role(name: str, allowed: Sequence[str], denied: Sequence[str] = ()) -> dict[str, object]:
        kinds = ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
        acls = [
            {"acltype": kind, "topic": topic, "priority": 10 * (topic in denied), "allow": topic in allowed}
            for kind in kinds
            for topic in (*allowed, *denied)
        ]
        return {"rolename": name, "acls": acls}

    everything = ["#", "$other/#", "$SYS/#"]
    return json.dumps(
        {
            "defaultACLAccess": dict.fromkeys(
                ("publishClientSend", "publishClientReceive", "subscribe"), False
            )
            | {"unsubscribe": True},
            "clients": [client(name) for name in ("hub", "ann", "bob")],
            "groups": [{"groupname": "others", "roles": [{"rolename": "others"}]}],
            "anonymousGroup": "others",
            "roles": [
                role("hub", everything),
                role("ann", everything, ["a/secret/#"]),
                role("bob", ["a/#", "+/x", "kept/#"], ["foreign/no"]),
                role("others", ["public/#"]),
            ],
        }
    )


# ---- the two brokers ----


class Place:
    """A broker for a case, with the plugin or without it."""

    def __init__(
        self, broker: BrokerFactory, case: Case, files: dict[str, str], *, with_plugin: bool
    ) -> None:
        self._case = case
        self._files = files
        self._port = free_port()
        self._with_plugin = with_plugin
        self.broker: Broker = broker(
            None,
            start=False,
            port=self._port,
            configuration=self._configuration(case.rules[0]),
            plugin="built" if with_plugin else None,
            environment={"TEST_SUBSCRIPTIONS": files["subscriptions"]},
        )
        self.script = Script(self.broker)

    def play(self) -> list[list[str]]:
        """Start the broker and play the script under each of the case's rules; returns the transcripts."""
        self.broker.start()
        if self._with_plugin:
            self.broker.wait_for_log("[Ss]ession with the listener", timeout=20)
        with self.broker.client(username="hub", password="of hub") as client:
            client.subscribe("$SYS/broker/version")
            client.wait_for()  # it is there from the first sys_interval on
        transcripts = [self.script.play()]
        for rules in self._case.rules[1:]:
            self.broker.rewrite(self._configuration(rules))
            self.script.reload()
            transcripts.append(self.script.play())
        return transcripts

    def _configuration(self, rules: Rules) -> str:
        lines = ["per_listener_settings true"] if self._case.per_listener else []
        lines += [f"log_type {kind}" for kind in ("error", "warning", "notice", "information")]
        lines += ["log_dest stderr", "log_timestamp false", "set_tcp_nodelay true", "sys_interval 1"]
        lines += ["user root"] if os.geteuid() == 0 else []
        lines += [f"listener {self._port} 127.0.0.1", f"allow_anonymous {str(rules.anonymous).lower()}"]
        lines += [*self._case.before, *self._plugin(), *self._case.after, *rules.lines]
        return "\n".join(line.format_map(self._files) for line in lines) + "\n"

    def _plugin(self) -> list[str]:
        if not self._with_plugin:
            return []
        options = {
            "application": "apps.listener:application",
            "python_path": f"{APPS}:{APPS.parents[1] / 'python'}",
            "username": "hub",
            "password": "of hub",
            "port": self._port,
            "startup_timeout": int(40 * PATIENCE),
        }
        if virtualenv():
            options["virtualenv"] = virtualenv()
        lines = [f"plugin {plugin_path()}"]
        return lines + [f"plugin_opt_{name} {value}" for name, value in options.items()]


@pytest.mark.parametrize("name", CASES)
def test_nobody_notices(broker: BrokerFactory, files: dict[str, str], name: str) -> None:
    case = CASES[name]
    if not case.needs <= VERSION < case.until:
        pytest.skip("this Mosquitto cannot do this")
    without = Place(broker, case, files, with_plugin=False)
    beside = Place(broker, case, files, with_plugin=True)
    expected, found = without.play(), beside.play()
    for number, (before, after) in enumerate(zip(expected, found)):
        difference = list(
            difflib.unified_diff(before, after, "without the plugin", "with it", lineterm="", n=2)
        )
        assert not difference, f"under rules {number}:\n" + "\n".join(difference[:100])
    hears_what_the_witness_hears(beside)
    are_refused = "The session gets no copies" in beside.broker.log()
    assert are_refused == (case.refuses is not None and case.refuses <= VERSION and MARKS not in os.environ)


def hears_what_the_witness_hears(place: Place) -> None:
    """The consumer, who has subscribed to the same: nothing is lost, and nothing comes twice."""
    consumers = Consumers(place.broker, username="hub", password="of hub")
    heard = Counter(message[:3] for message in consumers.heard())
    place.script.witness.listen()
    expected = place.script.heard()
    # What `Consumers` says to the consumer and what that answers is of no interest.
    for message in [*heard, *expected]:
        if message[0] in ("ready", "did") or message[0].startswith("do/"):
            heard.pop(message, None)
            expected.pop(message, None)
    assert heard == expected
