"""The listener `openlineage` sends what lies in a spool to a real receiver, in order, whatever the receiver does."""

import email.utils
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from aiflow_sdk import events
from aiflow_sdk.config import Environment
from aiflow_sdk.errors import AiflowError, ConfigurationError, ReceiverError
from aiflow_sdk.events import Spool
from aiflow_sdk.plugins import Listener, installed_registry
from aiflow_sdk.runtime.courier import Courier, Outcome
from aiflow_sdk.runtime.delivery import Delivery, close_all
from receiver import Answer, running


def make_event(number: int, **facets) -> dict:
    run = str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
    ours = {name: events.own_facet(name, fields) for name, fields in facets.items()}
    return events.run_event("START", run_id=run, job_namespace="n", job_name=f"job {number}", run_facets=ours)


def listen(url: str, **options) -> Listener:
    return installed_registry().listeners.get("openlineage").load({"url": url, **options}, Environment())


def courier_of(spool: Path, listener: Listener) -> Courier:
    courier = Courier("mine", listener, "dev")
    courier.begin(spool)
    return courier


def numbers(heard: list[dict]) -> list[int]:
    return [int(event["job"]["name"].split()[1]) for event in heard]


def refuse(*which: int, status: int = 422):
    def judge(event: dict) -> Answer | None:
        return (status, {}, {"detail": "not this one"}) if int(event["job"]["name"].split()[1]) in which else None

    return judge


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder / "events.jsonl"


def fill(spool: Path, first: int, last: int) -> None:
    # As a run spools them, but all at once: each append waits for the disk.
    with spool.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(make_event(number)) + "\n" for number in range(first, last + 1))


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_events_come_whole_in_order_in_batches_on_one_connection(spool):
    fill(spool, 1, 250)
    with running() as receiver:
        listener = listen(receiver.url)
        sent = courier_of(spool, listener).send(spool)
        listener.close()
    assert (sent.outcome, sent.events, sent.refused) == (Outcome.DONE, 250, [])
    assert receiver.heard == list(Spool(spool))
    assert [(path, number) for path, _, number in receiver.requests] == [
        ("/api/v1/lineage/batch", 100),
        ("/api/v1/lineage/batch", 100),
        ("/api/v1/lineage/batch", 50),
    ]
    assert {headers["content-encoding"] for _, headers, _ in receiver.requests} == {"gzip"}
    assert receiver.connections == 1


def test_a_single_event_is_sent_as_the_official_client_sends_it(spool):
    fill(spool, 1, 1)
    with running() as receiver:
        assert courier_of(spool, listen(f"{receiver.url}/below/")).send(spool).events == 1
    ((path, headers, _),) = receiver.requests
    assert path == "/below/api/v1/lineage"
    assert headers["content-type"] == "application/json"


def test_a_receiver_without_batches_is_found_out_once(spool):
    with running(takes_batches=False) as receiver:
        courier = courier_of(spool, listen(receiver.url))
        for first in (1, 11):
            fill(spool, first, first + 9)
            assert courier.send(spool).outcome is Outcome.DONE
    assert numbers(receiver.heard) == list(range(1, 21))
    assert [path.rpartition("/")[2] for path, _, _ in receiver.requests] == ["batch", *["lineage"] * 20]
    assert receiver.connections == 1


def test_a_receiver_that_reads_no_gzip_is_found_out_once(spool):
    with running(takes_gzip=False) as receiver:
        courier = courier_of(spool, listen(receiver.url))
        for number in (1, 2):
            fill(spool, number, number)
            courier.send(spool)
    assert numbers(receiver.heard) == [1, 2]
    assert ["content-encoding" in headers for _, headers, _ in receiver.requests] == [True, False, False]


def test_gzip_may_be_left_out(spool):
    fill(spool, 1, 1)
    with running(takes_gzip=False) as receiver:
        courier_of(spool, listen(receiver.url, gzip=False)).send(spool)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("takes_batches", [True, False])
