"""The metadata service of an environment, asked and told in JSON."""

from __future__ import annotations

import gzip
import http
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import ConfigurationError, ReceiverError, Where
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.service.logins import find_token
from aiflow_sdk.web import Reply, TooLong, WebServer, is_open_road

_CONNECT_SECONDS = 3.0
_TIMEOUT_SECONDS = 60.0
_GZIP_LEVEL = 3
_PLAIN_BYTES = 8_192
"""What is no longer is sent as it is: routes for small things take nothing else."""
_SHOWN_CHARACTERS = 300
_HINTS: Mapping[int, str] = {
    http.HTTPStatus.UNAUTHORIZED: "log in (aiflow login), or see that service_token refers to a token that is good",
    http.HTTPStatus.FORBIDDEN: "ask an owner of the team for the role, or log in with another token",
}
_CODE_HINTS: Mapping[str, str] = {
    "team-ambiguous": "name the team (--team, where the command has it), or ask with a token of one team alone",
}
"""By the code that an answer tells, which says more than its status."""
_OTHER_HINT = "see what its log says, and that the settings service and service_token are right"


class Service:
    """One service, called with the token that :func:`~aiflow_sdk.service.logins.find_token` gives."""

    def __init__(
        self,
        environment: Environment,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        connect_seconds: float = _CONNECT_SECONDS,
        is_personal: bool = False,
        token: str | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """``timeout_seconds``: how long an answer may take; ``is_personal``: it is asked by and for somebody, not in
        behalf of a pipeline; ``token`` stands for what would be looked up.

        ``most_bytes``: how long an answer may be. Raises ``ConfigurationError`` (``unknown-secret``; ``bad-setting``
        where the token would go to another machine in plain text) and as
        :func:`~aiflow_sdk.service.logins.find_token`.
        """
        self._timeout_seconds, self._connect_seconds = timeout_seconds, connect_seconds
        assert environment.service is not None
        self.address = environment.service
        self._server = WebServer(environment.service, keeps_open=True, most_bytes=most_bytes)
        if token is None:
            token = find_token(environment, is_personal=is_personal)
        if token and not environment.service_over_http and is_open_road(self.address):
            raise open_road(self.address, Where(about=f"environments.{environment.name}.service"))
        self._login = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **query: Any) -> Any:
        """Return what lies at a path below ``/api/v1/``; None where nothing does. Raises ``ReceiverError``."""
        wanted = {name: value for name, value in query.items() if value is not None}
        reply = self._ask("GET", f"{path}?{urllib.parse.urlencode(wanted)}" if wanted else path, None)
        return None if reply.status == http.HTTPStatus.NOT_FOUND else self._read(reply)

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list, as they are asked for. Raises ``ReceiverError``."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **query) or {}
            yield from page.get("items", ())
            cursor = page.get("next")
            if cursor is None:
                return

    def post(self, path: str, data: Any, *, absent_is_none: bool = False) -> Any:
        """Post data and return the answer; ``absent_is_none``: None where there is no such path.

        Raises ``ReceiverError``.
        """
        reply = self._ask("POST", path, json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
        is_absent = reply.status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED)
        return None if is_absent and absent_is_none else self._read(reply)

    def delete(self, path: str) -> Any:
        """Delete what lies at a path and return the answer. Raises ``ReceiverError``."""
        return self._read(self._ask("DELETE", path, None))

    def put(self, path: str, data: Any) -> Any:
        """Put data; returns the answer, and of a conflict what that says. Raises ``ReceiverError``."""
        reply = self._ask("PUT", path, json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
        return self._read(reply, conflict_is_answer=True)

    def _ask(self, method: str, path: str, body: bytes | None) -> Reply:
        headers = {"Accept": "application/json", **self._login}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if len(body) > _PLAIN_BYTES:
                headers["Content-Encoding"] = "gzip"
                body = gzip.compress(body, _GZIP_LEVEL)
        try:
            return self._server.request(
                method,
                f"api/v1/{path}",
                body=body,
                headers=headers,
                timeout_seconds=self._timeout_seconds,
                connect_seconds=self._connect_seconds,
            )
        except TooLong as error:
            raise ReceiverError(
                "service-answer",
                f"the metadata service at {self.address} cannot be heard out: {error}",
                hint=_OTHER_HINT,
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = str(error) or type(error).__name__
            raise ReceiverError(
                "service-unreachable",
                REDACTOR.hide(f"the metadata service at {self.address} cannot be reached: {why}"),
                hint="see that it runs and that the setting service is its address",
                retryable=True,
            ) from error

    def _read(self, reply: Reply, *, conflict_is_answer: bool = False) -> Any:
        try:
            data = json.loads(reply.content)
        except (ValueError, RecursionError):
            data = None
        taken = {http.HTTPStatus.OK, http.HTTPStatus.CREATED}
        if conflict_is_answer:
            taken.add(http.HTTPStatus.CONFLICT)
        if reply.status in taken and isinstance(data, dict):
            return data
        said, code = (data.get("detail"), data.get("code")) if isinstance(data, dict) else (None, None)
        text = " ".join(str(said or reply.content.decode("utf-8", "replace")).split())[:_SHOWN_CHARACTERS]
        is_fault = reply.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
        hint = _CODE_HINTS.get(str(code)) or _HINTS.get(reply.status)
        raise ReceiverError(
            "service-answer",
            REDACTOR.hide(f"the metadata service at {self.address} answered {reply.status}: {text}"),
            hint=hint or (None if said and not is_fault else _OTHER_HINT),
            retryable=is_fault,
        )


def open_road(address: str, where: Where) -> ConfigurationError:
    """Return the error for a token that would be sent where whoever is on the way can read it."""
    return ConfigurationError(
        "bad-setting",
        f"the token would go to {address} in plain text, which whoever is on the way can read",
        where=where,
        hint='write service = "https://…", or service_over_http = true where the network itself is trusted',
    )
