"""What every cluster does: one life cycle, whatever starts the processes behind it."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from aiflow_sdk.plan import JobHandle, JobState, Token
from aiflow_sdk.plugins import Cluster, Job


class ClusterConformance:
    """Derive from it, override :meth:`cluster`, and run it with pytest.

    ::

        class TestNomad(ClusterConformance):
            @pytest.fixture
            def cluster(self, nomad_server):
                return NomadCluster(address=nomad_server)
    """

    patience_seconds = 30.0
    """How long the cluster may take to show a change."""

    @pytest.fixture
    def cluster(self) -> Cluster:
        """Return the cluster to be tested."""
        raise NotImplementedError("override the fixture 'cluster'")

    @pytest.fixture
    def elsewhere(self, cluster: Cluster) -> Cluster:
        """Return the same cluster as another process would load it."""
        return type(cluster).load(cluster.model_dump(), cluster.environment)

    def job(self, program: str, **variables: str) -> Job:
        """Return a job that runs a Python program; override it where the cluster's Python is another one."""
        return Job(command=(sys.executable, "-u", "-c", program), environment=variables, name="conformance")

    @pytest.fixture
    def token(self) -> Token:
        return Token(f"conformance/{uuid4()}")

    def wait(self, cluster: Cluster, handle: JobHandle, wanted: Callable[[JobState], bool]) -> JobState:
        """Poll until the state is as wanted and return it."""
        deadline = time.monotonic() + self.patience_seconds
        while not wanted(state := cluster.poll([handle])[handle]):
            assert time.monotonic() < deadline, f"still {state} after {self.patience_seconds} s"
            time.sleep(0.02)
        return state

    def end(self, cluster: Cluster, handle: JobHandle) -> JobState:
        return self.wait(cluster, handle, lambda state: state.ended)

    def output(self, cluster: Cluster, handle: JobHandle, offset: int = 0) -> bytes:
        return b"".join(cluster.logs(handle, offset))

    def wait_for_output(self, cluster: Cluster, handle: JobHandle, text: bytes) -> None:
        self.wait(cluster, handle, lambda state: text in self.output(cluster, handle))

    def test_a_job_runs_and_succeeds(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("print('hello')"), token)
        assert self.end(cluster, handle).phase == "succeeded"
        assert b"hello" in self.output(cluster, handle)

    def test_a_job_that_fails_says_so(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("import sys; print('oh', file=sys.stderr); sys.exit(3)"), token)
        state = self.end(cluster, handle)
        assert state.phase == "failed"
        assert "3" in state.message
        assert b"oh" in self.output(cluster, handle)

    def test_a_job_gets_its_variables(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("import os; print(os.environ['TOLD'])", TOLD="grüß 'dich'"), token)
        assert self.end(cluster, handle).phase == "succeeded"
        assert "grüß 'dich'".encode() in self.output(cluster, handle)

    def test_the_same_token_never_starts_a_second_job(self, cluster: Cluster, elsewhere: Cluster, token: Token) -> None:
        first = cluster.submit(self.job("print('started')"), token)
        assert elsewhere.submit(self.job("print('started')"), token) == first
        self.end(cluster, first)
        assert cluster.submit(self.job("print('started')"), token) == first
        assert self.output(cluster, first).count(b"started") == 1

    def test_racing_submitters_start_one_job(self, cluster: Cluster, token: Token) -> None:
        with ThreadPoolExecutor(8) as pool:
            handles = set(pool.map(lambda _: cluster.submit(self.job("print('started')"), token), range(8)))
        (handle,) = handles
        self.end(cluster, handle)
        assert self.output(cluster, handle).count(b"started") == 1

    def test_another_token_starts_another_job(self, cluster: Cluster, token: Token) -> None:
        handles = [cluster.submit(self.job("print('started')"), Token(f"{token.text}/{n}")) for n in range(2)]
        assert len(set(handles)) == 2
        assert {self.end(cluster, handle).phase for handle in handles} == {"succeeded"}

    def test_a_job_is_found_by_its_token(self, cluster: Cluster, elsewhere: Cluster, token: Token) -> None:
        assert cluster.find(token) is None
        handle = cluster.submit(self.job("print('started')"), token)
        assert elsewhere.find(token) == handle
        self.end(cluster, handle)
        assert elsewhere.find(token) == handle

    def test_a_handle_is_plain_data_that_another_process_takes_over(
        self, cluster: Cluster, elsewhere: Cluster, token: Token
    ) -> None:
        handle = cluster.submit(self.job("print('up'); import time; time.sleep(300)"), token)
        taken = JobHandle.model_validate_json(handle.model_dump_json())
        assert taken == handle == pickle.loads(pickle.dumps(handle))
        self.wait_for_output(elsewhere, taken, b"up")
        assert elsewhere.poll([taken])[taken].phase == "running"
        elsewhere.cancel(taken)
        assert self.end(cluster, handle).phase == "cancelled"

    def test_many_jobs_are_polled_at_once(self, cluster: Cluster, token: Token) -> None:
        programs = ["pass", "raise SystemExit(1)", "pass"]
        handles = [cluster.submit(self.job(text), Token(f"{token.text}/{n}")) for n, text in enumerate(programs)]
        for handle in handles:
            self.end(cluster, handle)
        states = cluster.poll(handles)
        assert [states[handle].phase for handle in handles] == ["succeeded", "failed", "succeeded"]

    def test_a_job_that_nobody_knows_is_unknown_and_not_failed(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("pass"), token)
        self.end(cluster, handle)
        stranger = JobHandle(cluster=handle.cluster, id="0" * 32, details=self.stranger_details(handle))
        assert cluster.poll([stranger])[stranger].phase == "unknown"
        assert self.output(cluster, stranger) == b""

    def stranger_details(self, handle: JobHandle) -> dict[str, object]:
        """Return the details of a handle whose job is gone; override it where they hold the job's id."""
        return dict(handle.details)

    def test_cancelling_ends_a_running_job(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("print('up'); import time; time.sleep(300)"), token)
        self.wait_for_output(cluster, handle, b"up")
        cluster.cancel(handle)
        assert self.end(cluster, handle).phase == "cancelled"

    def test_cancelling_at_once_ends_a_job_that_may_not_run_yet(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("import time; time.sleep(300)"), token)
        cluster.cancel(handle)
        assert self.end(cluster, handle).phase == "cancelled"

    def test_a_cancelled_job_may_tidy_up(self, cluster: Cluster, token: Token) -> None:
        program = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('tidy') or 0))\n"
        handle = cluster.submit(self.job(program + "print('up')\ntime.sleep(300)"), token)
        self.wait_for_output(cluster, handle, b"up")
        cluster.cancel(handle)
        assert self.end(cluster, handle).phase == "cancelled"
        assert b"tidy" in self.output(cluster, handle)

    def test_cancelling_a_job_that_has_ended_changes_nothing(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("pass"), token)
        before = self.end(cluster, handle)
        cluster.cancel(handle)
        assert cluster.poll([handle])[handle] == before

    def test_what_is_billed_is_told_once_for_each_unit(
        self, cluster: Cluster, elsewhere: Cluster, token: Token
    ) -> None:
        handle = cluster.submit(self.job("pass"), token)
        self.end(cluster, handle)
        units = [one.unit for one in elsewhere.billed(handle)]
        assert len(units) == len(set(units))

    def test_logs_go_on_from_an_offset(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("print('one'); print('two')"), token)
        self.end(cluster, handle)
        whole = self.output(cluster, handle)
        half = whole.index(b"two")
        assert self.output(cluster, handle, half) == whole[half:]
        assert self.output(cluster, handle, len(whole)) == b""

    def test_logs_can_be_read_while_the_job_runs(self, cluster: Cluster, token: Token) -> None:
        handle = cluster.submit(self.job("print('up'); import time; time.sleep(300)"), token)
        self.wait_for_output(cluster, handle, b"up")
        cluster.cancel(handle)
        self.end(cluster, handle)
