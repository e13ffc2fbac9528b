"""``aiflow doctor`` looks at the environment's metadata service: does it answer and fit, who is who, what waits."""

import http.server
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.lineage import begin_hearing
from service_trial import run_event, unique


@pytest.fixture
def company(_companies):
    return _companies("sqlite")


@pytest.fixture
def findings(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").touch()

    def examine(address: str, more: str = "") -> dict[str, tuple[str, str]]:
        (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{address}"\n{more}')
        capsys.readouterr()
        main(["-C", str(tmp_path), "doctor", "--no-spark", "--json"])
        told = json.loads(capsys.readouterr().out)
        return {
            one["what"]: (one["state"], f"{one['said']} → {one['todo']}")
            for one in told
            if one["what"] in ("service", "service_token", "login", "clock", "spool")
        }

    return examine


def test_a_service_where_people_sign_in_says_what_each_token_may(company, findings, monkeypatch):
    team, address = company.team(), company.service.address
    found = findings(address)
    assert found["service_token"][0] == "warn"
    assert found["login"][0] == "fail"
    assert "aiflow login" in found["login"][1]
    token = 'service_token = "secret://its"\n'
    for role, state in (("operator", "ok"), ("viewer", "fail")):
        monkeypatch.setenv("AIFLOW_SECRET_ITS", company.person(team, role).secret)
        found = findings(address, token)
        assert found["service"][0] == "ok"
        assert found["service_token"][0] == state
        assert f"{role} of {team}" in found["service_token"][1]
        assert found["spool"] == ("ok", "'service' has heard everything → ")
    monkeypatch.setenv("AIFLOW_SECRET_ITS", company.person(team, "operator", environment="prod").secret)
    assert findings(address, token)["service_token"][0] == "fail"
    monkeypatch.setenv("AIFLOW_SECRET_ITS", "aiflow_0000")
    assert "401" in findings(address, token)["service_token"][1]


def test_what_waits_is_counted_and_a_service_that_is_away_is_told(findings, tmp_path):
    folder = tmp_path / ".aiflow" / "runs" / "a-run"
    folder.mkdir(parents=True)
    told = {"_producer": "urn:x", "_schemaURL": "urn:x", "environment": "dev"}
    event = run_event(job=unique("job"), event_type="COMPLETE", run_facets={"aiflow_run": told})
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    begin_hearing(folder / "events.jsonl", "dev", "service")
    found = findings("http://127.0.0.1:9")
    assert found["service"][0] == "fail"
    assert found["spool"][0] == "warn"
    assert "1 event of 1 run" in found["spool"][1]
    assert found["spool"][1].endswith(" sync")


@contextmanager
def answering(ahead: timedelta, version: str):
    """A service of another version whose clock is wrong, which no real one on this machine's clock can be."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at = (datetime.now(UTC) + ahead).isoformat()
            told = {
                "sign-in": {"mode": "local"},
                "service": {"id": "1", "version": version, "schema": "9", "events": 0, "at": at},
            }.get(self.path.removeprefix("/api/v1/"))
            body = json.dumps(told or {}).encode()
            self.send_response(200 if told else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("ahead", "state"), [(timedelta(hours=1), "warn"), (timedelta(hours=-1), "warn"), (timedelta(days=-2), "fail")]
)
def test_another_version_and_a_wrong_clock_are_told(findings, ahead, state):
    with answering(ahead, "9.9.9") as address:
        found = findings(address)
    assert found["service"][0] == "warn"
    assert "9.9.9" in found["service"][1]
    assert found["clock"][0] == state
