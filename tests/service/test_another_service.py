"""``aiflow sync`` notices that it talks to another service, or to one that was put back, and sends what that lacks."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.lineage import begin_hearing, receiver_in
from aiflow_sdk.listeners.openlineage import OpenLineageListener
from aiflow_sdk.runtime.courier import Courier
from aiflow_service.keeping import back_up, restore
from service_trial import Service, run_event, running_service, unique


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def spool_run(project: Path) -> str:
    """Write the spool of one run that the service is to hear of; returns the run's id."""
    run_id = str(uuid.uuid4())
    folder = project / ".aiflow" / "runs" / run_id
    folder.mkdir(parents=True)
    told = {"_producer": "urn:x", "_schemaURL": "urn:x", "environment": "dev"}
    event = run_event(job=unique("job"), run_id=run_id, event_type="COMPLETE", run_facets={"aiflow_run": told})
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    begin_hearing(folder / "events.jsonl", "dev", "service")
    return run_id


def sync(project: Path, service: Service, capsys: pytest.CaptureFixture[str]) -> dict:
    (project / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{service.address}"\n')
    capsys.readouterr()
    assert main(["-C", str(project), "sync", "--json"]) == 0
    (account,) = json.loads(capsys.readouterr().out)["listeners"]
    return account


def has(service: Service, run_id: str) -> bool:
    return service.request("GET", f"/api/v1/runs/{run_id}").status == 200


def test_another_service_is_sent_what_the_one_before_had_heard(project, tmp_path, capsys) -> None:
    first, second = (f"sqlite:///{tmp_path / name / 'service.db'}" for name in ("first", "second"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    run_id = spool_run(project)
    with running_service(tmp_path / "first", first) as service:
        assert sync(project, service, capsys)["events"] == 1
        assert sync(project, service, capsys)["events"] == 0
    with running_service(tmp_path / "second", second) as service:
        account = sync(project, service, capsys)
        assert (account["events"], account["again_runs"], has(service, run_id)) == (1, 1, True)
        again = sync(project, service, capsys)
        assert (again["events"], again["again_runs"]) == (0, 0)
        main(["-C", str(project), "sync"])
        assert "has heard everything" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["restore", "copy"])
def test_one_that_was_put_back_is_sent_what_it_has_lost(project, tmp_path, capsys, how) -> None:
    file = tmp_path / "service.db"
    address = f"sqlite:///{file}"
    early = spool_run(project)
    with running_service(tmp_path, address) as service:
        sync(project, service, capsys)
        service.stop()
    if how == "restore":
        back_up(address, tmp_path / "kept")
    else:
        shutil.copy(file, tmp_path / "copy.db")
    late = spool_run(project)
    with running_service(tmp_path, address) as service:
        sync(project, service, capsys)
        service.stop()
    for path in tmp_path.glob("service.db*"):
        path.unlink()
    shutil.rmtree(tmp_path / "audit-checkpoints")
    if how == "restore":
        restore(tmp_path / "kept", address)
    else:
        shutil.copy(tmp_path / "copy.db", file)
    with running_service(tmp_path, address) as service:
        assert (has(service, early), has(service, late)) == (True, False)
        account = sync(project, service, capsys)
        assert account["again_runs"] >= 1
        assert (has(service, early), has(service, late)) == (True, True)
        assert len(service.get(f"/api/v1/runs/{early}/events")["items"]) == 1
        assert sync(project, service, capsys)["events"] == 0


@pytest.fixture
def courier_to() -> Iterator[Callable[[str], Courier]]:
    """Return what makes a courier to the service at an address, as each process that sends has one."""
    made = []

    def make(address: str) -> Courier:
        made.append(OpenLineageListener(url=address))
        return Courier("service", made[-1], "dev")

    yield make
    for listener in made:
        listener.close()


def add_event(spool: Path) -> None:
    with spool.open("a") as file:
        file.write(json.dumps(run_event(job=unique("job"), run_id=spool.parent.name)) + "\n")


def noted(courier: Courier, spool: Path) -> tuple[str, int]:
    known = receiver_in(courier.position_of(spool).read_bytes())
    assert known is not None
    return known


def test_two_that_send_one_spool_in_turn_send_each_event_once(project, tmp_path, courier_to) -> None:
    spool = project / ".aiflow" / "runs" / spool_run(project) / "events.jsonl"
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}") as service:
        older, newer = courier_to(service.address), courier_to(service.address)
        assert older.send(spool).events == 1
        newest = [noted(older, spool)]
        for courier in (newer, older, newer, older):
            add_event(spool)
            assert courier.send(spool).events == 1
            newest.append(noted(courier, spool))
            assert not courier.is_new_to(spool)
        for courier in (newer, older):
            courier.seal()
            newest.append(noted(courier, spool))
        assert newest == sorted(newest)
        assert newest[-1][1] == 5


def test_who_was_asked_before_the_service_was_another_asks_again(project, tmp_path, courier_to) -> None:
    spool = project / ".aiflow" / "runs" / spool_run(project) / "events.jsonl"
    (tmp_path / "second").mkdir()
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}") as service:
        older, port = courier_to(service.address), service.port
        assert older.send(spool).events == 1
        service.stop()
    with running_service(tmp_path / "second", "sqlite:///service.db", "--port", str(port)) as service:
        newer = courier_to(service.address)
        newer.identify()  # as sync does, and a run does not
        assert newer.is_new_to(spool)
        assert newer.send(spool).events == 1
        add_event(spool)
        assert older.send(spool).events == 1
        assert noted(older, spool)[0] == noted(newer, spool)[0] != ""


def test_what_it_has_lost_is_sent_though_it_has_grown_since(project, tmp_path, courier_to) -> None:
    spools = [project / ".aiflow" / "runs" / spool_run(project) / "events.jsonl" for _ in range(3)]
    for _ in range(5):
        add_event(spools[0])
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}") as service:
        first = courier_to(service.address)
        for spool in reversed(spools):
            first.send(spool)
        for spool in spools:  # as if what it knew besides had been lost
            position, _ = first.position_of(spool).read_text().splitlines()
            first.position_of(spool).write_text(f"{position}\n{noted(first, spool)[0]} 9\n")
        first.seal()
        assert {noted(first, spool)[1] for spool in spools} == {9}
        again = courier_to(service.address)
        again.identify()
        assert [again.is_new_to(spool) for spool in spools] == [True] * 3
        for _ in range(3):
            service.send(run_event(job=unique("job")))
        assert [again.send(spool).events for spool in spools] == [6, 1, 1]
