"""PostgreSQL's row-level security: the second net below :class:`aiflow_service.access.Scope`.

Every transaction that reads for a caller says, by the setting ``aiflow.teams``, whose rows it may see: ``*`` for all,
else an array of teams; unset is none. The policies hold for the tables' owner too (FORCE); whoever connects as a
superuser, whom no policy binds, reads for callers as :data:`READER`, which owns nothing and may write nothing.

A migration that makes a table with a ``team_id`` calls :func:`protect_table`; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy.engine import Connection

READER = "aiflow_reader"
"""The role that a superuser's connection reads as. Roles are the whole cluster's; it is made once and never dropped."""

SEES_ALL = "*"
SEES_NOTHING = "{}"

SEES: ContextVar[str] = ContextVar("sees", default=SEES_ALL)
"""What reads of the present context may see. A request begins with nothing; outside of one the service itself reads."""

_ALL = "(SELECT coalesce(current_setting('aiflow.teams', true), '') = '*')"
_TEAMS = "(SELECT coalesce(nullif(nullif(current_setting('aiflow.teams', true), '*'), ''), '{}')::bigint[])::bigint[]"
_OF_DATASET = "EXISTS (SELECT 1 FROM datasets d WHERE d.id = dataset_id)"

_CONDITIONS = {
    "jobs": f"team_id = ANY ({_TEAMS})",
    "projects": f"team_id = ANY ({_TEAMS})",
    "runs": f"team_id = ANY ({_TEAMS})",
    "events": f"team_id = ANY ({_TEAMS})",
    "refusals": f"team_id = ANY ({_TEAMS})",
    "documents": f"team_id = ANY ({_TEAMS})",
    "pipelines": f"team_id = ANY ({_TEAMS})",
    "versions": f"team_id = ANY ({_TEAMS})",
    "releases": f"team_id = ANY ({_TEAMS})",
    "pipeline_releases": "EXISTS (SELECT 1 FROM pipelines p WHERE p.id = pipeline_id)",
    "makings": f"team_id = ANY ({_TEAMS})",
    "configuration_items": f"team_id = ANY ({_TEAMS})",
    "audit": f"team_id = ANY ({_TEAMS})",
    "usage": f"team_id = ANY ({_TEAMS})",
    "memberships": f"team_id = ANY ({_TEAMS})",
    "claims": f"team_id = ANY ({_TEAMS})",
    "tokens": f"team_id = ANY ({_TEAMS})",
    "grants": f"from_team_id = ANY ({_TEAMS}) OR to_team_id = ANY ({_TEAMS})",
    "teams": f"id = ANY ({_TEAMS}) OR EXISTS (SELECT 1 FROM grants g WHERE teams.id IN (g.from_team_id, g.to_team_id))",
    "principals": "EXISTS (SELECT 1 FROM memberships m WHERE m.principal_id = principals.id)",
    "datasets": f"team_id = ANY ({_TEAMS}) OR aiflow_is_granted(id, team_id, {_TEAMS})",
    "dataset_names": _OF_DATASET,
    "columns": _OF_DATASET,
}

# The names of a dataset are protected by way of the dataset, which a grant makes visible by its names: the function
# looks at them as the service does, or the two would ask each other for ever. (A SET clause would do it in one line,
# and is a superuser's privilege for a setting of one's own.)
_GRANTED = """
CREATE FUNCTION aiflow_is_granted(wanted bigint, owner bigint, teams bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    before text := current_setting('aiflow.teams', true);
    found boolean;
BEGIN
    PERFORM set_config('aiflow.teams', '*', true);
    SELECT EXISTS (
        SELECT 1 FROM grants g JOIN dataset_names n ON n.dataset_id = wanted JOIN namespaces s ON s.id = n.namespace_id
        WHERE g.to_team_id = ANY (teams) AND g.from_team_id = owner AND g.revoked_at IS NULL
            AND (g.until IS NULL OR g.until > extract(epoch FROM clock_timestamp()) * 1000000)
            AND (g.namespace IS NULL OR g.namespace = s.name)
            AND (n.name = g.name OR (g.is_prefix = 1 AND substr(n.name, 1, length(g.name)) = g.name))
    ) INTO found;
    PERFORM set_config('aiflow.teams', before, true);
    RETURN found;
END $$
"""

_MAKE_READER = f"""
DO $$ BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            CREATE ROLE {READER} NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        EXECUTE format('GRANT USAGE ON SCHEMA %%I TO {READER}', current_schema());
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %%I TO {READER}', current_schema());
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %%I GRANT SELECT ON TABLES TO {READER}', current_schema());
    END IF;
END $$
"""

_FORGET_READER = f"""
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{READER}')
        AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    THEN
        DROP OWNED BY {READER};
    END IF;
END $$
"""


@contextmanager
def seeing(teams: str) -> Iterator[None]:
    """Let reads in this context see the rows of these teams, :data:`SEES_ALL` or :data:`SEES_NOTHING`."""
    token = SEES.set(teams)
    try:
        yield
    finally:
        SEES.reset(token)


def protect_table(connection: Connection, table: str, condition: str | None = None) -> None:
    """Let a table's rows be seen by those whose ``team_id`` it has, or by a condition of its own; no-op on SQLite."""
    if connection.dialect.name != "postgresql":
        return
    mine = condition or f"team_id = ANY ({_TEAMS})"
    connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    connection.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    connection.exec_driver_sql(f"CREATE POLICY of_teams ON {table} USING ({_ALL} OR {mine})")


def install_protection(connection: Connection) -> None:
    """Protect the tables of all migrations up to this one, and make the role that reads."""
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql(_GRANTED)
    for table, condition in _CONDITIONS.items():
        protect_table(connection, table, condition)
    connection.exec_driver_sql(_MAKE_READER)


def remove_protection(connection: Connection) -> None:
    """Take back what :func:`install_protection` did, but for the role, which other databases may use."""
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql(_FORGET_READER)
    for table in _CONDITIONS:
        connection.exec_driver_sql(f"DROP POLICY of_teams ON {table}")
        connection.exec_driver_sql(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    connection.exec_driver_sql("DROP FUNCTION aiflow_is_granted(bigint, bigint, bigint[])")
