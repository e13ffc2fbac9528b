"""What was acknowledged survives: kill -9 under load, several replicas, a database that goes away."""

import http.client
import json
import threading
import time

import sqlalchemy as sa

from aiflow_service.database import open_database
from aiflow_service.database.tables import counters, edges, events, runs
from service_trial import Service, run_event, running_service, start_service


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
        sender.join(120)
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
            sender.join(120)
        acknowledged = sorted(run_id for sender in senders for run_id in sender.acknowledged)
        assert len(acknowledged) == 6 * 40
        assert [sender.refused for sender in senders] == [[]] * len(senders)
        for service in (one, other):
            assert sorted(run["run_id"] for run in service.pages("/api/v1/runs", limit=100)) == acknowledged


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
