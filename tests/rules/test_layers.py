"""The layers of the house, held by import-linter: see [tool.importlinter] in the root's pyproject.toml."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "packages/aiflow-sdk/src"


def contracts() -> list[dict[str, Any]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The folder's own aiflow_sdk is linted, not the installed one.
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from importlinter.cli import lint_imports_command as c; c()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An empty house of the same layers, to break the rules in."""
    layers = contracts()[0]["layers"]
    for name in ("", *re.findall(r"\w+", " ".join(layers))):
        (tmp_path / "aiflow_sdk" / name).mkdir()
        (tmp_path / "aiflow_sdk" / name / "__init__.py").touch()
    (tmp_path / "aiflow_sdk/connectors/lake.py").touch()
    return tmp_path


def test_every_import_points_downwards() -> None:
    result = lint(SOURCE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_has_its_layer_and_every_family_its_door() -> None:
    doors = [contract for contract in contracts() if contract["type"] == "protected"]
    assert all(contract["exhaustive"] for contract in contracts() if contract["type"] == "layers")
    assert {door["protected_modules"][0].split(".")[1] for door in doors} == {
        "connectors",
        "engines",
        "clusters",
        "listeners",
    }


def test_an_empty_house_is_in_order(house: Path) -> None:
    result = lint(house)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("ir/model.py", "import aiflow_sdk.plan", "aiflow_sdk.ir is not allowed to import aiflow_sdk.plan"),
        ("runtime/task.py", "def f():\n    import aiflow_sdk.local", "aiflow_sdk.runtime is not allowed to import"),
        (
            "runtime/task.py",
            "import aiflow_sdk.engines",
            "aiflow_sdk.runtime is not allowed to import aiflow_sdk.engines",
        ),
        ("local/runner.py", "def f():\n    from aiflow_sdk.connectors import lake", "Illegal imports of protected"),
        ("connectors/__init__.py", "from aiflow_sdk.connectors.lake import *", "Illegal imports of protected"),
        ("utils.py", "", "not listed as layers"),
    ],
)
def test_a_forbidden_import_is_found(house: Path, module: str, code: str, said: str) -> None:
    (house / "aiflow_sdk" / module).write_text(code + "\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert said in " ".join(result.stdout.split())


def test_leaves_of_one_family_may_share(house: Path) -> None:
    (house / "aiflow_sdk/connectors/files.py").write_text("import aiflow_sdk.connectors.lake\n")
    assert lint(house).returncode == 0
