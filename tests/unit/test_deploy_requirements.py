"""What a deployed project needs: its lock, or what is installed, and wheels of what no registry has."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aiflow_sdk.config import Project
from aiflow_sdk.deployment.packaging import local_wheels, pack_again
from aiflow_sdk.deployment.requirements import Installed, Requirements, find_requirements
from aiflow_sdk.errors import ConfigurationError, DefinitionError, ProblemsError


def locked(root: Path, text: str, name: str = "requirements.lock") -> Project:
    (root / name).write_text(text)
    return Project(root, lock=name, config_path=root / "aiflow.toml")


def test_without_a_lock_the_installed_versions_are_pinned(tmp_path):
    found = find_requirements(Project(tmp_path))
    lines = found.text.splitlines()
    assert lines == sorted(lines)
    assert any(line.startswith("polars==") for line in lines)
    assert not any(line.startswith("aiflow-sdk") for line in lines)
    assert "aiflow-sdk" in {one.key for one in found.local}
    assert found.python == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_the_lock_is_taken_without_what_is_on_this_machine_alone(tmp_path):
    (tmp_path / "own").mkdir()
    found = find_requirements(
        locked(
            tmp_path,
            """
# a comment
polars==2.1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb  # why
Aiflow_SDK==0.1.0
tool @ git+https://example.com/x.git@abc
-e ./own
--only-binary polars
other @ file:///srv/other-1.0-py3-none-any.whl
""",
        )
    )
    assert found.text.splitlines() == [
        "polars==2.1.0 --hash=sha256:aa --hash=sha256:bb",
        "Aiflow_SDK==0.1.0",
        "tool @ git+https://example.com/x.git@abc",
        "--only-binary polars",
    ]
    assert found.folders == (tmp_path / "own", Path("/srv/other-1.0-py3-none-any.whl"))
    assert "aiflow-sdk" not in {one.key for one in found.local}, "the lock names it, so a registry has it"


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("-e ./own", "own"),
        ("--editable=./own", "own"),
        ("./own[extra]", "own"),
        ("../x", "../x"),
        ("own @ file:///srv/a%20b", "/srv/a b"),
        ("/srv/x.whl --hash=sha256:aa", "/srv/x.whl"),
        ("./own ; python_version > '3'", "own"),
    ],
)
def test_every_form_of_a_place_on_this_machine(tmp_path, line, target):
    found = find_requirements(locked(tmp_path, f"{line}\n"))
    assert (found.text, found.folders) == ("", ((tmp_path / target).resolve(),))


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("uv.lock", "version = 1", "unusable-lock"),
        ("lock.txt", "polars==1\n-r more.txt\n", "unusable-lock"),
        ("lock.txt", "-c constraints.txt", "unusable-lock"),
    ],
)
def test_a_lock_that_does_not_stand_for_itself_is_refused(tmp_path, name, text, code):
    with pytest.raises(ConfigurationError) as caught:
        find_requirements(locked(tmp_path, text, name))
    assert caught.value.code == code


def test_a_lock_that_is_not_there_and_an_interpreter_that_is_none(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        find_requirements(Project(tmp_path, lock="gone.txt"))
    assert caught.value.code == "missing-lock"
    with pytest.raises(ConfigurationError) as caught:
        find_requirements(Project(tmp_path, python="gone/bin/python"))
    assert caught.value.code == "broken-interpreter"


def test_where_a_requirement_comes_from_is_kept():
    git = {"url": "https://example.com/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    assert Installed("x", "1", git, "").requirement == "x @ git+https://example.com/x.git@abc"
    archive = {"url": "https://example.com/x-1.whl", "archive_info": {}}
    assert Installed("x", "1", archive, "").requirement == "x @ https://example.com/x-1.whl"


def own_package(root: Path, backend: str = "hatchling") -> Path:
    folder = root / "own plugin"
    (folder / "src/own_plugin").mkdir(parents=True)
    (folder / "src/own_plugin/__init__.py").write_text("NAME = 'own'\n")
    (folder / "pyproject.toml").write_text(
        f"""
