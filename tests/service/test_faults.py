"""What was acknowledged survives: kill -9 under load, several replicas, a database that goes away or is full."""

import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from aiflow_service.database import open_database
from aiflow_service.database.tables import counters, edges, events, runs
from harness.disks import small_disk
from harness.postgres import PostgresServer, postgres_server
from service_trial import Service, dataset, facet, run_event, running_service, start_service, wait_until

MIB = 1024 * 1024


class Sender(threading.Thread):
    """Sends events one after the other, the same again until it is acknowledged, as official clients do."""

    def __init__(self, number: int, services: list[Service], count: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.services = services
        self.count = count
        self.acknowledged: list[str] = []
        self.refused: list[int] = []

    def run(self) -> None:
        for index in range(self.count):
            event = run_event(job=f"job{index % 7}", inputs=[f"t{(index + n) % 11}" for n in range(3)], outputs=["out"])
            raw = json.dumps(event).encode()
            while not self._send(raw, event["run"]["runId"]):
                time.sleep(0.05)

    def _send(self, raw: bytes, run_id: str) -> bool:
        service = self.services[self.number % len(self.services)]
        connection = http.client.HTTPConnection(service.host, service.port, timeout=20)
        try:
            connection.request("POST", "/api/v1/lineage", raw)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if status == 201:
            self.acknowledged.append(run_id)
        elif status != 503:
            self.refused.append(status)
        return status != 503


def stored(address: str) -> tuple[list[str], list[str], int]:
    """Run ids of stored events, run ids of runs, and the last number handed out to an event."""
    database = open_database(address)
    with database.reading() as connection:
        of_events = list(connection.execute(sa.select(events.c.run_uid)).scalars())
        of_runs = list(connection.execute(sa.select(runs.c.uid)).scalars())
        last = connection.execute(sa.select(counters.c.value).where(counters.c.name == "events")).scalar_one()
        assert connection.execute(sa.select(sa.func.count()).select_from(edges)).scalar_one() <= 7 * 12
    database.close()
    return of_events, of_runs, last


def test_kill_9_under_load_loses_nothing_acknowledged_and_counts_nothing_twice(database: str, tmp_path) -> None:
    services = [start_service(tmp_path, database)]
    senders = [Sender(number, services, 40) for number in range(4)]
    for sender in senders:
        sender.start()
    for _ in range(2):
        before = sum(len(sender.acknowledged) for sender in senders)
        while sum(len(sender.acknowledged) for sender in senders) < before + 40:
            time.sleep(0.01)
        services[0].kill()
        services[0] = start_service(tmp_path, database)
    for sender in senders:
        sender.join(240)
    services[0].kill()
    acknowledged = [run_id for sender in senders for run_id in sender.acknowledged]
    assert len(acknowledged) == len(set(acknowledged)) == 4 * 40
    assert [sender.refused for sender in senders] == [[]] * len(senders)
    of_events, of_runs, last = stored(database)
    assert sorted(of_events) == sorted(acknowledged) == sorted(of_runs)
    assert last == len(of_events)


def test_replicas_on_one_database_write_side_by_side(postgres, tmp_path) -> None:
    address = postgres.database()
    with running_service(tmp_path, address) as one, running_service(tmp_path, address) as other:
        senders = [Sender(number, [one, other], 40) for number in range(6)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(240)
        acknowledged = sorted(run_id for sender in senders for run_id in sender.acknowledged)
        assert len(acknowledged) == 6 * 40
        assert [sender.refused for sender in senders] == [[]] * len(senders)
        for service in (one, other):
            assert sorted(run["run_id"] for run in service.pages("/api/v1/runs", limit=100)) == acknowledged


def merging_events(count: int) -> list[dict[str, Any]]:
    """Runs whose outputs turn out, one after the other, to be the same table under more and more names."""
    made = []
    for index in range(count):
        links = [{"namespace": "hive", "name": f"m{(index + step) % count // 3}", "type": "TABLE"} for step in (0, 1)]
        symlinks = facet("SymlinksDatasetFacet", "1-0-1", identifiers=links)
        schema = facet("SchemaDatasetFacet", "1-1-1", fields=[{"name": "c", "type": "long"}])
        made.append(
            run_event(
                job=f"merge{index % 5}",
                inputs=[f"raw{index % 3}"],
                outputs=[dataset(f"m{index}", "lake", symlinks=symlinks, schema=schema)],
            )
        )
    return made


def test_replicas_merge_the_same_datasets_at_once_and_show_what_the_other_took(postgres, tmp_path) -> None:
    address = postgres.database()
    sent = merging_events(24)
    run_ids = {event["run"]["runId"] for event in sent}
    with ThreadPoolExecutor() as pool:
        services = list(pool.map(lambda _: start_service(tmp_path, address), range(2)))  # both migrate at once
        try:
            heard = [pool.submit(listen, service, run_ids) for service in services]
            # Each takes all of them, from the beginning and from the end.
            list(pool.map(send_parts, [*services, *services], [sent, sent[::-1], sent[::-1], sent]))
            assert [one.result(240) for one in heard] == [run_ids, run_ids]
            of_events, of_runs, last = stored(address)
            assert sorted(of_events) == sorted(of_runs) == sorted(run_ids)
            assert last == len(sent)
            for service in services:
                assert len({service.dataset(f"m{index}", "lake")["id"] for index in range(24)}) == 1
                graph = service.get("/api/v1/lineage/tables", dataset="m0", namespace="lake", depth=3)
                assert {job["name"] for job in graph["jobs"]} == {f"merge{number}" for number in range(5)}
        finally:
            for service in services:
                service.close()
                service.kill()


def send_parts(service: Service, sent: list[dict[str, Any]]) -> None:
    """Send events, some at a time, on a connection of its own."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=240)
    for begin in range(0, len(sent), 4):
        connection.request("POST", "/api/v1/lineage/batch", json.dumps(sent[begin : begin + 4]).encode())
        answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
    connection.close()


def listen(service: Service, wanted: set[str]) -> set[str]:
    """Listen to live runs until all that are wanted were told."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=240)
    connection.request("GET", "/api/v1/runs/live", headers={"Last-Event-ID": "0"})
    response = connection.getresponse()
    heard: set[str] = set()
    while heard != wanted:
        line = response.readline()
        assert line, "the service ended"
        if line.startswith(b"data: "):
            heard.add(json.loads(line[6:])["run_id"])
    connection.close()
    return heard


def test_connections_that_are_cut_are_made_anew(postgres, tmp_path) -> None:
    address = postgres.database()
    with running_service(tmp_path, address) as service:
        senders = [Sender(number, [service], 40) for number in range(4)]
        for sender in senders:
            sender.start()
        engine = sa.create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'aiflow-service'"
        )
        while any(sender.is_alive() for sender in senders):
            with engine.connect() as connection:
                connection.execute(sa.text(cut))
            time.sleep(0.3)
        engine.dispose()
        acknowledged = sorted(run_id for sender in senders for run_id in sender.acknowledged)
        assert len(acknowledged) == 4 * 40
        assert sorted(stored(address)[0]) == acknowledged
        assert service.get("/readyz")["status"] == "ok"


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server that writes as in earnest, and that nobody else uses."""
    with postgres_server(durable=True) as server:
        yield server


def check_once(senders: list[Sender], service: Service, address: str) -> None:
    """Check that what was acknowledged is there once, and that nothing else is."""
    for sender in senders:
        sender.join(240)
    acknowledged = sorted(run_id for sender in senders for run_id in sender.acknowledged)
    assert len(acknowledged) == len(set(acknowledged)) == sum(sender.count for sender in senders)
    assert [sender.refused for sender in senders] == [[]] * len(senders)
    of_events, of_runs, last = stored(address)
    assert sorted(of_events) == sorted(of_runs) == acknowledged
    assert last == len(of_events)
    assert service.process.poll() is None
    assert service.get("/readyz")["status"] == "ok"


def test_a_database_that_crashes_and_restarts_under_load_is_waited_for(own_postgres, tmp_path) -> None:
    address = own_postgres.database()
    with running_service(tmp_path, address) as service:
        senders = [Sender(number, [service], 30) for number in range(4)]
        for sender in senders:
            sender.start()
        wait_until(lambda: sum(len(sender.acknowledged) for sender in senders) > 20, 240)
        for how in (signal.SIGQUIT, signal.SIGINT):
            own_postgres.stop(how)
            answer = service.request("GET", "/api/v1/runs")
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert service.request("GET", "/healthz").status == 200
            own_postgres.start()
        check_once(senders, service, address)


def test_a_service_that_ends_while_its_database_is_away_says_so(own_postgres, tmp_path) -> None:
    service = start_service(tmp_path, own_postgres.database())
    own_postgres.stop()
    try:
        assert service.stop() == 1
    finally:
        own_postgres.start()
    log = service.log.read_text()
    assert "error[database-unreachable]: the database gave up: " in log
    assert "Traceback" not in log


def fill_disk(folder: Path, leaving: int) -> Path:
    """Write a file that leaves so many bytes free."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - leaving)
    return ballast


def check_full_disk(folder: Path, address: str, log_folder: Path) -> None:
    """Check that a service whose disk is full says so, loses nothing and goes on when there is room again."""
    with running_service(log_folder, address, "--audit-checkpoints", str(log_folder / "checkpoints")) as service:
        assert service.send(run_event()).status == 201
        before = len(stored(address)[0])
        ballast = fill_disk(folder, 96 * 1024)
        senders = [Sender(number, [service], 25) for number in range(3)]
        for sender in senders:
            sender.start()
        wait_until(lambda: service.log.read_bytes().count(b"the database does not answer: ") > 1, 240)
        deadline = time.monotonic() + 240
        while (heard := service.send(run_event())).status == 201:  # one small event may still find a page that is free
            assert time.monotonic() < deadline
        assert (heard.status, heard.headers["retry-after"]) == (503, "5")
        assert service.request("GET", "/healthz").status == 200
        assert len(service.get("/api/v1/runs")["items"]) >= before  # what is there can be asked for
        ballast.unlink()
        for sender in senders:
            sender.join(240)
        acknowledged = [run_id for sender in senders for run_id in sender.acknowledged]
        assert len(acknowledged) == 3 * 25
        of_events, of_runs, last = stored(address)
        assert set(acknowledged) <= set(of_events)
        assert sorted(of_events) == sorted(of_runs)
        assert len(of_events) == len(set(of_events)) == last
        assert service.get("/readyz")["status"] == "ok"


def test_sqlite_on_a_full_disk_loses_nothing_and_comes_back(tmp_path) -> None:
    folder = tmp_path / "small"
    with small_disk(folder, 8 * MIB):
        check_full_disk(folder, f"sqlite:///{folder / 'service.db'}", tmp_path)


def test_postgres_on_a_full_disk_loses_nothing_and_comes_back(own_postgres, tmp_path) -> None:
    folder = own_postgres.folder / "small"
    with small_disk(folder, 40 * MIB):
        place = folder / "space"
        place.mkdir()
        shutil.chown(place, "postgres", "postgres")
        admin = sa.create_engine(own_postgres.database().replace("postgresql://", "postgresql+psycopg://"))
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{place}'")
            address = own_postgres.database("--tablespace=small")
            check_full_disk(folder, address, tmp_path)
            name = address.rpartition("/")[2]
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
            connection.exec_driver_sql("DROP TABLESPACE small")
        admin.dispose()
