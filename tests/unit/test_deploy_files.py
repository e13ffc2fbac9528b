"""Which files of a project are deployed, and that equal files give equal wheels."""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import files
from aiflow_sdk.deployment.files import code_wheel
from aiflow_sdk.errors import ConfigurationError, ProblemsError, StoreError


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return root


def held(root: Path) -> set[str]:
    """The names in the wheel of the project, without those that describe it."""
    _, content = code_wheel(load_project(root))
    return {name for name in zipfile.ZipFile(io.BytesIO(content)).namelist() if ".dist-info/" not in name}


def test_code_and_data_are_taken_and_the_rest_is_not(tmp_path):
    taken = {"aiflow.toml", "pipelines/a.py", "etl/sql/query.sql", "etl/data.csv", "helper.py", "etl/build/x.py"}
    left = {
        ".env",
        ".aiflow/lake/x",
        ".venv/lib/x.py",
        "env/pyvenv.cfg",
        "env/lib/y.py",
        "tests/test_a.py",
        "build/z.py",
        "dist/w.whl",
        "etl/__pycache__/a.cpython-311.pyc",
        "etl/.ipynb_checkpoints/n.py",
        "node_modules/m.js",
        "shop.egg-info/PKG-INFO",
        "lakes/dev/t/part.parquet",
        "stage/f",
        "published/prod/objects/x",
        "secrets/password",
    }
    write(tmp_path, *taken, *left)
    (tmp_path / "aiflow.toml").write_text(
        '[environments.prod]\nlake = "lakes/dev"\nstaging = "stage"\nbundles = "published"\n'
        '[environments.prod.secrets]\nprovider = "file"\npath = "secrets"\n'
    )
    assert held(tmp_path) == taken


def test_a_project_without_a_file_of_settings_gets_one(tmp_path):
    write(tmp_path, "pipelines/a.py")
    assert held(tmp_path) == {"aiflow.toml", "pipelines/a.py"}


def test_what_git_ignores_is_left_out(tmp_path):
    write(tmp_path, "pipelines/a.py", "data/huge.csv", "pipelines/key.pem", "new.py")
    (tmp_path / ".gitignore").write_text("data/\n*.pem\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert held(tmp_path) == {"aiflow.toml", "pipelines/a.py", "new.py"}


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "shared", "lib/code.py")
    root = write(tmp_path / "project", "pipelines/a.py")
    (root / "lib").symlink_to(tmp_path / "shared/lib")
    (root / "pipelines/again").symlink_to(root)
    (root / "gone.py").symlink_to(tmp_path / "nowhere")
    assert held(root) == {"aiflow.toml", "pipelines/a.py", "lib/code.py"}


def test_equal_files_give_equal_bytes_wherever_and_whenever(tmp_path):
    one = write(tmp_path / "one", "pipelines/b.py", "pipelines/a.py", "aiflow.toml")
    (one / "pipelines/run.sh").write_text("echo")
    (one / "pipelines/run.sh").chmod(0o755)
    other = tmp_path / "other"
    shutil.copytree(one, other, copy_function=shutil.copy)
    os.utime(other / "pipelines/a.py", (time.time() - 1e6,) * 2)
    assert code_wheel(load_project(one)) == code_wheel(load_project(other))
    (other / "pipelines/a.py").write_text("another")
    assert code_wheel(load_project(one))[0] != code_wheel(load_project(other))[0]


def test_the_wheel_is_one_and_unpacked_a_project(tmp_path):
    root = write(tmp_path / "p", "pipelines/a.py", "etl/größe, mit Komma.txt")
    (root / "aiflow.toml").write_text('project = "My.Shop"\n')
    stored, content = code_wheel(load_project(root))
    assert stored.file.startswith("aiflow_project_my_shop-0+")
    assert stored.file.endswith("-py3-none-any.whl")
    archive = zipfile.ZipFile(io.BytesIO(content))
    (record,) = (name for name in archive.namelist() if name.endswith("RECORD"))
    rows = list(csv.reader(archive.read(record).decode().splitlines()))
    assert {row[0] for row in rows} == set(archive.namelist())
    for name, digest, size in rows:
        if name != record:
            data = archive.read(name)
            told = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={told}", len(data))
    archive.extractall(tmp_path / "out")
    assert load_project(tmp_path / "out").name == "My.Shop"


def test_data_among_the_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST_BYTES", 20)  # of a size that no test writes
    write(tmp_path, "pipelines/a.py", "dump.csv")
    with pytest.raises(ConfigurationError) as caught:
        code_wheel(load_project(tmp_path))
    assert caught.value.code == "code-too-large"


def test_a_name_that_is_no_text_is_refused(tmp_path):
    write(tmp_path, "pipelines/a.py")
    (tmp_path / os.fsdecode(b"na\xffme.txt")).write_text("x")
    with pytest.raises(ConfigurationError) as caught:
        code_wheel(load_project(tmp_path))
    assert caught.value.code == "bad-file-name"


def test_a_file_that_goes_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    write(tmp_path, "pipelines/a.py")
    monkeypatch.setattr(files, "_find", lambda root, places: iter([("x.py", root / "x.py")]))  # gone since
    with pytest.raises(StoreError) as caught:
        code_wheel(load_project(tmp_path))
    assert caught.value.code == "unreadable-project"


@pytest.mark.parametrize("name", ["requirements-dev.txt", "pyproject.toml", "sub/pip.conf", "uv.toml"])
def test_a_file_for_installers_that_holds_a_password_is_not_published(tmp_path, name):
    (tmp_path / "sub").mkdir()
    line = "INDEX = SCHEMEuser:hunter22@host.example/x".replace("INDEX", "index-url")
    (tmp_path / name).write_text(f"\n{line.replace('SCHEME', 'https://')}\n")
    (tmp_path / "notes.txt").write_text("https://user:password@example.com is how one writes it")
    with pytest.raises(ProblemsError) as caught:
        code_wheel(load_project(tmp_path))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.path, problem.where.line) == ("literal-secret", name, 2)
    assert "hunter22" not in str(problem.to_dict())
