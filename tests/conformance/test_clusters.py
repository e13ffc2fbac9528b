"""The local cluster passes the suite that every cluster passes, and outlives the processes around it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiflow_sdk.clusters.local import LocalCluster
from aiflow_sdk.config import Environment
from aiflow_sdk.errors import StoreError
from aiflow_sdk.plan import JobHandle, Token
from aiflow_sdk.plugins import Cluster, Job, load_plugin
from aiflow_sdk.testing.conformance.cluster import ClusterConformance


class TestLocalCluster(ClusterConformance):
    @pytest.fixture
    def cluster(self, tmp_path: Path) -> LocalCluster:
        return LocalCluster.load({"stop_seconds": 5}, Environment(root=tmp_path))

    def stranger_details(self, handle: JobHandle) -> dict[str, object]:
        return {"folder": str(Path(handle.details["folder"]).with_name("0" * 32))}

    def test_a_job_that_ignores_the_signal_is_killed_with_all_its_children(self, cluster, token):
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(300)"
        program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn!r}]); {stubborn}"
        handle = cluster.submit(self.job(program), token)
        self.wait_for_output(cluster, handle, b"up")
        group = record(handle, "started")["group"]
        cluster.cancel(handle)
        assert self.end(cluster, handle).phase == "cancelled"
        assert gone(group)

    def test_what_a_job_leaves_behind_ends_with_it(self, cluster, token):
        program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])"
        handle = cluster.submit(self.job(program), token)
        assert self.end(cluster, handle).phase == "succeeded"
        assert gone(record(handle, "started")["group"])

    def test_a_job_goes_on_when_its_submitter_is_killed(self, cluster, token):
        program = (
            "import os, signal; from aiflow_sdk.clusters.local import LocalCluster; from aiflow_sdk.plan import Token\n"
            "from aiflow_sdk.plugins import Job\n"
            f"cluster = LocalCluster(state={str(cluster.environment.root / cluster.state)!r})\n"
            f"cluster.submit(Job(command=('sh', '-c', 'sleep 0.5; echo survived')), Token({token.text!r}))\n"
            "os.killpg(0, signal.SIGKILL)"
        )
        submitter = subprocess.run([sys.executable, "-c", program], start_new_session=True)
        assert submitter.returncode == -signal.SIGKILL
        handle = cluster.find(token)
        assert handle is not None
        assert self.end(cluster, handle).phase == "succeeded"
        assert self.output(cluster, handle) == b"survived\n"

    def test_a_claim_whose_submitter_died_before_starting_anything_is_taken_over(self, cluster, token):
        handle = cluster._handle(token)
        folder = Path(handle.details["folder"])
        folder.mkdir(parents=True)
        (folder / "claim").touch()
        assert cluster.find(token) is None
        assert cluster.submit(self.job("print('started')"), token) == handle
        assert self.end(cluster, handle).phase == "succeeded"

    def test_a_killed_keeper_does_not_hide_that_its_job_still_runs(self, cluster, token):
        handle = cluster.submit(self.job("print('up'); import time; time.sleep(300)"), token)
        self.wait_for_output(cluster, handle, b"up")
        os.kill(record(handle, "started")["keeper"], signal.SIGKILL)
        time.sleep(0.1)
        assert cluster.poll([handle])[handle].phase == "running"
        assert cluster.submit(self.job("print('again')"), token) == handle
        cluster.cancel(handle)
        state = self.end(cluster, handle)
        assert state.phase == "failed"
        assert "keeper" in state.message

    def test_a_job_killed_from_outside_names_the_signal(self, cluster, token):
        handle = cluster.submit(self.job("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), token)
        state = self.end(cluster, handle)
        assert (state.phase, state.message) == ("failed", "killed by SIGKILL")

    def test_a_command_that_does_not_exist_fails_and_is_named(self, cluster, token):
        handle = cluster.submit(Job(command=("no-such-program",)), token)
        state = self.end(cluster, handle)
        assert state.phase == "failed"
        assert "no-such-program" in state.message
        assert b"no-such-program" in self.output(cluster, handle)

    def test_a_job_runs_in_its_folder(self, cluster, token, tmp_path):
        handle = cluster.submit(Job(command=("pwd",), folder=str(tmp_path)), token)
        assert self.end(cluster, handle).phase == "succeeded"
        assert self.output(cluster, handle).decode().strip() == str(tmp_path)

    def test_tokens_may_hold_anything(self, cluster):
        for text in ("a/../../b", "x" * 3000, "'; rm -rf", "日本 \n\0"):
            handle = cluster.submit(self.job("pass"), Token(text))
            assert Path(handle.details["folder"]).parent == cluster.environment.root / cluster.state
            assert self.end(cluster, handle).phase == "succeeded"

    def test_a_state_folder_that_cannot_be_written_is_a_clear_error(self, tmp_path, token):
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be started") as caught:
            LocalCluster(state=str(tmp_path / "file")).submit(Job(command=("true",)), token)
        assert caught.value.code == "job-state-unwritable"

    def test_submitting_is_quick(self, cluster, token):
        began = time.monotonic()
        self.end(cluster, cluster.submit(Job(command=("true",)), token))
        assert time.monotonic() - began < 10


def test_the_local_cluster_is_loaded_by_name():
    assert load_plugin("aiflow_sdk.clusters.local:LocalCluster", Cluster, kind="local") is LocalCluster


def record(handle: JobHandle, name: str) -> dict:
    return json.loads((Path(handle.details["folder"]) / name).read_text())


def gone(group: int) -> bool:
    """Whether the process group ends within moments; one that waits to be reaped has ended."""
    for _ in range(100):
        stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
        fields = [text.rsplit(")", 1)[1].split() for text in stats]
        if not any(int(field[2]) == group and field[0] != "Z" for field in fields):
            return True
        time.sleep(0.02)
    return False
