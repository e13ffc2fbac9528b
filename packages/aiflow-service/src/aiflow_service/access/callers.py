"""From what a request carries to the scope of who sent it. The one place where that is decided.

A scope is remembered for :data:`REMEMBERED_SECONDS`. Whatever is changed here (a token revoked, a role taken) is
forgotten at once in this process; another replica goes by what it remembers for at most so long.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from aiflow_service.access.changes import Change, record
from aiflow_service.access.oidc import Identity, Provider
from aiflow_service.access.scope import Caller, Scope, scope_of_roles
from aiflow_service.access.teams import make_principal, replace_group_roles, roles_of
from aiflow_service.access.tokens import MACHINE, PREFIX, SESSION, digest_of, find_bearer, make_session, narrowed_roles
from aiflow_service.database import MICROSECONDS, Database, Writing, now
from aiflow_service.database.protection import SEES_ALL, seeing
from aiflow_service.database.tables import principals, tokens

REMEMBERED_SECONDS = 1.0
"""How long after a change another replica may still go by what was before."""
SESSION_SECONDS = 12 * 3600
"""How long a browser stays signed in."""
_MOST = 10_000
_USED_EVERY = 60 * MICROSECONDS
_DAY = 24 * 3600 * MICROSECONDS
_LOG = logging.getLogger("aiflow_service.access")


class Unknown(Exception):  # noqa: N818 it is an answer
    """Nobody is known by what the request carries."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request carries; ``is_session`` if it came as a browser's cookie."""

    secret: str
    is_session: bool = False


class Callers:
    """Knows who calls; any thread may ask."""

    def __init__(self, database: Database, provider: Provider | None = None) -> None:
        self.provider = provider
        self._database = database
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[float, Scope]] = {}
        self._changes = 0

    def remembered(self, credential: Credential) -> Scope | None:
        """Return the scope of a credential that was seen a moment ago; never waits."""
        found = self._known.get(_key(credential))
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def find(self, credential: Credential) -> Scope:
        """Return the scope of a credential. Raises :class:`Unknown`; may wait for the database or the provider."""
        if (scope := self.remembered(credential)) is not None:
            return scope
        changes = self._changes
        with seeing(SEES_ALL):
            if credential.secret.startswith(PREFIX):
                scope = self._bearer(credential)
            elif self.provider is not None and credential.secret.count(".") == 2 and not credential.is_session:
                scope = self._signed(self.provider.validate(credential.secret))
            else:
                raise Unknown("the token is not one of this service")
        with self._lock:
            if changes == self._changes:  # else it may be what was just revoked
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[_key(credential)] = (time.monotonic() + REMEMBERED_SECONDS, scope)
        return scope

    def forget(self) -> None:
        """Forget everybody: something has changed."""
        with self._lock:
            self._changes += 1
            self._known.clear()

    def begin_session(self, identity: Identity) -> str:
        """Return the secret of a session of somebody who has just signed in."""
        with seeing(SEES_ALL), self._database.writing() as writing:
            number, _ = _take_in(writing, identity, is_fresh=True)
            secret = make_session(writing, number, identity.name, now() + SESSION_SECONDS * MICROSECONDS)
        self.forget()
        return secret

    def end_session(self, secret: str) -> None:
        """End a session; one that is not there has ended."""
        with seeing(SEES_ALL), self._database.writing() as writing:
            row = find_bearer(writing.connection, digest_of(secret))
            if row is not None and row.kind == SESSION:
                writing.connection.execute(tokens.update().where(tokens.c.id == row.id).values(revoked_at=now()))
                caller = Caller(row.principal, row.principal_kind, row.principal_id)
                record(writing, Change(caller, "session.ended", row.principal))
        self.forget()

    def _bearer(self, credential: Credential) -> Scope:
        with self._database.reading() as connection:
            row = find_bearer(connection, digest_of(credential.secret))
            if row is None or (row.kind == SESSION) != credential.is_session:
                raise Unknown("the token is unknown, revoked or over")
            roles, everywhere = narrowed_roles(connection, row)
        token_id = row.id if row.kind == MACHINE else None
        label = f"{row.principal} (token {row.id})" if token_id else row.principal
        caller = Caller(label, row.principal_kind, row.principal_id, token_id, row.environment)
        if row.used_at is None or now() - row.used_at > _USED_EVERY:
            self._note_use(row, caller)
        return scope_of_roles(roles, everywhere, caller)

    def _note_use(self, row: Any, caller: Caller) -> None:
        """Note that a token was used, to a minute; the audit has each machine token once a day."""
        moment = now()
        is_first_today = row.used_at is None or row.used_at // _DAY < moment // _DAY
        try:
            with self._database.writing() as writing:
                writing.connection.execute(tokens.update().where(tokens.c.id == row.id).values(used_at=moment))
                if is_first_today and row.kind == MACHINE:
                    record(writing, Change(caller, "token.used", f"{row.id} {row.name}", row.team_id))
        except SQLAlchemyError:  # a full disk stops nobody from reading
            _LOG.warning("that token %d was used could not be noted", row.id)

    def _signed(self, identity: Identity) -> Scope:
        """Return the scope of somebody with an issuer's token; what its groups give is stored where it is new."""
        statement = sa.select(principals.c.id, principals.c.seen_at, principals.c.name).where(
            principals.c.issuer == identity.issuer, principals.c.subject == identity.subject
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None or row.seen_at is None or identity.issued_at > row.seen_at:
            with self._database.writing() as writing:
                number, caller = _take_in(writing, identity)
                record(writing, Change(caller, "sign-in.token", identity.name))
            self.forget()
        else:
            number = row.id
        with self._database.reading() as connection:
            roles, everywhere = roles_of(connection, number)
        return scope_of_roles(roles, everywhere, Caller(identity.name, "user", number))


def _take_in(writing: Writing, identity: Identity, *, is_fresh: bool = False) -> tuple[int, Caller]:
    """Return the principal of somebody whom the issuer vouches for, by its id and as a caller.

    The newest token or sign-in says which groups there are: an older one, still valid, must not bring back another's.
    Tokens know whole seconds alone: of two of one second the first that came counts, unless the issuer has just handed
    over the other (``is_fresh``).
    """
    number = make_principal(writing, "user", identity.issuer, identity.subject, identity.name)
    caller = Caller(identity.name, "user", number)
    mine = principals.c.id == number
    seen_at = writing.connection.execute(sa.select(principals.c.seen_at).where(mine)).scalar()
    if seen_at is None or identity.issued_at > seen_at or (is_fresh and identity.issued_at == seen_at):
        replace_group_roles(writing, number, dict(identity.roles), identity.everywhere, caller)
        writing.connection.execute(principals.update().where(mine).values(seen_at=identity.issued_at))
    return number, caller


def _key(credential: Credential) -> bytes:
    return hashlib.sha256(f"{int(credential.is_session)}{credential.secret}".encode()).digest()
