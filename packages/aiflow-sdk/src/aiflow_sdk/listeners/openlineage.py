"""Sends events to whoever speaks OpenLineage over HTTP: the metadata service, Marquez, a catalog, a collector.

One event is ``POST <url>/api/v1/lineage``, as the official client sends it; several are ``POST …/lineage/batch``, where
the receiver has that (openlineage.io/spec/OpenLineage.yml). The specification does not say how a batch is answered of
which a part is refused. Read here is a JSON object with ``failed_events``, a list of ``{index, reason, retriable}``.
"""

from __future__ import annotations

import email.utils
import gzip
import http.client
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PrivateAttr, field_validator

from aiflow_sdk.errors import AiflowError, ReceiverError
from aiflow_sdk.plugins import Heard, Listener, Receiver
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.web import Reply, WebServer

CONNECT_SECONDS = 3.0
"""How long a connection may take to come about: a receiver that is gone delays nobody for longer."""

_ENDPOINT = "api/v1/lineage"
_REFUSED = frozenset({400, 409, 413, 415, 422})
"""What is said of the event itself: it would be said again."""
_NO_BATCHES = frozenset({404, 405, 501})
_BUSY = frozenset({408, 425, 429, 502, 503, 504, 507})
_NO_LOGIN = frozenset({401, 403, 407})
_BROKEN = 500
_TRIES_PAUSES = (0.0, 0.2, 0.5)
"""After a 500 the same event is tried again after so many seconds: it may be the receiver, and it may be the event."""
_MOST_SUSPECTS = 3
"""After so many events in a row that end in a 500 it is the receiver."""
_SHOWN_CHARACTERS = 300
_GZIP_LEVEL = 3  # beyond it takes twice as long


