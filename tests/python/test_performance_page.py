"""docs/performance.md: the figures are those of a commit of this project, and how many commits ago that was."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
SOURCES = ("plugin", "python", "CMakeLists.txt")
MEASURE = "measure with tests/bench/run --for-page"


def load_blocks() -> ModuleType:
    """Load tests/bench/blocks.py alone: the benchmark's other modules have names that tests have too."""
    spec = importlib.util.spec_from_file_location("bench_blocks", ROOT / "tests" / "bench" / "blocks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = load_blocks()


def git(folder: Path, *words: str) -> str | None:
    """Return what git says; None where it fails."""
    command = ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def wrong(page: str, folder: Path) -> list[str]:
    """Return a sentence for each block that nobody measured, or that somebody changed."""
    found = []
    for block in bench.blocks(page):
        about = f"figures of Mosquitto {block.version}"
        if block.digest != block.digested():
            found.append(f"The {about} were changed by hand: {MEASURE}.")
        if git(folder, "merge-base", "--is-ancestor", block.commit, "HEAD") is None:
            found.append(f"The {about} are of {block.commit[:12]}, which is not in the history: {MEASURE}.")
    return found


def old(page: str, folder: Path) -> list[str]:
    """Return a sentence for each block that is older than the product."""
    found = []
    for block in bench.blocks(page):
        newer = git(folder, "log", "--format=%h", f"{block.commit}..HEAD", "--", *SOURCES)
        if newer:
            count = len(newer.splitlines())
            commits = "1 commit" if count == 1 else f"{count} commits"
            found.append(
                f"docs/performance.md: the figures of Mosquitto {block.version} are {commits} old (measured at "
                f"{block.commit[:12]}, the product last changed in {newer.split()[0]})."
            )
    return found


def history(folder: Path) -> None:
    """Skip where there is none, or only its end."""
    if git(folder, "rev-parse", "HEAD") is None:
        pytest.skip("no repository: the history is not known")
    if git(folder, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone: the history is not known")


# The age is told, and fails nothing: whoever changes the product need not measure it at once.
@pytest.mark.filterwarnings("always::UserWarning")
def test_the_figures_are_those_of_a_commit() -> None:
    history(ROOT)
    page = PAGE.read_text()
    assert wrong(page, ROOT) == []
    for sentence in old(page, ROOT):
        warnings.warn(sentence, UserWarning, stacklevel=1)
    if not bench.blocks(page):
        warnings.warn(
            f"docs/performance.md has no figures of this build: {MEASURE}", UserWarning, stacklevel=1
        )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of the product."""
    if git(tmp_path, "init", "-q") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "config", "user.email", "nobody@localhost")
    git(tmp_path, "config", "user.name", "nobody")
    commit(tmp_path, "plugin/plugin.c")
    return tmp_path


def commit(folder: Path, name: str) -> str:
    """Add a file; return the commit."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(name)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", name)
    return git(folder, "rev-parse", "HEAD") or ""


def page_of(commit: str) -> str:
    return str(bench.with_block("# Performance\n\nHow.\n", bench.Block("2.0.11", commit, "| 1 |\n")))


def test_figures_of_the_newest_product(repository: Path) -> None:
    measured = git(repository, "rev-parse", "HEAD") or ""
    commit(repository, "docs/performance.md")
    page = page_of(measured)
    assert (wrong(page, repository), old(page, repository)) == ([], [])


def test_figures_of_an_older_product(repository: Path) -> None:
    measured = git(repository, "rev-parse", "HEAD") or ""
    commit(repository, "python/consumers.py")
    last = commit(repository, "plugin/queue.c")
    page = page_of(measured)
    assert wrong(page, repository) == []
    (sentence,) = old(page, repository)
    assert "the figures of Mosquitto 2.0.11 are 2 commits old" in sentence
    assert f"measured at {measured[:12]}" in sentence
    assert sentence.split()[-1].rstrip(").") in last


def test_figures_of_another_history(repository: Path) -> None:
    (sentence,) = wrong(page_of("0123456789abcdef0123456789abcdef01234567"), repository)
    assert "0123456789ab, which is not in the history" in sentence


def test_figures_changed_by_hand(repository: Path) -> None:
    page = page_of(git(repository, "rev-parse", "HEAD") or "").replace("| 1 |", "| 2 |")
    assert wrong(page, repository) == [f"The figures of Mosquitto 2.0.11 were changed by hand: {MEASURE}."]


def test_a_block_takes_the_place_of_that_of_the_same_series() -> None:
    page = f"# Performance\n\nWhat.\n\n{bench.BEHIND}\n\nHow.\n"
    for version, text in (("2.0.11", "a\n"), ("2.1.2", "b\n"), ("2.0.21", "c\n")):
        page = bench.with_block(page, bench.Block(version, "abc", text))
    assert [(block.version, block.text) for block in bench.blocks(page)] == [
        ("2.0.21", "c\n"),
        ("2.1.2", "b\n"),
    ]
    assert page.startswith("# Performance\n\nWhat.\n\n<!-- figures: Mosquitto 2.0.21, commit abc, ")
    assert page.endswith(f"\nb\n<!-- end of figures -->\n\n{bench.BEHIND}\n\nHow.\n")
    assert all(block.digest == block.digested() for block in bench.blocks(page))