@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_refused_event_is_passed_over_told_and_kept(spool, takes_batches, status):
    fill(spool, 1, 6)
    with running(takes_batches=takes_batches) as receiver:
        receiver.judge = refuse(2, 6, status=status)
        courier = courier_of(spool, listen(receiver.url))
        sent = courier.send(spool)
    assert (sent.outcome, sent.events, len(sent.refused)) == (Outcome.DONE, 4, 2)
    assert numbers(receiver.heard) == [1, 3, 4, 5]
    assert "not this one" in sent.refused[0]
    kept = [json.loads(line) for line in (spool.parent / "events.dev.mine.refused.jsonl").read_text().splitlines()]
    assert numbers([one["event"] for one in kept]) == [2, 6]
    assert {one["reason"] for one in kept} == set(sent.refused)
    assert not courier.is_behind(spool)


def test_a_batch_that_is_refused_as_a_whole_is_sent_singly(spool):
    fill(spool, 1, 3)
    with running() as receiver:
        receiver.answers = [(413, {}, {"detail": "too much"})]
        assert courier_of(spool, listen(receiver.url)).send(spool).events == 3
    assert numbers(receiver.heard) == [1, 2, 3]


def test_what_a_batch_left_for_later_is_sent_singly(spool):
    fill(spool, 1, 4)
    later = {"failed_events": [{"index": 1, "reason": "busy", "retriable": True}, {"index": 3, "reason": "bad"}]}
    with running() as receiver:
        receiver.answers = [(200, {}, later)]
        sent = courier_of(spool, listen(receiver.url)).send(spool)
    assert (sent.outcome, sent.events, sent.refused) == (Outcome.DONE, 3, ["bad"])
    assert numbers(receiver.heard) == [2]


@pytest.mark.parametrize(
    "answer",
    [
        b"nothing of JSON",
        {"failed_events": [{"index": 99, "reason": "x"}, {"index": True}, {"index": "1"}, 5, None]},
        {"failed_events": 7},
        [1],
    ],
)
def test_an_answer_that_makes_no_sense_refuses_nothing(spool, answer):
    fill(spool, 1, 2)
    with running() as receiver:
        receiver.answers = [(200, {}, answer.decode() if isinstance(answer, bytes) else answer)]
        sent = courier_of(spool, listen(receiver.url)).send(spool)
    assert sent.outcome is Outcome.DONE
    assert len(sent.refused) <= 1  # True counts as 1 in Python; whoever says so is believed


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {}, "receiver-login"),
        (403, {}, "receiver-login"),
        (404, {}, "receiver-answer"),
        (301, {"Location": "http://elsewhere/"}, "receiver-answer"),
        (429, {}, "receiver-busy"),
        (502, {}, "receiver-busy"),
        (503, {}, "receiver-busy"),
        (599, {}, "receiver-busy"),
    ],
)
def test_what_is_no_word_about_the_event_keeps_all_of_them(spool, status, headers, code):
    fill(spool, 1, 3)
    with running() as receiver:
        receiver.judge = lambda event: (status, headers, {"detail": "go away"})
        receiver.takes_batches = False
        courier = courier_of(spool, listen(receiver.url))
        sent = courier.send(spool)
        assert (sent.outcome, sent.events, sent.refused) == (Outcome.AWAY, 0, [])
        assert (sent.why.code, sent.why.retryable) == (code, True)
        receiver.judge = lambda event: None
        assert courier.send(spool).events == 3
    assert numbers(receiver.heard) == [1, 2, 3]


def test_an_event_on_which_the_receiver_breaks_stops_none_after_it(spool):
    fill(spool, 1, 4)
    with running() as receiver:
        receiver.judge = refuse(2, status=500)
        sent = courier_of(spool, listen(receiver.url)).send(spool)
    assert numbers(receiver.heard)[-3:] == [1, 3, 4]
    assert (sent.outcome, sent.events, len(sent.refused)) == (Outcome.DONE, 3, 1)
    assert sent.refused[0].startswith("500 not this one")


def test_a_receiver_that_breaks_on_everything_is_away_and_nothing_is_passed_over(spool):
    fill(spool, 1, 5)
    with running() as receiver:
        receiver.judge = lambda event: (500, {}, {"detail": "database is gone"})
        courier = courier_of(spool, listen(receiver.url))
        sent = courier.send(spool)
        assert (sent.outcome, sent.refused, sent.why.code) == (Outcome.AWAY, [], "receiver-broken")
        receiver.judge = lambda event: None
        assert courier.send(spool).events == 5


def test_a_500_that_passes_is_no_refusal(spool):
    fill(spool, 1, 1)
    with running() as receiver:
        receiver.answers = [(500, {}, {}), (500, {}, {})]
        assert courier_of(spool, listen(receiver.url)).send(spool).events == 1


