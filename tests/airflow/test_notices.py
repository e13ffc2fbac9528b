"""Who is told of failures and missed deadlines: real servers on this machine hear it."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from aiflow_airflow.notices import tell_failed, tell_missed
from airflow.sdk import Connection


class Heard:
    """What an HTTP and an SMTP server were sent."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        self.mails: list[str] = []
        heard = self

        class Web(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard.posts.append((self.path, body))
                self.send_response(500 if self.path.startswith("/broken") else 200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        class Mail(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = []
                        while (text := self.rfile.readline()) != b".\r\n":
                            lines.append(text.decode())
                        heard.mails.append("".join(lines))
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 well\r\n")
                    if word == b"QUIT":
                        return

        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
        self.mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
        for server in (self.web, self.mail):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.web.server_port}"

    def close(self) -> None:
        for server in (self.web, self.mail):
            server.shutdown()
            server.server_close()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    found = Heard()
    slack = Connection(conn_id="team_slack", conn_type="http", password=f"{found.url}/slack")
    monkeypatch.setenv("AIRFLOW_CONN_TEAM_SLACK", slack.get_uri())
    port = found.mail.server_address[1]
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"}
    smtp = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(smtp))
    yield found
    found.close()


def failed(targets: list[str]) -> None:
    run = SimpleNamespace(dag_id="shop.revenue", run_id="manual__1", partition_key="2026-11-20")
    task = SimpleNamespace(task_id="total", try_number=3, log_url="http://airflow/log")
    context: Any = {"dag_run": run, "ti": task, "exception": ValueError("error[user-code-failed]: no <luck>")}
    tell_failed(context, targets=targets, pipeline="shop/revenue", owner="team_shop")


def test_a_failure_is_told_to_everybody(heard: Heard) -> None:
    failed(["mailto:team@example.com", "slack:team_slack", f"{heard.url}/hook"])
    (slack_path, slack), (hook_path, hook) = heard.posts
    assert (slack_path, hook_path) == ("/slack", "/hook")
    assert slack["text"].startswith("shop/revenue failed for 2026-11-20: task total, attempt 3\n")
    assert (hook["event"], hook["task_id"], hook["partition"]) == ("task-failed", "total", "2026-11-20")
    (mail,) = heard.mails
    assert "Subject: shop/revenue failed for 2026-11-20" in mail
    assert "To: team@example.com" in mail


def test_who_cannot_be_told_keeps_nobody_from_hearing(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    failed(
        ["nobody", "slack:unknown", f"{heard.url}/broken?token=hunter22", "http://127.0.0.1:9/", f"{heard.url}/hook"]
    )
    assert [path for path, _ in heard.posts] == ["/broken?token=hunter22", "/hook"]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 4
    assert "hunter22" not in caplog.text


def test_a_missed_deadline_is_told(heard: Heard) -> None:
    run = {"dag_id": "shop.revenue", "dag_run_id": "scheduled__1", "partition_key": "2026-11-20"}
    context = {"dag_run": run, "deadline": {"id": "1", "deadline_time": datetime(2026, 11, 21, 4, tzinfo=UTC)}}
    asyncio.run(
        tell_missed(targets=[f"{heard.url}/hook"], pipeline="shop/revenue", owner="t", sla_minutes=60, context=context)
    )
    ((_, told),) = heard.posts
    assert (told["event"], told["run_id"], told["deadline"]) == (
        "deadline-missed",
        "scheduled__1",
        "2026-11-21 04:00:00+00:00",
    )
