"""HTTP to Airflow's public REST API: addresses, logins, pages, and what may go wrong."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import ConfigurationError, OrchestratorError, Where
from aiflow_sdk.web import Reply, WebServer

DEFAULT_ADDRESS = "http://127.0.0.1:8080"
"""Where ``make airflow`` listens; of the environment ``dev`` alone, of every other the address must be said."""
OLDEST = (3, 3)
"""The oldest Airflow whose runs carry our partitions."""

_FIRST_SECONDS = 30.0
"""How long the first answer may take: until then nobody knows whether there is anybody."""
_TIMEOUT_SECONDS = 90.0
"""How long any other may: one that writes may wait for Airflow's database."""
_PAGE = 100
_SHOWN_CHARACTERS = 300
_BUSY = frozenset({429, 500, 502, 503, 504})
"""What may pass: a database that is locked for a moment is a 500."""
_ASKED_TOO_MUCH = frozenset({400, 404, 409, 422})


class Answer(NamedTuple):
    """What Airflow answered to a request that it understood."""

    status: int
    data: Any

    @property
    def is_ok(self) -> bool:
        """Whether it did what it was asked."""
        return self.status < 300

    @property
    def detail(self) -> str:
        """What it says is wrong, in its own words."""
        found = self.data.get("detail") if isinstance(self.data, dict) else self.data
        if isinstance(found, list):  # of a body that its model refuses: one entry a field
            found = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in found)
        text = str(found or f"status {self.status}")
        return text.partition("\n")[0][:_SHOWN_CHARACTERS]


