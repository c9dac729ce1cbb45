"""What the command takes from arguments, environment and `.env` file; and that the plugin takes the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from mqttasgi.cluster.address import Address
from mqttasgi.command import options, values
from mqttasgi.command.command_line import parser
from mqttasgi.command.configuration import Places, lines, python_path, text_of
from mqttasgi.command.option_table import (
    APPLICATION,
    CONNECT,
    EXTRAS,
    OPTIONS,
    PARAMETERS,
    WEB,
    Option,
    Settings,
)
from mqttasgi.command.values import UsageError
from mqttasgi.runtime.bridge import Options as BridgeOptions
from support import option_table

PLUGIN = Path(__file__).resolve().parents[2] / "plugin"
APP = "mysite.asgi:application"

# As mqttasgi's documentation has it.
REFERENCE = """
| `-H / --host` | `MQTT_HOSTNAME` | `localhost` |
| `-p / --port` | `MQTT_PORT` | `1883` |
| `-U / --username` | `MQTT_USERNAME` | |
| `-P / --password` | `MQTT_PASSWORD` | |
| `-c / --cleansession` | `MQTT_CLEAN` | `True` |
| `-v / --verbosity` | `VERBOSITY` | `0` |
| `-i / --id` | `MQTT_CLIENT_ID` | |
| `-C / --cert` | `TLS_CERT` | |
| `-K / --key` | `TLS_KEY` | |
| `-S / --cacert` | `TLS_CA` | |
| `-SSL / --use-ssl` | `MQTT_USE_SSL` | `False` |
| `-T / --transport` | `MQTT_TRANSPORT` | `tcp` |
| `-r / --retries` | `MQTT_RETRIES` | `3` |
"""

by_name = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def resolve(
    folder: Path, *words: str, environment: dict[str, str] | None = None, dotenv: str = "", **more: Any
) -> Settings:
    (folder / ".env").write_text(dotenv)
    return options.resolve(
        parser("mqttasgi").parse_args(words), environment or {}, folder, more.get("application", APP)
    )


def examples(folder: Path) -> dict[str, tuple[str, Any]]:
    """Return a text for each option, and the value that it stands for; none is a default."""
    (folder / "file").touch()
    texts = {
        "application": ("other.asgi:app", "other.asgi:app"),
        "host": ("0.0.0.0", "0.0.0.0"),
        "port": (" 1884 ", 1884),
        "username": ("ann", "ann"),
        "password": ("s:e c#r$e\"t'", "s:e c#r$e\"t'"),
        "cleansession": ("False", False),
        "verbosity": ("2", 2),
        "client_id": ("the hub", "the hub"),
        "use_ssl": ("YES", True),
        "transport": ("WebSockets", "websockets"),
        "retries": ("0", 0),
        "connect": (
            "mqtts://ann:x@host:1,mqtts://[::1]",
            [
                Address("host", 1, True, False, "/mqtt", "ann", "x"),
                Address("::1", 0, True, False, "/mqtt", None, None),
            ],
        ),
        "group": ("fleet", "fleet"),
        "processes": ("4", 4),
        "leader": ("database", "database"),
        "keepalive": ("15", 15),
        "will_topic": ("fleet/{id}/gone", "fleet/{id}/gone"),
        "will_payload": ("gone", "gone"),
        "will_qos": ("1", 1),
        "will_retain": ("true", True),
        "bridge": ("on", True),
        "topic": ("home/+/#", "home/+/#"),
        "persistence": (str(folder / "kept"), str(folder / "kept")),
        "user": ("root", "root"),
        "http": (" [::1]:8000", "[::1]:8000"),
        "http_proxies": ("10.0.0.0/8, unix", "10.0.0.0/8, unix"),
    }
    for name in ("cert", "key", "cacert", "include", "http_cert", "http_key"):
        texts[name] = (str(folder / "file"), str(folder / "file"))
    return texts


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option alone; what they need beside them has tests with the command itself."""
    monkeypatch.setattr(options, "check_together", lambda settings: None)


# ---- the tables ----


def test_the_thirteen_are_mqttasgis() -> None:
    documented = [
        tuple(cell.strip(" `") for cell in row.strip("|").split("|")) for row in REFERENCE.split("\n") if row
    ]
    ours = [
        (" / ".join(option.flags), option.variable, "" if option.default is None else str(option.default))
        for option in PARAMETERS
    ]
    assert ours == documented


def test_no_two_options_have_the_same_name() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names) == len({option.variable for option in OPTIONS})
    assert names[0] == APPLICATION.name
    assert {option.name for option in (*PARAMETERS, *WEB, *CONNECT, *EXTRAS)} == set(names[1:])


@pytest.mark.parametrize("path", sorted(option_table.written()), ids=lambda path: path.name)
def test_what_is_written_from_the_tables(path: Path) -> None:
    assert path.read_text() == option_table.written()[path], option_table.WRITTEN_BY


