"""Debian's package and the wheel, made and used as docs/install.md says. For `tests/run --packages`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.confined import read_unit
from support.fresh import HOME, USER, Fresh, missing

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = f"{HOME}/mqttasgi"
CONFIGURATION = "/etc/mosquitto/conf.d/mqttasgi.conf"
BROKERS = """
# Waits until a broker serves port 1883, or has ended.
serves() {
    until mosquitto_pub -t started -n 2>/dev/null; do
        [ "$(readlink "/proc/$1/exe")" ] || { echo "the broker has ended"; return 1; }
        sleep 0.1
    done
}
# Publishes as a sensor of that name, and prints the average that a consumer publishes.
asks() { mosquitto_rr -V 5 -t "sensors/$1" -m 20.5 -e "averages/$1" -W 60; }
ends() { kill -TERM "$1"; wait "$1"; }
"""


pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.timeout(1200)]


def block(begins: str, *, without: str = "") -> str:
    """Return the code block of the page that begins so, without lines that begin with `without`."""
    found = re.findall(
        r"^```\w*\n(.*?\n)```$", (ROOT / "docs/install.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (text,) = (block for block in found if block.startswith(begins))
    return "".join(line for line in text.splitlines(True) if not without or not line.startswith(without))


def run_service(fresh: Fresh, sensor: str) -> str:
    """Start the broker by Debian's unit, let a message through a consumer, and return what the broker logged."""
    unit = read_unit((fresh.root / "lib/systemd/system/mosquitto.service").read_text())
    user = unit.get("User", ["root"])[-1]
    folders = (
        "mkdir -p /run/mosquitto /var/log/mosquitto\nchown mosquitto /run/mosquitto /var/log/mosquitto\n"
    )
    start = f"setpriv --reuid {user} --regid {user} --init-groups {unit['ExecStart'][-1]}"
    printed = fresh.as_root(
        f"{BROKERS}\n{folders}" + "\n".join(unit.get("ExecStartPre", [])) + "\nrm -f /var/log/mosquitto/mosquitto.log\n"
        f"{start} & broker=$!\n"
        f"serves $broker || {{ cat /var/log/mosquitto/mosquitto.log || true; exit 1; }}\n"
        f"test $(stat -c %U /proc/$broker) = mosquitto\n"
        f"echo the answer: $(asks {sensor})\n"
        "ends $broker\n",
        alone=True,
    )  # fmt: skip
    assert "the answer: 20.50\n" in printed, printed
    return (fresh.root / "var/log/mosquitto/mosquitto.log").read_text()


def run_command(fresh: Fresh, sensor: str, activate: str = "") -> str:
    """Start the broker by the command as the visitor in his project, and let a message through a consumer."""
    printed = fresh.paste(
        f"{BROKERS}\n{activate}cd house\nmqttasgi & broker=$!\nserves $broker\necho the answer: $(asks {sensor})\n"
        "ends $broker\n",
        alone=True,
    )
    assert "the answer: 20.50\n" in printed, printed
    return printed


def make_project(fresh: Fresh, activate: str = "") -> None:
    """Do what the page says but the last line, which starts the broker."""
    lines = block("mqttasgi startproject").splitlines(True)
    assert lines.pop() == "mqttasgi\n"
    fresh.paste(activate + "".join(lines))


def move_project(fresh: Fresh, replace: tuple[str, str] = ("", "")) -> None:
    """Put the project into Debian's service as the page says."""
    fresh.paste(block("sudo cp -r ~/house"))
    (fresh.root / CONFIGURATION.lstrip("/")).write_text(block("listener 1883").replace(*replace))