class AirflowClient:
    """One Airflow's REST API."""

    def __init__(
        self, address: str, *, token: str | None = None, login: tuple[str, str] | None = None, environment: str = "dev"
    ) -> None:
        """``token`` is sent as it is; ``login`` is a user and a password, for which Airflow gives a token."""
        self.address = address.rstrip("/")
        self.environment = environment
        self._token = token
        self._login = login
        self._has_answered = False
        self._server = WebServer(self.address)

    @classmethod
    def open(cls, environment: Environment) -> AirflowClient:
        """Return the client of an environment's Airflow, its version looked at.

        Raises ``ConfigurationError``: ``no-airflow`` where none is named, ``unknown-secret``; ``OrchestratorError``
        where it cannot be reached or is too old.
        """
        address = environment.airflow or (DEFAULT_ADDRESS if environment.name == "dev" else None)
        if address is None:
            raise ConfigurationError(
                "no-airflow",
                f"it is not said where the Airflow of the environment '{environment.name}' is",
                where=Where("aiflow.toml", about=f"environments.{environment.name}"),
                hint=f'write airflow = "https://…" into [environments.{environment.name}]',
            )
        token, password = environment.airflow_token, environment.airflow_password
        client = cls(
            address,
            token=resolve_secrets(token, environment) if token else None,
            login=(
                resolve_secrets(environment.airflow_user, environment),
                resolve_secrets(password, environment),
            )
            if password and environment.airflow_user
            else None,
            environment=environment.name,
        )
        client.check_version()
        return client

    def check_version(self) -> str:
        """Return Airflow's version. Raises ``OrchestratorError`` (``airflow-too-old``)."""
        answer = self.call("GET", "version")
        version = answer.data.get("version") if answer.is_ok and isinstance(answer.data, dict) else None
        if not isinstance(version, str):
            raise self._unexpected("has no version to tell", str(answer.data))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers < OLDEST:
            raise OrchestratorError(
                "airflow-too-old",
                f"the Airflow at {self.address} is {version}",
                hint=f"aiflow needs {'.'.join(map(str, OLDEST))} or later, whose runs have partitions",
            )
        return version

    def get(self, path: str, **query: Any) -> Any:
        """Return what Airflow has at a path. Raises ``OrchestratorError``."""
        return self._accepted(self.call("GET", path, **query))

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Have Airflow do something and return what it tells. Raises ``OrchestratorError``."""
        return self._accepted(self.call(method, path, body, **query))

    def pages(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a listing, page by page as they are asked for."""
        offset = 0
        while True:
            found = self.get(path, **{"limit": _PAGE, **query, "offset": offset})
            items = found.get(key) if isinstance(found, dict) else None
            if not isinstance(items, list):
                raise self._unexpected(f"lists no {key}", str(found))
            yield from items
            offset += len(items)
            if not items or offset >= (found.get("total_entries") or 0):
                return

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Answer:
        """Return the answer to a request, also where it says that there is no such thing, or that it cannot be.

        Raises ``OrchestratorError``: ``airflow-unreachable``, ``airflow-login``, ``airflow-forbidden``,
        ``airflow-answer``.
        """
        if self._token is None and self._login is not None:
            self._token = self._log_in(*self._login)
        answer = self._request(method, f"api/v2/{path}", body, query)
        if answer.status == http.HTTPStatus.UNAUTHORIZED and self._login is not None:
            self._token = self._log_in(*self._login)  # the token has had its time
            answer = self._request(method, f"api/v2/{path}", body, query)
        if answer.status == http.HTTPStatus.UNAUTHORIZED:
            raise self._refused_login("wants a login" if self._token is None else "does not know the login")
        if answer.status == http.HTTPStatus.FORBIDDEN:
            raise OrchestratorError(
                "airflow-forbidden",
                f"the Airflow at {self.address} does not let this login do that ({method} {path}): {answer.detail}",
                hint="ask for the right, or use another login",
            )
        if answer.is_ok or answer.status in _ASKED_TOO_MUCH:
            return answer
        raise self._unexpected(f"answers {answer.status} to {method} {path}", answer.detail, answer.status in _BUSY)

    def refused(self, answer: Answer, hint: str | None = None) -> OrchestratorError:
        """Return the error for a request that Airflow understood and did not do."""
        return OrchestratorError("airflow-refused", f"Airflow refused: {answer.detail}", hint=hint)

    def _accepted(self, answer: Answer) -> Any:
        if not answer.is_ok:
            raise self.refused(answer)
        return answer.data

    def _log_in(self, user: str, password: str) -> str:
        self._token = None
        answer = self._request("POST", "auth/token", {"username": user, "password": password}, {})
        if answer.status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            raise self._refused_login(f"does not know the user '{user}' with that password")
        token = answer.data.get("access_token") if answer.is_ok and isinstance(answer.data, dict) else None
        if not isinstance(token, str):
            raise self._unexpected(
                "gives no token for a user and a password",
                answer.detail,
                hint="its auth manager may have another way to a token: set airflow_token",
            )
        from aiflow_sdk.redaction import REDACTOR

        REDACTOR.add(token)
        return token

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any]) -> Answer:
        asked = {name: value for name, value in query.items() if value is not None}
        target = path + (f"?{urllib.parse.urlencode(asked, doseq=True)}" if asked else "")
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = json.dumps(body).encode() if body is not None else None
        timeout = _TIMEOUT_SECONDS if self._has_answered else _FIRST_SECONDS
        is_known = method == "GET" or not self._has_answered
        try:
            reply = self._server.request(method, target, body=data, headers=headers, timeout_seconds=timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OrchestratorError(
                "airflow-unreachable",
                f"the Airflow at {self.address} cannot be reached: {error}",
                where=Where("aiflow.toml", about=f"environments.{self.environment}.airflow"),
                hint="see that it runs and that the address is right"
                + ("; on this machine `make airflow` starts one" if self.address == DEFAULT_ADDRESS else ""),
                retryable=True,
                notes=[] if is_known else ["what was asked may have been done already"],
            ) from error
        if reply.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            return self._answer_of(reply)
        self._has_answered = True
        return Answer(reply.status, self._read(reply.content))

    def _answer_of(self, reply: Reply) -> Answer:
        if reply.status < http.HTTPStatus.BAD_REQUEST:
            place = reply.headers.get("location", "elsewhere")
            raise self._unexpected("leads elsewhere", place, hint="write the address that it leads to")
        try:
            return Answer(reply.status, json.loads(reply.content))
        except ValueError:
            return Answer(reply.status, reply.content.decode("utf-8", "replace"))

    def _read(self, content: bytes) -> Any:
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._unexpected("answers with no JSON", content.decode("utf-8", "replace")) from error

    def _refused_login(self, what: str) -> OrchestratorError:
        name = self.environment
        return OrchestratorError(
            "airflow-login",
            f"the Airflow at {self.address} {what}",
            where=Where("aiflow.toml", about=f"environments.{name}"),
            hint=f'set airflow_token = "secret://…", or airflow_user and airflow_password, in [environments.{name}]',
        )

    def _unexpected(self, what: str, shown: str, retryable: bool = False, hint: str | None = None) -> OrchestratorError:
        text = " ".join(shown.split())[:_SHOWN_CHARACTERS]
        return OrchestratorError(
            "airflow-answer",
            f"what is at {self.address} {what}",
            hint=hint or "see that the address is an Airflow's, as a browser opens it, and what its log says",
            retryable=retryable,
            notes=[f"it said: {text}"] if text else [],
        )