@pytest.mark.parametrize("how", ["seconds", "moment"])
def test_retry_after_is_heeded(spool, how):
    fill(spool, 1, 2)
    text = "1" if how == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    moments = []

    def judge(event: dict) -> Answer | None:
        moments.append(time.monotonic())
        return (429, {"Retry-After": text}, {"detail": "slowly"}) if len(moments) == 1 else None

    with running(takes_batches=False) as receiver:
        receiver.judge = judge
        delivery = Delivery("mine", listen(receiver.url), "dev", lambda said: None)
        delivery.begin(spool)
        delivery.notice(spool)
        close_all([delivery], 20)
    assert numbers(receiver.heard) == [1, 2]
    assert moments[1] - moments[0] >= 0.95


def test_one_that_asks_for_longer_than_there_is_time_is_left_alone(spool):
    fill(spool, 1, 2)
    said: list[str] = []
    with running() as receiver:
        receiver.answers = [(503, {"Retry-After": "3600"}, {"detail": "in an hour"})] * 9
        delivery = Delivery("mine", listen(receiver.url), "dev", said.append)
        delivery.begin(spool)
        delivery.notice(spool)
        began = time.monotonic()
        close_all([delivery], 30)
    assert time.monotonic() - began < 10
    assert len(receiver.requests) == 1
    assert "2 events are kept and sent with the next run, or by: aiflow sync" in said[-1]


def test_a_receiver_that_was_down_hears_all_once_it_is_up(spool):
    fill(spool, 1, 3)
    port = free_port()
    said: list[str] = []
    delivery = Delivery("mine", listen(f"http://127.0.0.1:{port}"), "dev", said.append)
    delivery.begin(spool)
    delivery.notice(spool)
    while not said:
        time.sleep(0.01)
    assert "cannot be reached" in said[0]
    with running(port) as receiver:
        # Nothing more happens in the run, and still it is tried again.
        until = time.monotonic() + 20
        while len(receiver.heard) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert numbers(receiver.heard) == [1, 2, 3]
        close_all([delivery], 10)


def test_a_connection_that_the_server_has_closed_meanwhile_is_no_failure(spool):
    port = free_port()
    listener = listen(f"http://127.0.0.1:{port}")
    courier = courier_of(spool, listener)
    for number in (1, 2):
        fill(spool, number, number)
        with running(port) as receiver:
            assert courier.send(spool).events == 1
        assert numbers(receiver.heard) == [number]
    listener.close()