@pytest.mark.parametrize("option", [APPLICATION, *PARAMETERS, *WEB], ids=lambda option: option.name)
def test_the_plugin_has_the_same_option(option: Option) -> None:
    row = next(row for row in option_table.rows() if row.key == option.name)
    assert row.variable == option.variable
    assert row.value() == option.default
    if row.kind == "number":
        assert (option.take(str(row.least)), option.take(str(row.most))) == (row.least, row.most)
        for text in (str(row.least - 1), str(row.most + 1)):
            with pytest.raises(ValueError, match=f"is not a number from [01] to {row.most}$"):
                option.take(text)
    if row.words:
        assert tuple(option.take(f" {word.upper()} ") for word in row.words) == row.words
        with pytest.raises(ValueError, match=f"is neither {' nor '.join(row.words)}$"):
            option.take("".join(row.words))


def test_what_only_one_of_them_has() -> None:
    table = {row.key: row for row in option_table.rows()}
    only_here = {option.variable for option in EXTRAS}
    assert not only_here & {row.variable for row in table.values()}
    assert not {option.name for option in EXTRAS} & set(table)


def test_the_plugin_knows_the_same_truths() -> None:
    words = re.search(r"words\[\] = \{(.*?)\};", (PLUGIN / "options" / "option_types.c").read_text())
    assert words is not None
    spelled = re.findall(r'"(\w+)"', words[1])
    truths = {word: number % 2 == 1 for number, word in enumerate(spelled)}
    assert truths == values.TRUTHS


def test_the_runtime_declares_what_it_gets() -> None:
    types = {key: type(value) for key, value in option_table.for_python().items()}
    declared = get_type_hints(BridgeOptions)
    assert {key: getattr(hint, "__origin__", hint) for key, hint in declared.items()} == types


