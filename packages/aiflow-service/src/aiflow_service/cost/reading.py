"""Sums up what attempts used, and what that cost: measured and estimated apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.cost.prices import Price, Prices
from aiflow_service.database import MICROSECONDS
from aiflow_service.database.tables import billed_units, teams, usage

_DAY = 86_400 * MICROSECONDS
_MOST_GROUPS = 1_000
_SMALLEST = Decimal("0.000001")
_USED = usage.join(teams, teams.c.id == usage.c.team_id)
_PIPELINE = (teams.c.name.label("team"), usage.c.project, usage.c.pipeline, usage.c.environment)

GROUPS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "team": _PIPELINE[:1],
    "project": _PIPELINE[:2],
    "pipeline": _PIPELINE,
    # A task is what is measured: of one with several nodes nobody knows which used what, so they are named together.
    "node": (*_PIPELINE, usage.c.task_id.label("task"), usage.c.nodes),
    "day": ((usage.c.ended_at // _DAY).label("day"),),
}
"""By what costs are told, and what is told of each."""


@dataclass(frozen=True)
class CostFilter:
    """Which attempts: ended between two moments (the second excluded), of a team, a project, a pipeline."""

    since: int | None = None
    until: int | None = None
    team: str | None = None
    project: str | None = None
    pipeline: str | None = None
    environment: str | None = None


@dataclass
class _Billed:
    amount: float = 0.0
    unpriced: float = 0.0
    cost: Decimal = field(default_factory=Decimal)


@dataclass
class _Sum:
    attempts: int = 0
    estimated_attempts: int = 0
    unpriced_attempts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_gib_seconds: float = 0.0
    billed: dict[tuple[str, str], _Billed] = field(default_factory=dict)
    measured: Decimal = field(default_factory=Decimal)
    estimated: Decimal = field(default_factory=Decimal)


def sum_costs(
    connection: Connection, scope: Scope, prices: Prices, by: str, wanted: CostFilter
) -> tuple[list[dict[str, Any]], bool]:
    """Return what each group used and cost, the dearest first (days in their order), and whether some were left out."""
    columns = GROUPS[by]
    sums: dict[tuple[Any, ...], _Sum] = {}
    for price, since, until in _periods(prices, wanted):
        for row in connection.execute(_selected(scope, columns, wanted, since, until)):
            key = tuple(row[: len(columns)])
            _add(sums.setdefault(key, _Sum()), row[len(columns) :], price, prices)
        for row in connection.execute(_billed(scope, columns, wanted, since, until)):
            _add_billed(sums[tuple(row[: len(columns)])], row[len(columns) :], price)
    names = [str(column.key) for column in columns]
    order = sorted(sums.items(), key=lambda one: _order(by, *one))
    told = [_told(dict(zip(names, key, strict=True)), one, prices) for key, one in order[:_MOST_GROUPS]]
    return told, len(sums) > _MOST_GROUPS


def _periods(prices: Prices, wanted: CostFilter) -> list[tuple[Price | None, int | None, int | None]]:
    """Return the stretches of time in which one price holds, within what is asked for."""
    edges: list[tuple[Price | None, int | None]] = [(None, None), *((one, one.since) for one in prices.known)]
    found = []
    for number, (price, begins) in enumerate(edges):
        ends = edges[number + 1][1] if number + 1 < len(edges) else None
        since = max((one for one in (begins, wanted.since) if one is not None), default=None)
        until = min((one for one in (ends, wanted.until) if one is not None), default=None)
        if since is None or until is None or since < until:
            found.append((price, since, until))
    return found


def _selected(
    scope: Scope, columns: tuple[sa.ColumnElement[Any], ...], wanted: CostFilter, since: int | None, until: int | None
) -> sa.Select[Any]:
    no_cpu, no_memory = usage.c.cpu_seconds.is_(None), usage.c.memory_gib_seconds.is_(None)
    statement = (
        sa.select(
            *columns,
            sa.func.count(),
            sa.func.sum(sa.case((no_cpu | no_memory, 1), else_=0)),
            sa.func.sum(usage.c.seconds),
            sa.func.coalesce(sa.func.sum(usage.c.cpu_seconds), 0.0),
            sa.func.coalesce(sa.func.sum(usage.c.memory_gib_seconds), 0.0),
            sa.func.sum(sa.case((no_cpu, usage.c.seconds), else_=0.0)),
            sa.func.sum(sa.case((no_memory, usage.c.seconds), else_=0.0)),
        )
        .select_from(_USED)
        .group_by(*columns)
    )
    return _limited(statement, scope, wanted, since, until)


def _billed(
    scope: Scope, columns: tuple[sa.ColumnElement[Any], ...], wanted: CostFilter, since: int | None, until: int | None
) -> sa.Select[Any]:
    what = (billed_units.c.cluster, billed_units.c.unit, billed_units.c.estimated)
    statement = sa.select(*columns, *what, sa.func.sum(billed_units.c.amount)).group_by(*columns, *what)
    statement = statement.select_from(_USED.join(billed_units, billed_units.c.run_id == usage.c.run_id))
    return _limited(statement, scope, wanted, since, until)


def _limited(
    statement: sa.Select[Any], scope: Scope, wanted: CostFilter, since: int | None, until: int | None
) -> sa.Select[Any]:
    statement = statement.where(scope.sees(usage.c.team_id))
    for column, value in (
        (teams.c.name, wanted.team),
        (usage.c.project, wanted.project),
        (usage.c.pipeline, wanted.pipeline),
        (usage.c.environment, wanted.environment),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if since is not None:
        statement = statement.where(usage.c.ended_at >= since)
    if until is not None:
        statement = statement.where(usage.c.ended_at < until)
    return statement


def _add(total: _Sum, row: Any, price: Price | None, prices: Prices) -> None:
    attempts, unmeasured, seconds, cpu, memory, cpu_unmeasured, memory_unmeasured = row
    total.attempts += attempts
    total.estimated_attempts += unmeasured
    total.seconds += seconds
    total.cpu_seconds += cpu
    total.memory_gib_seconds += memory
    if price is None:
        total.unpriced_attempts += attempts
        return
    total.measured += Decimal(cpu) * price.cpu_second + Decimal(memory) * price.memory_gib_second
    total.estimated += Decimal(cpu_unmeasured) * prices.estimated_cpus * price.cpu_second
    total.estimated += Decimal(memory_unmeasured) * prices.estimated_memory_gib * price.memory_gib_second


def _add_billed(total: _Sum, row: Any, price: Price | None) -> None:
    cluster, unit, is_estimated, amount = row
    found = total.billed.setdefault((cluster, unit), _Billed())
    found.amount += amount
    rate = price.units.get((cluster, unit)) if price else None
    if rate is None:
        found.unpriced += amount
        return
    cost = Decimal(amount) * rate
    found.cost += cost
    if is_estimated:
        total.estimated += cost
    else:
        total.measured += cost


def _order(by: str, key: tuple[Any, ...], total: _Sum) -> tuple[Any, ...]:
    place = tuple(str(part or "") for part in key)
    return (key[0],) if by == "day" else (-(total.measured + total.estimated), -total.cpu_seconds, place)


def _told(group: dict[str, Any], total: _Sum, prices: Prices) -> dict[str, Any]:
    if "day" in group:
        group["day"] = datetime.fromtimestamp(group["day"] * 86_400, UTC).date().isoformat()
    if "nodes" in group:
        group["nodes"] = group["nodes"].split(",") if group["nodes"] else []
    is_priced = bool(prices.known)
    return {
        **group,
        "attempts": total.attempts,
        "estimated_attempts": total.estimated_attempts,
        "unpriced_attempts": total.unpriced_attempts,
        "seconds": round(total.seconds, 6),
        "cpu_seconds": round(total.cpu_seconds, 6),
        "memory_gib_seconds": round(total.memory_gib_seconds, 6),
        "billed": [
            {
                "cluster": cluster,
                "unit": unit,
                "amount": round(one.amount, 6),
                "unpriced_amount": round(one.unpriced, 6),
                "cost": _amount(one.cost) if is_priced else None,
            }
            for (cluster, unit), one in sorted(total.billed.items())
        ],
        "measured_cost": _amount(total.measured) if is_priced else None,
        "estimated_cost": _amount(total.estimated) if is_priced else None,
    }


def _amount(value: Decimal) -> str:
    return f"{value.quantize(_SMALLEST):f}"