class OpenLineageListener(Listener, kind="openlineage"):
    """Sends each event to a receiver that speaks OpenLineage over HTTP.

    In the order of each run, several at once where the receiver has an address for that. One that is away or busy loses
    nothing: it is sent later what it has not heard. An event that it refuses is passed over and kept beside the spool.
    """

    batch_size: ClassVar[int] = 100

    url: str = Field(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")
    """The receiver's address, without ``api/v1/lineage``."""
    api_key: str | None = None
    """A reference to what is sent as ``Authorization: Bearer``: ``"secret://name"``."""
    endpoint: str = Field(default=_ENDPOINT, pattern=r"^[^/\s?#][^\s?#]*[^/\s?#]$")
    """Where, below the address, single events are sent; batches to ``batch`` below that."""
    timeout_seconds: PositiveFloat = 10
    """How long an answer may take."""
    gzip: bool = True
    """Whether what is sent is compressed. A receiver that cannot read it (415) is sent it as it is."""

    _receiver: _Receiver = PrivateAttr()

    @field_validator("url", mode="after")
    @classmethod
    def _without_endpoint(cls, url: str) -> str:
        if url.rstrip("/").endswith("/lineage"):
            raise ValueError("the address of the server is wanted, without its path /api/v1/lineage")
        return url

    @field_validator("api_key", mode="after")
    @classmethod
    def _fit_for_a_header(cls, key: str | None) -> str | None:
        if key is not None and not (key.isascii() and key.isprintable() and key == key.strip() and key):
            raise ValueError("it is empty, or holds what no HTTP header may: a line end, a space around it")
        return key

    def model_post_init(self, context: Any) -> None:
        """Make what holds the connections."""
        self._receiver = _Receiver(self)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Send one event. Raises ``ReceiverError``, which is ``retryable`` unless the event itself is refused."""
        heard = self.on_events([event])
        if heard.refused:
            raise ReceiverError("event-refused", heard.refused[0])
        if heard.why:
            raise heard.why

    def on_events(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        """Send events, in their order, and return what the receiver said."""
        return self._receiver.send(events)

    def receiver(self) -> Receiver | None:
        """Return the metadata service's identity; None of any other receiver."""
        return self._receiver.identify()

    def close(self) -> None:
        """Close the connections."""
        self._receiver.server.close()


class _Receiver:
    """The receiver, and what was found out about it."""

    def __init__(self, options: OpenLineageListener) -> None:
        self.server = WebServer(options.url, keeps_open=True)
        self._options = options
        self._takes_gzip = options.gzip
        self._takes_batches = True

    def send(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        try:
            if len(events) > 1 and self._takes_batches and (heard := self._send_batch(events)):
                return heard
            return self._send_singly(events)
        except _AwayError as away:
            return Heard(0, why=away.why, is_reachable=False, pause_seconds=away.pause_seconds)

    def identify(self) -> Receiver | None:
        options = self._options
        if options.endpoint != _ENDPOINT:
            return None  # it is not asked what it may not know
        headers = {"Accept": "application/json"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        try:
            reply = self.server.request(
                "GET",
                "api/v1/service",
                headers=headers,
                timeout_seconds=options.timeout_seconds,
                connect_seconds=CONNECT_SECONDS,
            )
            told = json.loads(reply.content) if reply.status == http.HTTPStatus.OK else None
            return Receiver(_identity_in(told["id"]), int(told["events"])) if told else None
        except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError, RecursionError):
            return None  # what keeps it from answering is told by what is sent

    def _send_batch(self, events: Sequence[Mapping[str, Any]]) -> Heard | None:
        """Send all at once; None where they are to be sent singly."""
        reply = self._post(f"{self._options.endpoint}/batch", events)
        if reply.status in _NO_BATCHES:
            self._takes_batches = False  # and where nothing is at the address, the single event says so
            return None
        if reply.status in _REFUSED or reply.status == _BROKEN:
            return None  # which of them it is, is told singly
        self._check(reply)
        refused: dict[int, str] = {}
        again: list[int] = []
        for index, reason, is_later in _failures_in(reply, len(events)):
            if is_later:
                again.append(index)
            else:
                refused[index] = reason
        if again:
            rest = self._send_singly([events[index] for index in sorted(again)])
            refused |= {sorted(again)[index]: why for index, why in rest.refused.items()}
            if rest.taken < len(again):
                # What follows it has been taken, and is sent once more: it is counted once.
                taken = sorted(again)[rest.taken]
                refused = {index: why for index, why in refused.items() if index < taken}
                return Heard(taken, refused, rest.why, rest.is_reachable, rest.pause_seconds)
        return Heard(len(events), refused)

    def _send_singly(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        refused: dict[int, str] = {}
        suspects: dict[int, str] = {}
        """Events that ended in a 500. If the receiver takes what follows, it is they; if not, it is the receiver."""
        for index, event in enumerate(events):
            try:
                reply = self._post_until_told(event)
                if reply.status == _BROKEN:
                    suspects[index] = _said(reply)
                    if len(suspects) == _MOST_SUSPECTS:
                        break
                    continue
                if reply.status in _REFUSED:
                    refused[index] = _said(reply)
                else:
                    self._check(reply)
            except _AwayError as away:
                first = min(suspects, default=index)
                return Heard(first, refused, away.why, is_reachable=False, pause_seconds=away.pause_seconds)
            refused |= {one: f"{why} (others are taken)" for one, why in suspects.items()}
            suspects.clear()
        if suspects:
            why = self._error("receiver-broken", f"fails with the event: {next(iter(suspects.values()))}")
            return Heard(min(suspects), refused, why, is_reachable=len(suspects) < _MOST_SUSPECTS)
        return Heard(len(events), refused)

    def _post_until_told(self, event: Mapping[str, Any]) -> Reply:
        """Post one event; again where the answer is a 500, which may pass."""
        for pause in _TRIES_PAUSES:
            time.sleep(pause)
            reply = self._post(self._options.endpoint, event)
            if reply.status != _BROKEN:
                break
        return reply

    def _post(self, path: str, data: Any) -> Reply:
        body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        reply = self._request(path, body)
        if reply.status == http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE and self._takes_gzip:
            self._takes_gzip = False
            reply = self._request(path, body)
        return reply

    def _request(self, path: str, body: bytes) -> Reply:
        options = self._options
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        if self._takes_gzip:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, _GZIP_LEVEL)
        try:
            return self.server.request(
                "POST",
                path,
                body=body,
                headers=headers,
                timeout_seconds=options.timeout_seconds,
                connect_seconds=CONNECT_SECONDS,
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = self._error("receiver-unreachable", f"cannot be reached: {str(error) or type(error).__name__}")
            raise _AwayError(why) from error

    def _check(self, reply: Reply) -> None:
        """Raise what keeps the receiver from taking events at all, if anything does."""
        if reply.status < http.HTTPStatus.MULTIPLE_CHOICES:
            return
        said = _said(reply)
        if reply.status in _BUSY or reply.status >= _BROKEN:
            why = self._error("receiver-busy", f"takes no events just now: {said}")
        elif reply.status in _NO_LOGIN:
            why = self._error("receiver-login", f"wants another login: {said}")
        elif reply.status < http.HTTPStatus.BAD_REQUEST:
            why = self._error("receiver-answer", f"leads elsewhere: {reply.headers.get('location', said)}")
        else:
            why = self._error("receiver-answer", f"takes no events there: {said}")
        raise _AwayError(why, _pause_of(reply))

    def _error(self, code: str, what: str) -> ReceiverError:
        """Return the error, with what to do about it. The events are kept, whatever it is."""
        message = REDACTOR.hide(f"what is at {self._options.url} {what}")
        match code:
            case "receiver-unreachable":
                return ReceiverError(
                    "receiver-unreachable",
                    message,
                    hint="see that it runs and that the address is right",
                    retryable=True,
                )
            case "receiver-busy":
                return ReceiverError("receiver-busy", message, hint="it is tried again", retryable=True)
            case "receiver-login":
                return ReceiverError(
                    "receiver-login",
                    message,
                    hint="see which token its setting refers to (service_token, or api_key of the listener)",
                    retryable=True,
                )
            case "receiver-broken":
                return ReceiverError(
                    "receiver-broken", message, hint="see what the receiver's log says", retryable=True
                )
            case _:
                return ReceiverError(
                    "receiver-answer",
                    message,
                    hint="see that the address is that of an OpenLineage receiver",
                    retryable=True,
                )


class _AwayError(Exception):
    """The receiver takes nothing just now."""

    def __init__(self, why: AiflowError, pause_seconds: float | None = None) -> None:
        super().__init__(str(why))
        self.why = why
        self.pause_seconds = pause_seconds


def _identity_in(told: object) -> str:
    if not isinstance(told, str) or not re.fullmatch(r"[0-9A-Za-z._-]{1,64}", told):
        raise ValueError("no identity")
    return told


def _failures_in(reply: Reply, size: int) -> list[tuple[int, str, bool]]:
    """Return index, reason, and whether it may be taken later, of each event of a batch that was not taken."""
    try:
        data = json.loads(reply.content)
    except (ValueError, RecursionError):
        return []  # OK, or nothing at all: all were taken
    stated = data.get("failed_events") if isinstance(data, dict) else None
    found = []
    for one in stated if isinstance(stated, list) else ():
        index = one.get("index") if isinstance(one, dict) else None
        if isinstance(index, int) and 0 <= index < size:
            found.append((index, _shortened(str(one.get("reason") or "no reason given")), one.get("retriable") is True))
    return found


def _said(reply: Reply) -> str:
    """Return the status and what the answer says, in its own words."""
    text = reply.content.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        words = (data.get(name) for name in ("detail", "message", "error", "title"))
        text = next((word if isinstance(word, str) else json.dumps(word) for word in words if word), text)
    return f"{reply.status} {_shortened(text)}".strip()


def _shortened(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]


def _pause_of(reply: Reply) -> float | None:
    """Return the seconds of ``Retry-After``, which may be a number or a moment (RFC 9110, 10.2.3)."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