def difference(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


INSTALL = block("sudo apt-get install mosquitto-clients ./")


def debian(suite: str, name: str) -> Fresh:
    folder = ROOT / "build/image" / suite
    if not (folder / ".complete").exists():
        pytest.skip(f"there is no Debian in {folder}: tests/run --packages makes it")
    return Fresh(folder, ROOT / "build/packages" / f"{suite}-{name}")


@pytest.fixture(scope="class")
def built(request: pytest.FixtureRequest) -> Path:
    """A folder with both packages, made on the release of the class."""
    output = ROOT / "build/packages" / f"{request.cls.suite}-built"
    shutil.rmtree(output, ignore_errors=True)
    builder = debian(request.cls.suite, "builder")
    try:
        checkout = builder.root / CHECKOUT.lstrip("/")
        checkout.mkdir()
        for name in ("CMakeLists.txt", "CHANGELOG.md", "plugin", "python", "config"):
            subprocess.run(["cp", "-r", ROOT / name, checkout], check=True)
        builder.as_root(f"chown -R {USER} {CHECKOUT}")
        for begins in ("sudo apt-get install cmake dpkg-dev", "sudo apt-get install cmake gcc"):
            builder.paste(block(begins), where=CHECKOUT)
        output.mkdir(parents=True)
        for made in (*checkout.glob("build/deb/*.deb"), *checkout.glob("build/wheel/*.whl")):
            shutil.copy(made, output)
    finally:
        builder.remove()
    return output


@pytest.fixture
def fresh(built: Path, request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """That release with Mosquitto, as its users have it, and both packages in the visitor's folder."""
    made = debian(request.cls.suite, request.function.__name__)
    try:
        made.as_root("apt-get install --no-install-recommends mosquitto mosquitto-clients")
        for package in built.iterdir():
            shutil.copy(package, made.root / HOME.lstrip("/"))
        yield made
    finally:
        made.remove()


def refuse_beside_source(fresh: Fresh) -> None:
    """What `cmake --install` has put there would still be run: the package is not installed, and says the cure."""
    fresh.as_root("mkdir -p /usr/lib/mqttasgi/mqttasgi")
    said = fresh.paste(f"{INSTALL.strip()} 2>&1 || true")
    assert "/usr/lib/mqttasgi/mqttasgi was installed from source; remove that first:" in said, said
    (cure,) = re.findall(r"^ *(sudo rm -r .*)", said, re.MULTILINE)
    fresh.paste(cure.replace("rm -r", "rm -rf"))


class Packages:
    """The tests for one release; `--dist loadscope` runs each class in a process of its own."""

    suite: str

    def test_debian_package(self, fresh: Fresh, built: Path) -> None:
        """Installed, it changes nothing but that its files are there; purged, they are not."""
        (package,) = built.glob("*.deb")
        for field in ("Depends", "Recommends"):
            command = ["dpkg-deb", "-f", str(package), field]
            needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            fresh.as_root(f"apt-get satisfy --no-install-recommends {shlex.quote(needed)}")
        refuse_beside_source(fresh)
        before = fresh.files()
        fresh.paste(INSTALL)
        installed = difference(before, fresh.files())
        own = {*fresh.as_root("dpkg -L mqttasgi-broker").split()}
        strangers = [path for path in installed if path not in own and "/mqttasgi/" not in path]
        assert not strangers, strangers
        assert "/usr/lib/python3/dist-packages/mqttasgi/__pycache__" in installed

        make_project(fresh)
        printed = run_command(fresh, "hall")
        assert "house.asgi:application runs in Mosquitto" in printed
        move_project(fresh)
        assert "house.asgi:application runs in Mosquitto" in run_service(fresh, "cellar")

        fresh.paste(block("sudo rm /etc/mosquitto", without="sudo systemctl"))
        left = difference(before, fresh.files())
        assert not left, left
        assert "no packages found" in fresh.as_root("dpkg-query -W mqttasgi-broker 2>&1 || true")

    def test_lintian(self, built: Path) -> None:
        (package,) = built.glob("*.deb")
        command = ["lintian", "--allow-root", "--fail-on", "error,warning", str(package)]
        said = subprocess.run(command, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr

    def test_wheel(self, fresh: Fresh, built: Path) -> None:
        """Pip installs all of it beside Mosquitto; with PyPI's mqttasgi in the same environment, both sides say so."""
        mosquitto, libpython, *rest = block("sudo apt-get install mosquitto mosquitto-clients").splitlines(
            True
        )
        fresh.paste(mosquitto)
        before = fresh.files()
        install = "".join(rest)
        assert rest[-1] == ". venv/bin/activate\n"
        fresh.paste(install)
        activate = f". {HOME}/venv/bin/activate\n"
        make_project(fresh, activate)
        said = fresh.paste(f"{activate}cd house\nmqttasgi --check 2>&1 || true")
        assert re.search(
            r"needs libpython3\.\d+\.so\S*, which this machine has not: apt-get install libpython3", said
        ), said
        fresh.paste(libpython)
        run_command(fresh, "kitchen", activate)
        fresh.as_root(f"chmod o+x {HOME}")
        printed = fresh.paste(f"{activate}cd house\nmqttasgi --print-config")
        (plugin,) = re.findall(r"^plugin (.*)", printed, re.MULTILINE)
        assert plugin.startswith(f"{HOME}/venv/lib/python3.") and plugin.endswith(
            "/mqttasgi/mqttasgi_plugin.so"
        )
        move_project(
            fresh,
            ("plugin /usr/lib/mqttasgi_plugin.so", f"plugin {plugin}\nplugin_opt_virtualenv {HOME}/venv"),
        )
        assert " has mqttasgi " not in run_service(fresh, "garden")

        clash = (
            f"{plugin.removesuffix('/mqttasgi/mqttasgi_plugin.so')} has mqttasgi 2.0.0 and mqttasgi-broker "
        )
        fresh.paste(f"{activate}pip install --no-deps mqttasgi==2.0.0")
        assert clash in run_service(fresh, "porch")
        fresh.paste(f"{activate}pip install --force-reinstall --no-deps ./mqttasgi_broker-*.whl")
        assert f"mqttasgi: {clash}" in run_command(fresh, "attic", activate)
        fresh.paste(activate + block("pip uninstall -y mqttasgi"))
        assert clash not in run_command(fresh, "garage", activate)

        fresh.paste(f"{activate}pip uninstall -y mqttasgi-broker")
        assert not list((fresh.root / HOME.lstrip("/") / "venv").rglob("*mqttasgi*"))
        fresh.as_root(f"rm {CONFIGURATION}")
        fresh.paste(libpython.replace("install", "purge"))
        left = difference(before, fresh.files())
        assert not left, left


class TestBookworm(Packages):
    suite = "bookworm"


class TestTrixie(Packages):
    suite = "trixie"