[build-system]
requires = ["{backend}"]
build-backend = "{backend}.build"
[project]
name = "own-plugin"
version = "1.2"
requires-python = ">=3.11"
[project.scripts]
own = "own_plugin:main"
[tool.hatch.build.targets.wheel]
packages = ["src/own_plugin"]
"""
    )
    return folder


def editable(folder: Path) -> Requirements:
    origin = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    return Requirements("", "3.11", (Installed("own-plugin", "1.2", origin, ""),))


def test_an_editable_package_is_built_once_and_again_when_it_changed(tmp_path):
    folder = own_package(tmp_path)
    project = Project(tmp_path)
    ((name, content),) = local_wheels(project, editable(folder))
    assert name == "own_plugin-1.2-py3-none-any.whl"
    assert "own_plugin/__init__.py" in zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert {entry.date_time[0] for entry in zipfile.ZipFile(io.BytesIO(content)).infolist()} == {1980}
    (kept,) = (tmp_path / ".aiflow/cache/wheels").rglob("*.whl")
    kept.write_bytes(b"remembered")
    assert [*local_wheels(project, editable(folder))] == [(name, b"remembered")]
    (folder / "src/own_plugin/more.py").write_text("")
    ((_, changed),) = local_wheels(project, editable(folder))
    assert "own_plugin/more.py" in zipfile.ZipFile(io.BytesIO(changed)).namelist()


def test_a_folder_that_the_lock_names_is_built(tmp_path):
    folder = own_package(tmp_path)
    wheels = list(local_wheels(Project(tmp_path), Requirements("", "3.11", folders=(folder,))))
    assert [name for name, _ in wheels] == ["own_plugin-1.2-py3-none-any.whl"]


@pytest.mark.parametrize("fault", ["gone", "no-backend", "broken"])
def test_what_cannot_be_built_is_told(tmp_path, fault, monkeypatch):
    folder = own_package(tmp_path, "no_such_backend" if fault == "no-backend" else "hatchling")
    monkeypatch.setenv("PATH", "")  # no uv that would fetch the backend
    match fault:
        case "gone":
            folder = tmp_path / "nowhere"
        case "broken":
            (folder / "pyproject.toml").write_text('[build-system]\nbuild-backend = "hatchling.build"\n')
    with pytest.raises(ConfigurationError) as caught:
        list(local_wheels(Project(tmp_path), editable(folder)))
    assert caught.value.code == "unbuildable-package"
    assert "own-plugin" in str(caught.value)


PURE = "Root-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n"


def install(root: Path, record: list[str], wheel: str = PURE) -> Installed:
    """An installed distribution, laid out as an installer does."""
    site = root / "site"
    info = site / "own_plugin-1.2.dist-info"
    files = {
        "own_plugin/__init__.py": "NAME = 1\n",
        "own_plugin/data.txt": "data",
        f"{info.name}/METADATA": "Metadata-Version: 2.1\nName: own-plugin\nVersion: 1.2\n",
        f"{info.name}/WHEEL": f"Wheel-Version: 1.0\n{wheel}",
        f"{info.name}/entry_points.txt": "[console_scripts]\nown = own_plugin:main\n",
        f"{info.name}/INSTALLER": "uv",
        f"{info.name}/direct_url.json": "{}",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    lines = [*files, "own_plugin/__pycache__/__init__.cpython-311.pyc", f"{info.name}/RECORD", *record]
    (info / "RECORD").write_text("".join(f"{line},,\n" for line in lines))
    return Installed("own-plugin", "1.2", {"url": "file:///gone", "dir_info": {}}, str(info))


def test_an_installed_package_is_packed_again(tmp_path):
    one = install(tmp_path, ["../../../bin/own"])
    name, content = pack_again(one)
    assert name == "own_plugin-1.2-py2.py3-none-any.whl"
    info = "own_plugin-1.2.dist-info"
    assert sorted(zipfile.ZipFile(io.BytesIO(content)).namelist()) == [
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
        f"{info}/entry_points.txt",
        "own_plugin/__init__.py",
        "own_plugin/data.txt",
    ]
    (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", "import own_plugin; print(own_plugin.NAME)"],
        env={"PYTHONPATH": str(tmp_path / name)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize("fault", ["outside", "binary", "gone", "no-record"])
def test_what_cannot_be_packed_again_is_told(tmp_path, fault):
    wheel = "Root-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n" if fault == "binary" else PURE
    record = {"outside": ["../../../etc/own.conf"], "gone": ["own_plugin/lost.py"]}.get(fault, [])
    one = install(tmp_path, record, wheel)
    if fault == "no-record":
        Path(one.dist_info, "RECORD").unlink()
    with pytest.raises(ConfigurationError) as caught:
        list(local_wheels(Project(tmp_path), Requirements("", "3.11", (one,))))
    assert caught.value.code == "unbuildable-package"


SECRETS = [
    "INDEX SCHEMEuser:{}@host.example/PATH",
    "EXTRA=SCHEMEuser:{}@host.example/PATH",
    "tool @ SCHEMEuser:{}@files.example.com/tool-1.0-py3-none-any.whl",
    "tool @ git+SCHEME{}@git.example.com/tool.git@abc",
    "INDEX SCHEMEhost.example/PATH?token={}",
    "INDEX SCHEMEhost.example/PATH?v=1&X-Amz-Signature={}#x",
    "tool @ SCHEMEfiles.example.com/tool-1.0-py3-none-any.whl?sv=2&sig={}",
    "INDEX SCHEMEhost.example/PATH?private_token={}",
    "INDEX SCHEMEhost.example/PATH?apikey={}",
    "INDEX SCHEMEuser:pa/{}@host.example/PATH",
    "# uv pip compile INDEX SCHEMEuser:{}@host.example/PATH",
]
PASSWORD = "hunter22hunter22hunter22"


def whole(line: str) -> str:
    """Return the line as it stands in a lock: no file here names the address of an index."""
    option = "index-url"
    words = {"INDEX": f"--{option}", "EXTRA": f"--extra-{option}", "PATH": "simple"}
    for word, meant in words.items():
        line = line.replace(word, meant)
    return line.replace("SCHEME", "https://")


@pytest.mark.parametrize("line", SECRETS)
def test_a_password_in_an_address_is_refused_and_not_shown(tmp_path, line):
    with pytest.raises(ProblemsError) as caught:
        find_requirements(locked(tmp_path, f"polars==1.0\n{whole(line.format(PASSWORD))}\n"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.path, problem.where.line) == ("literal-secret", "requirements.lock", 2)
    assert "UV_INDEX_" in problem.hint
    assert PASSWORD not in str(problem.to_dict())


@pytest.mark.parametrize(
    "line",
    [
        "INDEX SCHEMEhost.example/PATH",
        "INDEX SCHEMEVssSessionToken@host.example/PATH",
        "INDEX SCHEME${USER}:${TOKEN}@host.example/PATH",
        "INDEX SCHEMEreader:${TOKEN}@host.example/PATH",
        "tool @ git+ssh://git@git.example.com/tool.git@abc",
        "tool @ git+ssh://git.example.com:team/tool.git@abc",
        "tool @ git+SCHEMEgit.example.com:8443/team/tool.git@abc",
        "tool @ git+SCHEME[::1]:8443/team/tool.git@abc",
        "tool @ git+SCHEMEcontoso-data-platform@dev.azure.com/contoso-data-platform/shop/_git/tool@abc",
        "tool @ git+SCHEMEcontoso-data-platform@contoso-data-platform.visualstudio.com/shop/_git/tool@abc",
        "INDEX SCHEMEhost.example/PATH?token=${TOKEN}",
        "INDEX SCHEMEhost.example/PATH?monkey=1&keyword=x&design=2",
        "tool @ SCHEMEfiles.example.com/a@b/tool-1.0-py3-none-any.whl",
    ],
)
def test_an_address_without_a_password_is_taken(tmp_path, line):
    text = f"{whole(line)}\n"
    assert find_requirements(locked(tmp_path, text)).text == text


def test_a_package_that_was_installed_with_a_password_is_told_by_its_name(tmp_path, monkeypatch):
    installed = Installed("tool", "1.0", {"url": f"https://user:{PASSWORD}@files.example.com/tool.whl"}, "")
    # Installers leave it out of what they write down; an old one may not have, and cannot be had here.
    monkeypatch.setattr("aiflow_sdk.deployment.requirements._ask", lambda python: ("3.11", [installed]))
    with pytest.raises(DefinitionError) as caught:
        find_requirements(Project(tmp_path))
    assert (caught.value.code, "'tool'" in str(caught.value), PASSWORD in str(caught.value)) == (
        "literal-secret",
        True,
        False,
    )
