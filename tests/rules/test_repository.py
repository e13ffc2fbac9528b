"""What a checkout may and may not hold."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MODULE_LINES = 400
LOCKS = sorted(path.name for path in (ROOT / "locks").glob("*.txt"))

# In pieces, or this file would break its own rule.
REGISTRY_HOST = re.compile(
    r"(pypi|pythonhosted|npmjs|yarnpkg|debian|golang|maven(?:\.apache)?|sonatype)\.(?:org|com)\b|crates\." + "io",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|home/\w+|Users/\w+)/\w", re.ASCII)


@cache
def checkout() -> list[Path]:
    """Every file that is tracked or would be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in sorted(set(listing.split("\0")) - {""}) if (path := ROOT / name).is_file()]


def lines(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in checkout():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def pins(lock: str) -> dict[str, str]:
    """The version of each package of a lock, whatever the Python or the platform."""
    text = (ROOT / "locks" / lock).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def wanted(lock: str) -> Iterator[Requirement]:
    """What a lock is asked for: its .in file's lines, and for a package of ours what that one declares."""
    for line in (ROOT / "locks" / lock).with_suffix(".in").read_text("utf-8").splitlines():
        if line.startswith("./"):
            folder, _, extras = line.removesuffix("]").partition("[")
            yield from declared(folder, {name for name in extras.split(",") if name})
        elif line and not line.startswith(("#", "-c")):
            yield Requirement(line)


def declared(folder: str, extras: set[str]) -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    texts = [*project["dependencies"], *(text for extra in extras for text in optional[extra])]
    for requirement in map(Requirement, texts):
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            yield from declared(folder, requirement.extras)
        elif not requirement.name.startswith("aiflow-"):
            yield requirement


def test_no_file_names_a_package_registry() -> None:
    assert not list(lines(REGISTRY_HOST))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert not list(lines(MACHINE_PATH))


@pytest.mark.parametrize(
    "text", ["see https://" + "pypi" + ".org/simple", "crates" + ".io", "cd /" + "root/x", "'/home" + "/me/x'"]
)
def test_the_two_patterns_find_what_they_are_for(text: str) -> None:
    assert REGISTRY_HOST.search(text) or MACHINE_PATH.search(text)


def test_no_module_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in checkout()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"
    }
    assert not {name: length for name, length in lengths.items() if length > MODULE_LINES}


def test_there_is_no_lock_but_ours() -> None:
    assert not [path for path in checkout() if path.name == "uv.lock"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "locks" / lock).read_text("utf-8")
    assert "://" not in text
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if entry]
    assert entries
    assert not [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_is_asked_for(lock: str) -> None:
    pinned = pins(lock)
    for requirement in wanted(lock):
        version = pinned.get(canonicalize_name(requirement.name), "none")
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is {version}: make lock"


def test_the_demo_runs_on_the_versions_that_the_tests_ran_on() -> None:
    assert pins("demo.txt").items() <= pins("dev.txt").items()


def test_the_sdks_core_installs_no_driver() -> None:
    core = {requirement.name for requirement in declared("packages/aiflow-sdk", set())}
    assert core == {"click", "pydantic", "tzdata"}
