"""``make airflow`` leaves no Airflow behind, whatever ends it. What it starts otherwise is tried live."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AIRFLOW = """#!/bin/sh
trap 'touch "{folder}/ended"; exit 0' INT
touch "{folder}/began"
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_ends_airflow_too(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "airflow_demo.py", tmp_path / "scripts")
    python = tmp_path / ".venv-airflow" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(AIRFLOW.format(folder=tmp_path))
    python.chmod(0o755)
    # Where all of this runs under nohup, a closed terminal's signal would be ignored.
    heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    program = (
        f"{heard}; import sys; sys.path.insert(0, 'scripts'); import airflow_demo; sys.exit(airflow_demo._serve(0))"
    )
    # As from a script: deaf to Ctrl-C, and in a process group of its own, so that its child hears of nothing else.
    shell = f"trap '' INT; exec {sys.executable} -c \"{program}\""
    demo = subprocess.Popen(["sh", "-c", shell], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "began").exists():
        assert demo.poll() is None
        assert time.monotonic() < deadline, "it does not begin"
        time.sleep(0.05)
    demo.send_signal(how)
    assert demo.wait(60) == 0
    assert (tmp_path / "ended").exists()
