"""CONTRIBUTING.md's "How to add a source", followed literally: its files written, its commands run, in a venv."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## How to add a source\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"(?:^`(?P<path>[\w./-]+)`\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A file to write, or (path None) lines to type."""

    path: str | None
    text: str


def steps() -> list[Step]:
    section = SECTION.search((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert section
    found = [Step(step["path"], step["text"]) for step in STEP.finditer(section[1])]
    assert len(found) == section[1].count("\n```") / 2, "every block is a file or is typed"
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of an environment that holds aiflow, hatchling and pytest, and that a test may install into."""
    uv = shutil.which("uv") or str(ROOT / ".venv-uv/bin/uv")
    if not Path(uv).exists():
        pytest.skip("uv is not here: make test brings it")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(venv)], check=True, timeout=60)
    (packages,) = venv.glob("lib/python*/site-packages")
    outer = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages / "outer.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in outer))
    shim = venv / "bin" / "aiflow"
    shim.write_text(f"#!{venv}/bin/python\nimport sys\nfrom aiflow_sdk.cli import main\nsys.exit(main())\n")
    shim.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "AIFLOW"))}
    return {
        **kept,
        "VIRTUAL_ENV": str(venv),
        "PATH": os.pathsep.join([str(venv / "bin"), os.path.dirname(uv), kept["PATH"]]),
        "UV_OFFLINE": "1",
    }


def test_a_source_is_added_as_the_page_says(tmp_path: Path, environment: dict[str, str]) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    said: dict[str, str] = {}
    for step in steps():
        if step.path is not None:
            file = desk / step.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.text, "utf-8")
            continue
        for line in step.text.splitlines():
            done = subprocess.run(
                line, shell=True, cwd=desk, env=environment, capture_output=True, text=True, timeout=240
            )
            assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
            said[line] = done.stdout
    assert "encoding" in said["aiflow plugins lines"]
    assert "so much depends       15" in said["aiflow -C poems show longest_line"]
    (stubs,) = Path(environment["VIRTUAL_ENV"]).glob("lib/python*/site-packages/aiflow_sdk-stubs/factories/*.pyi")
    assert "def lines(self, id: str, *, path: str" in stubs.read_text("utf-8")