def test_what_can_change_while_the_broker_runs_is_on_its_page() -> None:
    page = (PLUGIN.parent / "docs" / "reload.md").read_text()
    listed = {
        key
        for line in page.splitlines()
        if line.startswith("| `") and "at SIGHUP" in line
        for key in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert listed == {row.key for row in option_table.rows() if "AT_ONCE" in row.flags}


# ---- where values come from ----


@by_name
def test_from_each_place(option: Option, tmp_path: Path) -> None:
    text, value = examples(tmp_path)[option.name]
    argument = [f"{option.flags[-1]}={text}"] if option.flags else [text]
    flag = "/".join(option.flags) or "APPLICATION"
    for arguments, source in (
        ({"words": argument}, f"argument {flag}"),
        ({"environment": {option.variable: text}}, f"environment variable {option.variable}"),
        ({"dotenv": f"{option.variable}='{_escaped(text)}'\n"}, f"{tmp_path}/.env, {option.variable}"),
    ):
        settings = resolve(tmp_path, *arguments.pop("words", ()), **arguments)
        assert getattr(settings, option.name) == value
        assert type(getattr(settings, option.name)) is type(value)
        assert settings.sources == {option.name: source}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


@by_name
def test_its_short_form_too(option: Option, tmp_path: Path) -> None:
    text, value = examples(tmp_path)[option.name]
    for flag in option.flags[:1]:
        assert getattr(resolve(tmp_path, flag, text), option.name) == value


@by_name
def test_the_default(option: Option, tmp_path: Path) -> None:
    """Also where a variable is empty: that is as good as not there."""
    empty = {option.variable: ""}
    for settings in (resolve(tmp_path), resolve(tmp_path, environment=empty, dotenv=f"{option.variable}=\n")):
        assert getattr(settings, option.name) == (APP if option is APPLICATION else option.default)
        assert settings.sources == {}


@pytest.mark.parametrize(
    ("argument", "environment", "dotenv", "expected"),
    [("1", "2", "3", 1), (None, "2", "3", 2), (None, "", "3", 3), (None, None, "", 1883), ("1", "", "", 1)],
)
def test_the_first_wins(
    tmp_path: Path, argument: str | None, environment: str | None, dotenv: str, expected: int
) -> None:
    settings = resolve(
        tmp_path,
        *([] if argument is None else ["-p", argument]),
        environment={} if environment is None else {"MQTT_PORT": environment},
        dotenv=f"MQTT_PORT={dotenv}\n",
    )
    assert settings.port == expected


def test_a_wrong_value_that_does_not_count_is_none(tmp_path: Path) -> None:
    assert resolve(tmp_path, "-p", "1884", environment={"MQTT_PORT": "many"}).port == 1884


def test_the_application_of_the_settings_module_comes_last(tmp_path: Path) -> None:
    assert resolve(tmp_path, application="of.settings:app").application == "of.settings:app"
    environment = {"MQTTASGI_APPLICATION": "of.environment:app"}
    settings = resolve(tmp_path, environment=environment, application="of.settings:app")
    assert settings.application == "of.environment:app"


def test_relative_paths_are_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cert.pem").touch()
    assert resolve(tmp_path, "-C", "cert.pem", "--persistence", "kept").cert == f"{tmp_path}/cert.pem"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(tmp_path, "-C", "~/cert.pem").cert == f"{tmp_path}/cert.pem"
    with pytest.raises(UsageError, match='"~nobody-at-all/cert.pem" cannot be read: No such file'):
        resolve(tmp_path, "-C", "~nobody-at-all/cert.pem")


# ---- the .env file ----


def test_which_dotenv(tmp_path: Path) -> None:
    """What -o names comes before the environment, that before the working directory's, that before the code's."""
    places = {}
    for name in ("option", "environment", "code"):
        (tmp_path / name).mkdir()
        places[name] = tmp_path / name / ".env"
        places[name].write_text(f"MQTT_CLIENT_ID={name}\n")
    environment = {"MQTTASGI_PYTHON_PATH": f"{tmp_path}/nowhere:{tmp_path}/code"}

    def found(*words: str) -> tuple[str | None, str | None]:
        settings = options.resolve(parser("mqttasgi").parse_args(words), environment, tmp_path, APP)
        return settings.client_id, settings.env_file

    assert found() == ("code", str(places["code"]))
    (tmp_path / ".env").write_text("MQTT_CLIENT_ID=here\n")
    assert found() == ("here", f"{tmp_path}/.env")
    environment["MQTTASGI_ENV_FILE"] = str(places["environment"])
    assert found() == ("environment", str(places["environment"]))
    assert found("-o", f"env_file={places['option']}") == ("option", str(places["option"]))


def test_without_a_dotenv(tmp_path: Path) -> None:
    settings = options.resolve(parser("mqttasgi").parse_args([]), {}, tmp_path, APP)
    assert (settings.env_file, settings.variables) == (None, {})


# ---- options of the plugin, and the configuration ----


def configuration(folder: Path, *words: str, **more: Any) -> list[str]:
    places = Places("/plugin.so", "/sockets", "/passwords", "/project")
    made = lines(resolve(folder, *words, **more), places, as_root=False)
    assert text_of(made).endswith("\n")
    return [line for line in text_of(made).splitlines() if line and not line.startswith("#")]


def test_options_of_the_plugin_are_handed_on(tmp_path: Path) -> None:
    made = configuration(tmp_path, "-o", "spin=0", "-o", "loop=auto", "-o", "python_path=/a:/b c")
    after = made[made.index("plugin /plugin.so") :]
    assert "plugin_opt_spin 0" in after
    assert "plugin_opt_loop auto" in after
    assert "plugin_opt_python_path /a:/b c" in after
    assert not any(line.startswith("plugin_opt_python_path /project") for line in made)


def test_relative_folders_are_absolute_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system service is started elsewhere."""
    monkeypatch.chdir(tmp_path)
    made = configuration(tmp_path, "-o", "python_path=src:/lib", "-o", "virtualenv=venv")
    assert f"plugin_opt_python_path {tmp_path}/src:/lib" in made
    assert f"plugin_opt_virtualenv {tmp_path}/venv" in made
    assert f"plugin_opt_env_file {tmp_path}/.env" in made


def test_folders_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MQTTASGI_PYTHON_PATH", raising=False)
    assert python_path(resolve(tmp_path), "/project") == ["/project"]
    dotenv = "MQTTASGI_PYTHON_PATH=/of:/dotenv\n"
    assert python_path(resolve(tmp_path, dotenv=dotenv), "/project") == ["/of", "/dotenv"]
    monkeypatch.setenv("MQTTASGI_PYTHON_PATH", "/environment")
    assert python_path(resolve(tmp_path, dotenv=dotenv), "/project") == ["/environment"]
    settings = resolve(tmp_path, "-o", "python_path=/option", dotenv=dotenv)
    assert python_path(settings, "/project") == ["/option"]


def test_a_folder_that_no_line_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTTASGI_PYTHON_PATH", "/a\nuser root")
    with pytest.raises(UsageError, match="python_path has a control character in it"):
        configuration(tmp_path)


@pytest.mark.parametrize(
    ("host", "session"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.2", "127.0.0.2")]
)
def test_the_session_goes_where_the_listener_is(tmp_path: Path, host: str, session: str) -> None:
    if host == "::" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    made = configuration(tmp_path, "-H", host)
    assert f"listener 1883 {host}" in made
    assert f"plugin_opt_host {session}" in made
    assert "plugin_opt_port 1883" in made


def test_included_lines_come_last_and_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("# Why.\n\nlistener 1884 127.0.0.1\n  max_connections 5\n")
    settings = resolve(tmp_path, "--include", str(tmp_path / "more.conf"))
    text = text_of(lines(settings, Places("/plugin.so", "", "", ""), as_root=False))
    assert text.endswith("----\n# Why.\n\nlistener 1884 127.0.0.1\n  max_connections 5\n")


def test_the_help_has_every_option_with_its_variable() -> None:
    text = " ".join(parser("mqttasgi").format_help().split())
    for option in OPTIONS:
        assert f"[{option.variable}" in text
        for flag in option.flags:
            assert flag in text