def test_one_that_takes_a_connection_and_says_nothing_is_away(spool):
    fill(spool, 1, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sent = courier_of(spool, listen(url, timeout_seconds=0.3)).send(spool)
    assert (sent.outcome, sent.why.code) == (Outcome.AWAY, "receiver-unreachable")


SENDER = """
import sys
from pathlib import Path
from aiflow_sdk.config import Environment
from aiflow_sdk.listeners.openlineage import OpenLineageListener
from aiflow_sdk.runtime.courier import Courier
listener = OpenLineageListener.load({"url": sys.argv[2]}, Environment())
print(Courier("mine", listener, "dev").send(Path(sys.argv[1])).events)
"""


def start_sender(spool: Path, url: str) -> subprocess.Popen[bytes]:
    Courier("mine", listen(url), "dev").begin(spool)
    return subprocess.Popen([sys.executable, "-c", SENDER, str(spool), url], stdout=subprocess.PIPE)


def test_a_sender_that_is_killed_loses_nothing_and_keeps_the_order(spool):
    fill(spool, 1, 2000)
    with running(is_strict=False) as receiver:
        receiver.pause_seconds = 0.02
        for enough in (300, 1200):
            sender = start_sender(spool, receiver.url)
            while len(receiver.heard) < enough and sender.poll() is None:
                time.sleep(0.001)
            os.kill(sender.pid, signal.SIGKILL)
            sender.communicate()
        receiver.pause_seconds = 0
        sender = start_sender(spool, receiver.url)
        assert sender.communicate()[0]
    heard = numbers(receiver.heard)
    assert sorted(set(heard)) == list(range(1, 2001))
    firsts = list(dict.fromkeys(heard))
    assert firsts == sorted(firsts)
    assert len(heard) <= 2000 + 2 * 100  # of what was under way at each kill


def test_two_senders_at_once_send_each_event_once(spool):
    fill(spool, 1, 1000)
    with running(is_strict=False) as receiver:
        receiver.pause_seconds = 0.01
        senders = [start_sender(spool, receiver.url) for _ in range(2)]
        sent = [int(sender.communicate()[0]) for sender in senders]
    assert numbers(receiver.heard) == list(range(1, 1001))
    assert sum(sent) == 1000


def test_what_is_spooled_while_another_process_sends_is_not_forgotten(spool):
    with running(is_strict=False) as receiver:
        delivery = Delivery("mine", listen(receiver.url), "dev", print)
        delivery.begin(spool)
        other = Courier("mine", listen(receiver.url), "dev")
        ended = threading.Event()

        def send() -> None:
            while not ended.is_set():
                other.send(spool)

        thread = threading.Thread(target=send)
        fill(spool, 1, 1)
        thread.start()
        for number in range(2, 60):
            fill(spool, number, number)
            delivery.notice(spool)
            time.sleep(0.002)
        ended.set()
        thread.join()
        close_all([delivery], 10)
        other.listener.close()
    assert numbers(receiver.heard) == list(range(1, 60))


def test_the_key_goes_into_the_header_and_nowhere_else(spool, monkeypatch, capsys):
    monkeypatch.setenv("AIFLOW_SECRET_LINEAGE", "open-sesame-42")
    from aiflow_sdk.config import resolve_secrets

    fill(spool, 1, 2)
    said: list[str] = []
    with running(takes_batches=False) as receiver:
        # One that shows what it was sent: in a refusal and in an error.
        receiver.judge = lambda event: (
            (422, {}, {"detail": "no open-sesame-42"})
            if numbers([event]) == [1]
            else (403, {}, "Bearer open-sesame-42")
        )
        listener = listen(receiver.url, api_key=resolve_secrets("secret://lineage", Environment()))
        delivery = Delivery("mine", listener, "dev", said.append)
        delivery.begin(spool)
        delivery.notice(spool)
        close_all([delivery], 5)
    assert {headers["authorization"] for _, headers, _ in receiver.requests} == {"Bearer open-sesame-42"}
    assert len(said) >= 2
    written = "".join(path.read_text() for path in spool.parent.iterdir())
    assert "open-sesame-42" not in "".join(said) + written + repr(listener) + "".join(capsys.readouterr())
    assert "***" in written


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "127.0.0.1:5000"}, "url"),
        ({"url": "http://x/?a=1"}, "url"),
        ({"url": "http://x/api/v1/lineage"}, "without its path"),
        ({"url": "http://x", "timeout_seconds": 0}, "greater than 0"),
        ({"url": "http://x", "api_key": "two\nlines"}, "no HTTP header"),
        ({"url": "http://x", "endpoint": "/api"}, "endpoint"),
        ({"url": "http://x", "retries": 3}, "no option 'retries'"),
    ],
)
def test_wrong_options_are_told(options, words):
    with pytest.raises(ConfigurationError, match=words):
        installed_registry().listeners.get("openlineage").load(options, Environment())


def test_on_event_raises_what_is_wrong(spool):
    with running() as receiver:
        receiver.judge = refuse(2)
        listener = listen(receiver.url)
        listener.on_event(make_event(1))
        with pytest.raises(ReceiverError) as refused:
            listener.on_event(make_event(2))
    assert (refused.value.code, refused.value.retryable) == ("event-refused", False)
    with pytest.raises(AiflowError) as away:
        listener.on_event(make_event(3))
    assert (away.value.code, away.value.retryable) == ("receiver-unreachable", True)


def test_lines_that_are_no_events_are_passed_over(spool):
    fill(spool, 1, 1)
    with spool.open("ab") as file:
        file.write(b'{"torn\n[1]\n' + b"[" * 100_000 + b"\n")
    fill(spool, 2, 2)
    with running() as receiver:
        courier = courier_of(spool, listen(receiver.url))
        assert courier.send(spool).events == 2
        assert not courier.is_behind(spool)


def test_text_that_is_no_unicode_is_sent_as_well_formed_utf_8(spool):
    Spool(spool).append(make_event(1, aiflow_error={"message": "a\udcff b"}))
    with running() as receiver:
        courier_of(spool, listen(receiver.url)).send(spool)
    assert receiver.heard[0]["run"]["facets"]["aiflow_error"]["message"] == "a? b"
